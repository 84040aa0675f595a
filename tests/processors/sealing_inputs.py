"""OTLP requests, journal entries and a context for the processors' tests."""

from __future__ import annotations

from auditspan.processors.batch import Epoch, LogContext, Opening
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from auditspan.journal.contract import Entry, EntryKind, NewEntry

LOG_ID = "00112233445566778899aabbccddeeff"
NOW = 1_795_500_000_000_000_000
SECOND = 10**9
SALT_KEY = b"k" * 32
PARTITION = "events-0"


def attributes(values: dict[str, object]) -> list[KeyValue]:
    made = []
    for key, value in values.items():
        pair = KeyValue(key=key)
        if isinstance(value, bool):
            pair.value.bool_value = value
        elif isinstance(value, int):
            pair.value.int_value = value
        else:
            pair.value.string_value = str(value)
        made.append(pair)
    return made


def span_id(number: int) -> bytes:
    return (number + 1).to_bytes(8, "big")


def request(
    *spans: dict[str, object],
    stream: str | None = "stream-1",
    resource: dict[str, object] | None = None,
) -> bytes:
    """An OTLP request. A span is a dictionary of attributes; keys with ``_`` in front are fields of the span.

    Ids follow from the sequence where there is one, so that a record sent again is the same bytes.
    """
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    told = {"service.name": "endpoint"} | ({"audit.source.id": stream} if stream else {}) | (resource or {})
    group.resource.attributes.extend(attributes(told))
    scope = group.scope_spans.add()
    scope.scope.name = "auditspan"
    for place, span in enumerate(spans):
        sequence = span.get("audit.sequence.number")
        number = sequence if isinstance(sequence, int) and sequence >= 0 else place
        one = scope.spans.add()
        one.trace_id = span.get("_trace_id", (number + 1).to_bytes(16, "big"))
        one.span_id = span.get("_span_id", span_id(number))
        one.name = span.get("_name", "chat")
        one.start_time_unix_nano = span.get("_start", NOW)
        one.end_time_unix_nano = span.get("_end", NOW)
        one.attributes.extend(attributes({k: v for k, v in span.items() if not k.startswith("_")}))
        one.attributes.extend(span.get("_more", []))
    return made.SerializeToString()


def access(sequence: int | None = None, **more: object) -> dict[str, object]:
    """A ``model.access`` span, numbered in its stream or not."""
    numbered = {} if sequence is None else {"audit.sequence.number": sequence}
    return {"audit.event.class": "model.access", "audit.record.id": f"record-{sequence}"} | numbered | more


def entry(
    offset: int,
    body: bytes,
    *,
    arrival: int = NOW,
    kind: EntryKind = EntryKind.OTLP,
    emitter: str = "gateway",
    encoding: str = "otlp_proto",
) -> Entry:
    return Entry(PARTITION, offset, kind, emitter, "bearer", arrival, encoding, body)


def new(entry_: Entry) -> tuple[str, NewEntry]:
    """The same entry, to append."""
    e = entry_
    return e.partition, NewEntry(e.kind, e.emitter, e.authentication, e.arrival_time, e.encoding, e.body)


def beat(offset: int, arrival: int) -> Entry:
    return entry(offset, b"{}", arrival=arrival, kind=EntryKind.HEARTBEAT, emitter="auditspan", encoding="jcs")


CONTEXT = LogContext(
    opening=Opening("plant", "sqlite:test", PARTITION, LOG_ID, NOW - SECOND),
    salt_key=SALT_KEY,
    epoch=Epoch(1, "ab" * 32),
    software="auditspan test",
)
