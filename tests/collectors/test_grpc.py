"""OTLP/gRPC: the answers that senders act on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from auditspan.collectors.admission import AdmissionLimits
from auditspan.collectors.disk import DiskWatermark
from auditspan.collectors.grpc import _peer
from collector_requests import a_request, span_names
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from auditspan.journal import EntryKind, JournalFull
from auditspan.otlp.split import SplitLimits

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Client:
    """Sends bytes as they are, as no generated client would."""

    def __init__(self, collector) -> None:
        options = [("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{collector.grpc_port}", options)
        self._call = self._channel.unary_unary(METHOD)
        self._token = collector.token

    def export(self, body: bytes, *, authorization: str | None = "", compression=None) -> ExportTraceServiceResponse:
        metadata = {"authorization": authorization or f"Bearer {self._token}"} if authorization is not None else {}
        answer = self._call(body, metadata=list(metadata.items()), compression=compression, timeout=30)
        return ExportTraceServiceResponse.FromString(answer)

    def refusal(self, body: bytes, **options) -> tuple[grpc.StatusCode, Status | None]:
        with pytest.raises(grpc.RpcError) as caught:
            self.export(body, **options)
        trailers = dict(caught.value.trailing_metadata() or ())
        details = trailers.get("grpc-status-details-bin")
        return caught.value.code(), Status.FromString(details) if details else None

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def connect():
    clients = []

    def made(collector) -> Client:
        clients.append(Client(collector))
        return clients[-1]

    yield made
    for client in clients:
        client.close()


def retry_seconds(status: Status) -> int:
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    return info.retry_delay.seconds


def test_a_request_is_journaled_as_received(collector, connect):
    body = a_request(3)
    assert not connect(collector).export(body).HasField("partial_success")
    [entry] = collector.entries()
    assert (entry.body, entry.encoding, entry.emitter) == (body, "otlp_proto", "emitter")
    assert collector.metric("auditspan_received_requests_total", transport="grpc") == 1


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic x"])
def test_without_a_token_it_is_unauthenticated(collector, connect, authorization):
    code, status = connect(collector).refusal(a_request(), authorization=authorization)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert not status.details
    assert collector.entries() == []


def test_nothing_is_read_before_the_sender_is_known(collector):
    """The answer comes while the request is still held back."""
    held = threading.Event()

    def never():
        held.wait(30)
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{collector.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(METHOD)(never(), timeout=20)
        held.set()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_sender_that_dawdles_or_sends_nothing_leaves_its_place(start, connect):
    collector = start(AdmissionLimits(max_concurrent_requests=1, body_seconds=2.0))
    held = threading.Event()

    def never():
        held.wait(30)
        yield from ()

    metadata = [("authorization", f"Bearer {collector.token}")]
    with grpc.insecure_channel(f"127.0.0.1:{collector.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(METHOD)(never(), metadata=metadata, timeout=20)
        held.set()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(METHOD)(iter(()), metadata=metadata, timeout=20)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    connect(collector).export(a_request())
    assert len(collector.entries()) == 1


def test_malformed_bytes_are_an_invalid_argument_and_kept(collector, connect):
    client = connect(collector)
    code, status = client.refusal(a_request()[:-1])
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be accepted" in status.message
    client.export(a_request())
    assert [entry.kind for entry in collector.entries()] == [EntryKind.UNDECODABLE, EntryKind.OTLP]


def test_trouble_of_the_journal_is_unavailable_with_a_time_to_come_again(collector, connect):
    client = connect(collector)
    collector.journal.refuse_with = JournalFull("full")
    code, status = client.refusal(a_request())
    assert code is grpc.StatusCode.UNAVAILABLE
    assert retry_seconds(status) == 1
    collector.journal.refuse_with = None
    client.export(a_request())
    assert len(collector.entries()) == 1


def test_a_full_disk_and_too_many_requests_are_unavailable(start, connect, tmp_path):
    full = start(disk=DiskWatermark(tmp_path, 1 << 62, 0.0))
    code, status = connect(full).refusal(a_request())
    assert (code, retry_seconds(status)) == (grpc.StatusCode.UNAVAILABLE, 1)
    busy = start(AdmissionLimits(max_concurrent_requests=1))
    busy.journal.hold()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(connect(busy).export, a_request())
        assert busy.journal.appended.acquire(timeout=30)
        # Another transport, as gRPC itself lets one channel have so many calls only.
        assert busy.post(a_request()).status == 503
        busy.journal.release()
        first.result(30)


def test_a_fault_of_ours_is_unavailable_never_unknown(collector, connect):
    collector.journal.refuse_with = RuntimeError("unforeseen")
    assert connect(collector).refusal(a_request())[0] is grpc.StatusCode.UNAVAILABLE


def test_a_span_that_is_too_large_is_rejected_alone(start, connect):
    collector = start(AdmissionLimits(split=SplitLimits(span_bytes=5_000)))
    answer = connect(collector).export(a_request(2) + a_request(1, padding=6_000, name="large"))
    assert answer.partial_success.rejected_spans == 1
    assert "5000" in answer.partial_success.error_message
    assert [(entry.kind, span_names(entry.body)) for entry in collector.entries()] == [
        (EntryKind.OTLP, ["span 0", "span 1"]),
        (EntryKind.UNDECODABLE, ["large 0"]),
    ]


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_what_is_too_large_is_refused_for_good_compressed_or_not(start, connect, compression):
    collector = start(AdmissionLimits(max_decompressed_bytes=1_000_000))
    client = connect(collector)
    code, status = client.refusal(bytes(50_000_000), compression=compression)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status is None or not status.details  # no RetryInfo: the official exporter does not send it again
    client.export(a_request(), compression=compression)
    assert len(collector.entries()) == 1


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1"),
        ("ipv6:%5B::1%5D:4711", "::1"),
        ("ipv6:[::1]:4711", "::1"),
        ("unix:/tmp/x", None),
    ],
)
def test_the_address_of_a_peer(peer, address):
    assert _peer(peer) == address
