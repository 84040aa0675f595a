"""OTLP/HTTP: what is accepted, what is refused and how, and that a refusal costs nobody else anything."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from auditspan.collectors.admission import AdmissionLimits
from auditspan.collectors.disk import DiskWatermark
from collector_requests import a_request, span_names
from google.protobuf.json_format import MessageToJson
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from waiting import until

from auditspan.journal import EntryKind, JournalFull, JournalUnavailable
from auditspan.otlp.split import SplitLimits, partition_of

JSON_REQUEST = json.dumps(
    {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "5b8efff798038103d269b633813fc60c",
                                "spanId": "eee19b7ec3c1b174",
                                "name": "json span",
                                "kind": 2,
                                "startTimeUnixNano": "1795500000000000000",
                            }
                        ]
                    }
                ]
            }
        ]
    }
).encode()


def status(answer) -> Status:
    assert answer.headers["content-type"] == "application/x-protobuf"
    return Status.FromString(answer.body)


def kept(collector) -> list[bytes]:
    return [entry.body for entry in collector.entries() if entry.kind is EntryKind.UNDECODABLE]


def accepted(collector) -> list[bytes]:
    return [entry.body for entry in collector.entries() if entry.kind is EntryKind.OTLP]


# Accepted.


def test_protobuf_is_journaled_as_received_and_answered_in_protobuf(collector):
    body = a_request(3)
    answer = collector.post(body)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "application/x-protobuf"
    [entry] = collector.entries()
    assert (entry.body, entry.encoding) == (body, "otlp_proto")
    assert entry.arrival_time > 1_700_000_000_000_000_000


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_transcoded_with_the_digest_of_the_original_and_answered_in_json(collector, content_type):
    answer = collector.post(JSON_REQUEST, content_type)
    assert (answer.status, answer.json) == (200, {})
    assert answer.headers["content-type"] == "application/json"
    [entry] = collector.entries()
    assert entry.encoding == f"otlp_json sha256:{hashlib.sha256(JSON_REQUEST).hexdigest()}"
    parsed = ExportTraceServiceRequest.FromString(entry.body)
    assert parsed.SerializeToString(deterministic=True) == entry.body
    assert span_names(entry.body) == ["json span"]


COMPRESSIONS = {
    "gzip": gzip.compress,
    "gzip in two members": lambda body: gzip.compress(body[:100]) + gzip.compress(body[100:]),
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd without its size": zstandard.ZstdCompressor(write_content_size=False).compress,
    "zstd in two frames": lambda body: (
        zstandard.ZstdCompressor().compress(body[:100]) + zstandard.ZstdCompressor().compress(body[100:])
    ),
    "identity": bytes,
}


@pytest.mark.parametrize("how", COMPRESSIONS)
@pytest.mark.parametrize("content_type", ["application/x-protobuf", "application/json"])
def test_content_encodings_are_undone(collector, how, content_type):
    body = JSON_REQUEST if "json" in content_type else a_request(400, padding=100)
    answer = collector.post(COMPRESSIONS[how](body), content_type, content_encoding=how.split()[0].upper())
    assert answer.status == 200
    [entry] = collector.entries()
    if "json" in content_type:
        assert hashlib.sha256(body).hexdigest() in entry.encoding
    else:
        assert entry.body == body


def test_a_request_without_spans_is_fine_and_leaves_no_entry(collector):
    assert collector.post(b"").status == 200
    assert collector.post(b"{}", "application/json").status == 200
    assert collector.entries() == []


def test_streams_meet_their_partitions(start):
    collector = start(partitions=4)
    sent = {stream: a_request(5, stream, name=stream) for stream in ("a", "b", "c", "d", "e")}
    assert collector.post(b"".join(sent.values())).status == 200
    assert collector.post(sent["c"]).status == 200
    found = {}
    for index, partition in enumerate(collector.journal.partitions):
        for entry in collector.entries(partition):
            for one in ExportTraceServiceRequest.FromString(entry.body).resource_spans:
                stream = one.resource.attributes[1].value.string_value
                assert partition_of(b"emitter", one.resource.SerializeToString(), 4) == index
                found.setdefault(stream, []).extend(span.name for span in one.scope_spans[0].spans)
    assert found == {stream: span_names(body) * (2 if stream == "c" else 1) for stream, body in sent.items()}


def test_large_requests_become_several_entries_acknowledged_together(start):
    collector = start(AdmissionLimits(split=SplitLimits(entry_spans=100)))
    body = a_request(250)
    assert collector.post(body).status == 200
    entries = collector.entries()
    assert [len(span_names(entry.body)) for entry in entries] == [100, 100, 50]
    assert [name for entry in entries for name in span_names(entry.body)] == span_names(body)
    assert len({entry.arrival_time for entry in entries}) == 1


def strange_content() -> dict[str, bytes]:
    """Requests whose framing is sound: what is wrong inside is for the decoder to judge, never for us to lose."""

    def made(change) -> bytes:
        request = ExportTraceServiceRequest.FromString(a_request())
        change(request.resource_spans[0].scope_spans[0].spans[0])
        return request.SerializeToString()

    def field(tag: int, content: bytes) -> bytes:
        length = len(content)
        prefix = bytearray([tag])
        while length > 0x7F:
            prefix.append(length & 0x7F | 0x80)
            length >>= 7
        return bytes([*prefix, length]) + content

    def request_of(span: bytes, before: bytes = b"") -> bytes:
        return field(0x0A, before + field(0x12, field(0x12, span)))

    value = field(0x0A, b"innermost")
    for _ in range(200):
        value = field(0x2A, field(0x0A, value))
    resource = field(0x0A, field(0x0A, field(0x0A, b"k") + field(0x12, field(0x0A, b"v"))))
    return {
        "10,000 attributes": made(
            lambda span: [span.attributes.add(key=f"k{n}").value.SetInParent() for n in range(10_000)]
        ),
        "an attribute of 1 MB": made(
            lambda span: span.attributes.add(key="k").value.MergeFromString(field(0x0A, b"x" * 1_000_000))
        ),
        "an attribute key twice": made(lambda span: [span.attributes.add(key="k") for _ in range(2)]),
        "nesting of 200 levels": request_of(field(0x4A, field(0x0A, b"deep") + field(0x12, value))),
        "invalid UTF-8": request_of(field(0x2A, b"\xff\xfe\xc3\x28")),
        "NUL bytes": made(lambda span: span.MergeFromString(field(0x2A, b"a\0b"))),
        "an id of the wrong length": made(lambda span: span.MergeFromString(field(0x0A, b"short"))),
        "times in 1970 and 2200": made(
            lambda span: span.MergeFrom(type(span)(start_time_unix_nano=1, end_time_unix_nano=7_258_118_400 * 10**9))
        ),
        "a span that is no protobuf": request_of(b"\xff\xff\xff\xff"),
        "a repeated resource": request_of(b"", resource + resource),
    }


@pytest.mark.parametrize("what", strange_content())
def test_strange_content_is_acknowledged_and_journaled_byte_for_byte(collector, what):
    body = strange_content()[what]
    before, after = a_request(name="before"), a_request(name="after")
    assert [collector.post(one).status for one in (before, body, after)] == [200, 200, 200]
    assert accepted(collector) == [before, body, after]


def test_nesting_of_200_levels_in_json_is_transcoded(collector):
    value: dict = {"stringValue": "innermost"}
    for _ in range(200):
        value = {"kvlistValue": {"values": [{"key": "k", "value": value}]}}
    span = {"name": "deep", "attributes": [{"key": "k", "value": value}]}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    assert collector.post(body, "application/json").status == 200
    [entry] = collector.entries()
    assert b"innermost" in entry.body


# Refused for good.


MALFORMED = {
    "cut off": (a_request(3)[:-1], "application/x-protobuf", "identity"),
    "no protobuf": (b"\x0a\xff\xff\xff\xff\x07abc", "application/x-protobuf", "identity"),
    "json as protobuf": (JSON_REQUEST, "application/x-protobuf", "identity"),
    "no json": (b"{", "application/json", "identity"),
    "protobuf as json": (a_request(), "application/json", "identity"),
    "a key twice": (b'{"resourceSpans":[],"resourceSpans":[]}', "application/json", "identity"),
    "an odd id": (JSON_REQUEST.replace(b"5b8e", b"xyz"), "application/json", "identity"),
    "json nested without end": (b'{"a":' * 100_000, "application/json", "identity"),
    "no gzip": (a_request(), "application/x-protobuf", "gzip"),
    "gzip cut off": (gzip.compress(a_request(9))[:-9], "application/x-protobuf", "gzip"),
    "gzip damaged": (gzip.compress(a_request(9))[:-8] + b"damaged!", "application/x-protobuf", "gzip"),
    "gzip with a tail": (gzip.compress(a_request(9)) + b"tail", "application/x-protobuf", "gzip"),
    "no zstd": (a_request(), "application/json", "zstd"),
    "zstd cut off": (zstandard.compress(a_request(9))[:-3], "application/x-protobuf", "zstd"),
    "zstd without a byte": (b"", "application/x-protobuf", "zstd"),
    "zstd with a window of 128 MiB": (b"\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00", "application/x-protobuf", "zstd"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_requests_are_400_and_their_bytes_kept(collector, what):
    body, content_type, encoding = MALFORMED[what]
    answer = collector.post(body, content_type, content_encoding=encoding)
    assert answer.status == 400
    assert "retry-after" not in answer.headers
    if content_type == "application/json":
        assert answer.json["code"] == 3
        assert answer.json["message"]
    else:
        assert status(answer).code == 3
        assert status(answer).message
    assert kept(collector) == ([body] if body else [])
    assert all(
        (entry.emitter, entry.authentication, entry.encoding) == ("emitter", "bearer", "raw")
        for entry in collector.entries()
    )
    assert collector.metric("auditspan_refused_requests_total", reason="malformed") == 1
    assert collector.post(a_request()).status == 200


def test_malformed_bytes_of_nobody_are_not_kept(start):
    collector = start(AdmissionLimits(allow_anonymous_loopback=True))
    assert collector.post(b"\xff", authorization="").status == 400
    assert collector.post(b"\xff", authorization="Bearer wrong").status == 401
    assert collector.entries() == []


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        (None, "identity"),
        ("text/plain", "identity"),
        ("application/protobuf2", "identity"),
        ("application/x-protobuf", "br"),
        ("application/json", "compress"),
        ("application/x-protobuf", "gzip, gzip"),
    ],
)
def test_unknown_types_and_encodings_are_415_and_say_what_is_known(collector, content_type, encoding):
    answer = collector.post(a_request(), content_type, content_encoding=encoding)
    assert answer.status == 415
    message = status(answer).message if content_type == "application/x-protobuf" else answer.json["message"]
    assert "application/x-protobuf" in message or "gzip, deflate, zstd" in message
    assert collector.entries() == []


def test_other_paths_and_methods_do_not_exist(collector):
    assert collector.get("/v1/traces").status == 405
    assert collector.request("POST", "/v1/logs", b"", collector.headers).status == 404


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic dXNlcjpwYXNz", "ast_only", "Bearer x y"]
)
def test_without_a_valid_token_nothing_is_read_or_kept(collector, authorization):
    answer = collector.post(a_request(), authorization=authorization)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert status(answer).code == 16
    assert collector.entries() == []


def test_the_scheme_of_the_credential_is_case_insensitive(collector):
    assert collector.post(a_request(), authorization=f"bearer {collector.token}").status == 200


def test_a_large_upload_still_sees_why_it_was_refused(collector):
    assert collector.post(bytes(8_000_000), authorization="Bearer wrong").status == 401


def test_neither_tokens_nor_payloads_are_logged(collector, caplog):
    caplog.set_level(logging.DEBUG)
    collector.post(b"payload-of-a-customer", content_encoding="gzip")
    collector.post(b'{"secret-of-a-customer": 1', "application/json")
    collector.post(a_request(), authorization="Bearer ast_wrong-token")
    collector.post(a_request())
    for secret in (collector.token, "ast_wrong-token", "of-a-customer"):
        assert secret not in caplog.text


def test_a_request_that_is_too_large_is_413_whether_it_says_so_or_not(start):
    collector = start(AdmissionLimits(max_request_bytes=10_000))
    assert collector.post(bytes(10_001)).status == 413
    chunks = iter([bytes(6_000), bytes(6_000)])
    answer = collector.request(
        "POST", "/v1/traces", chunks, {**collector.headers, "content-type": "application/x-protobuf"}
    )
    assert answer.status == 413
    assert status(answer).code == 8
    assert "10000" in status(answer).message
    assert collector.post(a_request()).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_dies_while_it_unfolds(start, encoding):
    collector = start(AdmissionLimits(max_decompressed_bytes=1_000_000))
    compress = gzip.compress if encoding == "gzip" else zstandard.compress
    bomb = compress(bytes(100_000_000))
    for content_type in ("application/x-protobuf", "application/json"):
        answer = collector.post(bomb, content_type, content_encoding=encoding)
        assert answer.status == 413
    assert collector.entries() == []
    assert collector.post(a_request()).status == 200


def test_a_request_of_countless_parts_is_413(start):
    collector = start(AdmissionLimits(max_parts=1000))
    assert collector.post(a_request(1001)).status == 413
    assert collector.post(a_request(990)).status == 200


# Partly accepted.


@pytest.mark.parametrize("content_type", ["application/x-protobuf", "application/json"])
def test_a_span_that_is_too_large_is_rejected_alone_and_its_bytes_kept(start, content_type):
    collector = start(AdmissionLimits(split=SplitLimits(span_bytes=5_000)))
    request = ExportTraceServiceRequest.FromString(a_request(3))
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[1].attributes.add(key="k").value.string_value = "x" * 6_000
    if content_type == "application/json":
        document = json.loads(MessageToJson(request, use_integers_for_enums=True))
        for span in document["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            span["traceId"], span["spanId"] = "ab" * 16, "cd" * 8
        answer = collector.post(json.dumps(document).encode(), content_type)
        partial = answer.json["partialSuccess"]
        assert partial["rejectedSpans"] == "1"
        message = partial["errorMessage"]
    else:
        answer = collector.post(request.SerializeToString())
        partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
        assert partial.rejected_spans == 1
        message = partial.error_message
    assert answer.status == 200
    assert "5000" in message
    assert [span_names(body) for body in accepted(collector)] == [["span 0", "span 2"]]
    assert [span_names(body) for body in kept(collector)] == [["span 1"]]
    assert collector.metric("auditspan_rejected_spans_total") == 1
    assert collector.metric("auditspan_acknowledged_spans_total") == 2


def test_a_rejected_span_larger_than_any_request_may_be_is_not_kept(start):
    collector = start(AdmissionLimits(max_request_bytes=5_000, split=SplitLimits(span_bytes=5_000)))
    answer = collector.post(gzip.compress(a_request(1, padding=20_000) + a_request(1)), content_encoding="gzip")
    assert answer.status == 200
    assert ExportTraceServiceResponse.FromString(answer.body).partial_success.rejected_spans == 1
    assert (len(kept(collector)), len(accepted(collector))) == (0, 1)


# Refused for now.


def assert_comes_again(answer, reason: str, collector) -> None:
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert status(answer).code == 14
    assert collector.metric("auditspan_refused_requests_total", reason=reason) >= 1


def test_nothing_is_acknowledged_before_it_is_durable(collector):
    collector.journal.hold()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(collector.post, a_request())
        assert collector.journal.appended.acquire(timeout=30)
        assert not answer.done()
        assert collector.entries() == []
        assert collector.metric("auditspan_acknowledged_spans_total") == 0
        collector.journal.release()
        assert answer.result(30).status == 200
    assert len(collector.entries()) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [(JournalFull("full"), "journal_full"), (JournalUnavailable("unavailable"), "journal_unavailable")],
)
def test_trouble_of_the_journal_is_503_for_good_and_bad_requests(collector, error, reason):
    collector.journal.refuse_with = error
    assert_comes_again(collector.post(a_request()), reason, collector)
    assert_comes_again(collector.post(b"\xff"), reason, collector)  # its bytes could not be kept: it must come again
    answer = collector.post(JSON_REQUEST, "application/json")
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, 14, "1")
    collector.journal.refuse_with = None
    assert collector.post(a_request()).status == 200
    assert collector.post(b"\xff").status == 400


def test_a_journal_that_never_answers_is_503(start):
    collector = start(AdmissionLimits(journal_seconds=0.1))
    collector.journal.hold()
    assert_comes_again(collector.post(a_request()), "journal_unavailable", collector)
    collector.journal.release()
    until(lambda: collector.post(a_request()).status == 200, "the journal to answer")


def test_a_fault_of_ours_is_503_never_500(collector):
    collector.journal.refuse_with = RuntimeError("unforeseen")
    assert_comes_again(collector.post(a_request()), "internal", collector)


def test_tokens_that_cannot_be_checked_are_503_not_401(collector, tmp_path):
    (tmp_path / "tokens-0.json").write_text("damaged")
    assert_comes_again(collector.post(a_request()), "tokens_unavailable", collector)


def test_more_requests_than_places_come_again(start):
    collector = start(AdmissionLimits(max_concurrent_requests=3))
    collector.journal.hold()
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(collector.post, a_request()) for _ in range(3)]
        for _ in answers:
            assert collector.journal.appended.acquire(timeout=30)
        assert_comes_again(collector.post(a_request()), "busy", collector)
        collector.journal.release()
        assert [answer.result(30).status for answer in answers] == [200, 200, 200]
    assert collector.post(a_request()).status == 200
    assert len(collector.entries()) == 4


def test_bytes_in_progress_are_bounded_over_all_requests(start):
    collector = start(AdmissionLimits(max_held_bytes=100_000))
    assert collector.post(a_request(padding=150_000)).status == 200  # alone it may be larger
    collector.journal.hold()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(collector.post, a_request(padding=60_000))
        for _ in range(2):
            assert collector.journal.appended.acquire(timeout=30)
        assert_comes_again(collector.post(a_request(padding=60_000)), "busy", collector)
        bomb = gzip.compress(a_request(padding=60_000))
        assert_comes_again(collector.post(bomb, content_encoding="gzip"), "busy", collector)
        collector.journal.release()
        assert first.result(30).status == 200
    assert collector.post(a_request(padding=60_000)).status == 200


def test_a_sender_that_dawdles_or_goes_away_leaves_its_place(start):
    collector = start(AdmissionLimits(max_concurrent_requests=1, body_seconds=0.2))
    head = (
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
        f"authorization: Bearer {collector.token}\r\ncontent-length: 1000\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", collector.http_port), timeout=30) as slow:
        slow.sendall(head + b"half")
        slow.shutdown(socket.SHUT_WR)
    with socket.create_connection(("127.0.0.1", collector.http_port), timeout=30) as slow:
        slow.sendall(head + b"half")
        assert slow.recv(12) == b"HTTP/1.1 503"
    answer = collector.post(a_request())
    while answer.status == 503:
        answer = collector.post(a_request())
    assert answer.status == 200
    assert len(collector.entries()) == 1


class Disk:
    """A file system whose free space the test sets."""

    def __init__(self) -> None:
        self.free = 1000

    def __call__(self, _):
        class Answer:
            f_frsize, f_blocks, f_bavail = 1, 10_000, self.free

        return Answer


def test_the_watermark_refuses_before_the_disk_is_full(start, tmp_path):
    disk = Disk()
    collector = start(disk=DiskWatermark(tmp_path, 500, 0.02, interval=0, statvfs=disk))
    assert collector.post(a_request()).status == 200
    disk.free = 499
    assert_comes_again(collector.post(a_request()), "disk", collector)
    ready = collector.get("/readyz")
    assert ready.status == 503
    assert "499 bytes free, below the watermark of 500" in ready.json["reasons"][0]
    disk.free = 500
    assert collector.post(a_request()).status == 200
    assert collector.get("/readyz").status == 200


# Health and metrics.


def test_readiness_is_red_while_nothing_can_be_made_durable(collector):
    assert collector.get("/readyz").json == {"status": "ready", "reasons": []}
    collector.journal.refuse_with = JournalFull("The journal is full.")
    answers = [collector.get("/readyz")]
    while answers[-1].status == 200:  # an answer is kept for a second
        answers.append(collector.get("/readyz"))
    assert answers[-1].json["reasons"] == ["The journal is full."]
    assert collector.get("/livez").status == 200
    collector.journal.refuse_with = None
    while collector.get("/readyz").status == 503:
        pass


def test_readiness_includes_the_rest_of_the_pipeline(collector):
    collector.health.append("the processor stands still")
    answer = collector.get("/readyz")
    assert (answer.status, answer.json["reasons"]) == (503, ["the processor stands still"])
    collector.health.clear()
    assert collector.get("/readyz").status == 200


def test_a_probe_leaves_no_entry(collector):
    assert collector.get("/readyz").status == 200
    assert collector.journal.high_water_mark("events-0") == 0
    assert collector.journal.high_water_mark("control") == 0


def test_metrics_count_what_happened(collector):
    collector.post(a_request(7))
    collector.post(b"\xff")
    collector.post(a_request(), authorization="")
    text = collector.get("/metrics").body.decode()
    for line in (
        'auditspan_received_requests_total{transport="http"} 3.0',
        "auditspan_received_spans_total 7.0",
        "auditspan_journaled_spans_total 7.0",
        "auditspan_journaled_entries_total 2.0",
        "auditspan_acknowledged_spans_total 7.0",
        'auditspan_refused_requests_total{reason="malformed"} 1.0',
        'auditspan_refused_requests_total{reason="unauthenticated"} 1.0',
        "auditspan_collector_quarantined_total 1.0",
        "auditspan_requests_in_progress 0.0",
    ):
        assert line in text.splitlines()


def test_many_senders_at_once_lose_nothing(start):
    collector = start(AdmissionLimits(max_concurrent_requests=8), partitions=2)
    sent: list[bytes] = []
    guard = threading.Lock()

    def send(number: int) -> None:
        body = a_request(20, stream=f"stream-{number % 5}", name=f"r{number}")
        while collector.post(body).status == 503:
            pass
        with guard:
            sent.append(body)

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(send, range(150)))
    found = [entry.body for partition in collector.journal.partitions for entry in collector.entries(partition)]
    assert sorted(found) == sorted(sent)
