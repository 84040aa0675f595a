"""Any stock OTLP client delivers into `auditspan up`, and what is stored is what it sent, byte for byte."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
import requests
import zstandard
from final_checks import prove, settle, stored_once
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from reference.requests import delimited, resource, varint
from reference.wire import SpanBytes
from running_service import Service
from sent_spans import an_access, foreign_request, payload_of, payloads_in, request_of
from waiting import until

GRPC_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@pytest.fixture(scope="module")
def service(module_service: Callable[..., Service]) -> Service:
    made = module_service(processor__checkpoint_seconds=0.1)
    made.start()
    return made


@pytest.fixture(scope="module")
def sent() -> dict[str, list[bytes]]:
    """What every emitter sent."""
    return {}


def _stored(service: Service, emitter: str, payloads: list[bytes]) -> list[dict[str, Any]]:
    """The rows of an emitter as soon as there are enough, which must be those of ``payloads``."""

    def rows() -> list[dict[str, Any]] | None:
        found = service.rows(
            "SELECT payload, header, class, span_name, trace_id, span_id FROM auditspan.events "
            "WHERE emitter = {e:String}",
            {"e": emitter},
        )
        return found if len(found) >= len(payloads) else None

    found: list[dict[str, Any]] = until(rows, f"the spans of {emitter}")
    assert sorted(row["payload"] for row in found) == sorted(payloads)
    return found


class _Recorded(requests.Session):
    """The session of the official HTTP exporter, which keeps the bodies that it puts on the wire."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        assert isinstance(request.body, bytes)
        undo = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}
        self.bodies.append(undo[request.headers.get("Content-Encoding")](request.body))
        return super().send(request, **options)


class _Encoded(SpanExporter):
    """Keeps what the official exporters' own encoder makes of what passes through to one of them."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.bodies: list[bytes] = []
        self.results: list[SpanExportResult] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.bodies.append(encode_spans(spans).SerializeToString())
        self.results.append(self._inner.export(spans))
        return self.results[-1]

    def shutdown(self) -> None:
        self._inner.shutdown()


def _work(provider: TracerProvider, rounds: int) -> None:
    """What applications do with the SDK: nested spans, events, links, every type of attribute, two tracers."""
    outer, inner = provider.get_tracer("app", "1.2"), provider.get_tracer("library")
    before: Span | None = None
    for number in range(rounds):
        with outer.start_as_current_span("handle", kind=SpanKind.SERVER) as span:
            span.set_attributes({"number": number, "ratio": 0.5, "ok": True, "names": ["ä", "b"], "text": "x" * 300})
            span.add_event("queued", {"depth": number})
            links = [] if before is None else [Link(before.get_span_context())]
            with inner.start_as_current_span("ask", kind=SpanKind.CLIENT, links=links) as child:
                child.set_status(Status(StatusCode.ERROR, "no answer"))
                child.record_exception(ValueError("a \x00 strange one"))
            before = child


@pytest.mark.parametrize("kind", ["http", "http+gzip", "http+deflate", "grpc", "grpc+gzip"])
def test_the_official_exporters_deliver_every_span_once_as_it_was_sent(
    service: Service, sent: dict[str, list[bytes]], kind: str
) -> None:
    emitter = f"official-{kind.replace('+', '-')}"
    headers = {"authorization": f"Bearer {service.token(emitter)}"}
    transport, _, zipped = kind.partition("+")
    session = _Recorded()
    exporter: SpanExporter
    if transport == "http":
        compression = Compression(zipped or "none")
        exporter = HttpExporter(
            f"{service.otlp_http}/v1/traces", headers=headers, compression=compression, session=session
        )
    else:
        compressed = grpc.Compression.Gzip if zipped else grpc.Compression.NoCompression
        exporter = GrpcExporter(service.otlp_grpc, insecure=True, headers=headers, compression=compressed)
    encoded = _Encoded(exporter)
    provider = TracerProvider(resource=Resource.create({"service.name": emitter, "list": ["a", "b"]}))
    provider.add_span_processor(BatchSpanProcessor(encoded, max_export_batch_size=64))
    _work(provider, 100)
    provider.shutdown()
    assert set(encoded.results) == {SpanExportResult.SUCCESS}
    payloads = [payload for body in encoded.bodies for payload in payloads_in(body)]
    assert len(payloads) == 200
    if transport == "http":
        assert session.bodies == encoded.bodies
    _stored(service, emitter, payloads)
    sent[emitter] = payloads


def _strange_but_allowed() -> bytes:
    """A request in a form that no library writes: fields out of order, unknown ones, lengths longer than needed."""
    span = delimited(99, b"not known") + an_access({"n": 1}) + varint(98 << 3) + varint(7)
    scope = delimited(1, b"late")
    scope_spans = delimited(2, span) + delimited(1, scope) + delimited(2, an_access())
    of_resource = resource({"service.name": "strange"})
    long_length = bytes([len(of_resource) & 127 | 128, len(of_resource) >> 7 | 128, 0])
    return delimited(77, b"?") + delimited(1, delimited(2, scope_spans) + b"\x0a" + long_length + of_resource)


BODIES: dict[str, Callable[[], bytes]] = {
    "one": lambda: foreign_request(1).body,
    "many": lambda: foreign_request(1000).body,
    "strange": _strange_but_allowed,
    "empty": lambda: b"",
    "no resource": lambda: delimited(1, delimited(2, delimited(2, an_access()))),
    "a": lambda: foreign_request(3).body + foreign_request(2).body,
}
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_raw_protobuf_is_stored_as_it_was_posted(service: Service, sent: dict[str, list[bytes]], encoding: str) -> None:
    emitter = f"raw-{encoding}"
    token = service.token(emitter)
    payloads = []
    for make in BODIES.values():
        body = make()
        answer = service.post(ENCODINGS[encoding](body), token, content_encoding=encoding)
        assert (answer.status, answer.body) == (200, b"")
        payloads += payloads_in(body)
    assert len(payloads) == 1009
    _stored(service, emitter, payloads)
    sent[emitter] = payloads


def _json_of(message: ExportTraceServiceRequest) -> bytes:
    """OTLP/JSON: as proto3 JSON, but ids in hexadecimal and enums as numbers."""

    def fix(node: Any) -> Any:
        if isinstance(node, list):
            return [fix(item) for item in node]
        if not isinstance(node, dict):
            return node
        return {
            name: base64.b64decode(value).hex() if name in {"traceId", "spanId", "parentSpanId"} else fix(value)
            for name, value in node.items()
        }

    return json.dumps(fix(MessageToDict(message, use_integers_for_enums=True))).encode()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_is_stored_as_the_protobuf_that_it_says(
    service: Service, sent: dict[str, list[bytes]], encoding: str
) -> None:
    emitter = f"json-{encoding}"
    token = service.token(emitter)
    message = ExportTraceServiceRequest.FromString(foreign_request(50).body)
    posted = _json_of(message)
    answer = service.post(ENCODINGS[encoding](posted), token, "application/json", content_encoding=encoding)
    assert (answer.status, json.loads(answer.body)) == (200, {})
    payloads = payloads_in(message.SerializeToString())
    rows = _stored(service, emitter, payloads)
    sent[emitter] = payloads
    digest = hashlib.sha256(posted).hexdigest()
    assert {json.loads(row["header"])["encoding"] for row in rows} == {f"otlp_json sha256:{digest}"}


@pytest.fixture
def channel(service: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(service.otlp_grpc) as opened:
        yield opened


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_raw_grpc_is_stored_as_it_was_called(
    service: Service, sent: dict[str, list[bytes]], channel: grpc.Channel, compression: Any
) -> None:
    emitter = f"raw-grpc-{compression.name}"
    metadata = [("authorization", f"Bearer {service.token(emitter)}")]
    call = channel.unary_unary(GRPC_METHOD)
    payloads = []
    for make in BODIES.values():
        body = make()
        assert call(body, metadata=metadata, compression=compression, timeout=30) == b""
        payloads += payloads_in(body)
    _stored(service, emitter, payloads)
    sent[emitter] = payloads


def test_the_same_requests_again_on_one_connection_are_stored_once(
    service: Service, sent: dict[str, list[bytes]]
) -> None:
    emitter = "again"
    headers = {
        "authorization": f"Bearer {service.token(emitter)}",
        "content-type": "application/x-protobuf",
    }
    requests_sent = [foreign_request(7) for _ in range(20)]
    with requests.Session() as session:
        for sending in [*requests_sent, *requests_sent]:
            answer = session.post(f"{service.otlp_http}/v1/traces", sending.body, headers=headers, timeout=30)
            assert answer.status_code == 200
    sent[emitter] = [payload for sending in requests_sent for payload in sending.payloads]


def test_payloads_are_what_the_format_says(service: Service) -> None:
    """The helpers of these tests against bytes written by hand."""
    trace, span_id = os.urandom(16), os.urandom(8)
    span = delimited(1, trace) + delimited(2, span_id) + delimited(5, b"by hand")
    made = request_of(b"", [span], scope=b"")
    expected = b"\0\0\0\0" + b"\0\0\0\0" + len(span).to_bytes(4, "big") + span
    assert made.payloads == (expected,) == (payload_of(SpanBytes(b"", b"", span, True)),)
    assert service.post(made.body, service.token("by-hand")).status == 200
    (row,) = _stored(service, "by-hand", [expected])
    assert (row["payload"], row["span_name"], row["class"]) == (expected, "by hand", "other")
    assert (row["trace_id"], row["span_id"]) == (trace.hex(), span_id.hex())


def test_after_all_of_it_every_span_is_stored_once(service: Service, sent: dict[str, list[bytes]]) -> None:
    settle(service)
    logs = prove(service)
    assert sent
    for emitter, payloads in sent.items():
        stored_once(logs, emitter, payloads)
