"""Audit records as the hooks send them, made fast enough to measure what comes after.

Two shapes: ``LARGE`` has 23 span attributes and 13 resource attributes (about 1 kB on the wire), ``SMALL`` 14 span
attributes (about 570 B). What differs from record to record (ids, times, sequence) differs here too.
"""

from __future__ import annotations

import random
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from auditspan import semconv
from auditspan.journal import EntryKind, NewEntry

SPANS_A_MESSAGE = 100
START = 1_795_500_000_000_000_000
_COUNTRIES = ("US", "DE", "SG", "CN", "AE", "JP", "FR", "MO", "GB", "VN")


@dataclass(frozen=True)
class Shape:
    """How many of the attributes below a record carries."""

    name: str
    span_attributes: int
    resource_attributes: int
    padding: int


LARGE = Shape("1 kB, 23 span and 13 resource attributes", 23, 13, 8)
SMALL = Shape("570 B, 14 span attributes", 14, 3, 0)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(tag: int, data: bytes) -> bytes:
    return _varint(tag << 3 | 2) + _varint(len(data)) + data


def _attribute(key: str, value: str | int | bool) -> bytes:
    any_value = (
        AnyValue(bool_value=value)
        if isinstance(value, bool)
        else AnyValue(int_value=value)
        if isinstance(value, int)
        else AnyValue(string_value=value)
    )
    return KeyValue(key=key, value=any_value).SerializeToString()


def _span_attributes(shape: Shape, choose: random.Random) -> list[bytes]:
    fixed: list[tuple[str, str | int | bool]] = [
        (semconv.AUDIT_EVENT_CLASS, semconv.EventClass.MODEL_ACCESS),
        (semconv.AUDIT_ACTION, "chat"),
        (semconv.AUDIT_OUTCOME, "success"),
        (semconv.AUDIT_ACTOR_ID, f"sha256:{choose.randrange(500):032x}"),
        (semconv.AUDIT_ACTOR_TYPE, "credential"),
        (semconv.AUDIT_TARGET_ID, f"frontier-{choose.randrange(4)}"),
        (semconv.AUDIT_TARGET_TYPE, "model"),
        (semconv.CLIENT_ADDRESS, f"203.0.113.{choose.randrange(256)}"),
        (semconv.GEN_AI_REQUEST_MODEL, "frontier-large"),
        (semconv.GEN_AI_USAGE_OUTPUT_TOKENS, choose.randrange(2000)),
        (semconv.DESTINATION_COUNTRY, choose.choice(_COUNTRIES)),
        (semconv.HTTP_RESPONSE_STATUS_CODE, 200),
        (semconv.GEN_AI_RESPONSE_MODEL, "frontier-large-2026-10"),
        (semconv.GEN_AI_USAGE_INPUT_TOKENS, choose.randrange(4000)),
        (semconv.GEN_AI_OPERATION_NAME, "chat"),
        (semconv.GEN_AI_PROVIDER_NAME, "example"),
        (semconv.HTTP_REQUEST_METHOD, "POST"),
        (semconv.HTTP_ROUTE, "/v1/chat/completions"),
        (semconv.STREAMING, True),
        (semconv.RESPONSE_BODY_SIZE, choose.randrange(60_000)),
        (semconv.CLOUD_REGION, "eu-central-1"),
    ]
    # Two more vary for every record: record id and sequence.
    return [_attribute(key, value) for key, value in fixed[: shape.span_attributes - 2]]


def resource_bytes(shape: Shape, stream: str) -> bytes:
    """A `Resource` message with the stream id and what detectors add."""
    pairs = [
        ("service.name", "inference"),
        ("audit.source.id", stream),
        ("audit.schema.version", semconv.SCHEMA_VERSION),
        ("service.version", "2026.10.3"),
        ("service.instance.id", str(uuid.UUID(int=7))),
        ("telemetry.sdk.language", "python"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.version", "1.45.2"),
        ("host.name", "gpu-node-0042.example"),
        ("host.arch", "amd64"),
        ("os.type", "linux"),
        ("k8s.pod.name", "inference-7c9d8f6b5-x2x4z"),
        ("k8s.namespace.name", "serving"),
    ][: shape.resource_attributes]
    return Resource(
        attributes=[KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in pairs]
    ).SerializeToString()


def requests(
    count: int, shape: Shape = LARGE, *, seed: int = 1, streams: int = 8, spans_a_message: int = SPANS_A_MESSAGE
) -> Iterator[tuple[bytes, int]]:
    """``ExportTraceServiceRequest`` bodies and the time of their last span, ``count`` spans in all.

    Message i is of stream i modulo ``streams``.
    """
    choose = random.Random(seed)
    variants = [b"".join(_field(9, attribute) for attribute in _span_attributes(shape, choose)) for _ in range(2000)]
    scope = _field(1, InstrumentationScope(name="auditspan", version="0.1.0").SerializeToString())
    names = [f"{choose.getrandbits(128):032x}" for _ in range(streams)]
    resources = [_field(1, resource_bytes(shape, name)) for name in names]
    sequences = [0] * streams
    now = START
    record_prefix = semconv.AUDIT_RECORD_ID.encode()
    sequence_prefix = _field(1, semconv.AUDIT_SEQUENCE_NUMBER.encode())
    for message in range(count // spans_a_message):
        stream = message % streams
        ids = choose.randbytes(24 * spans_a_message)
        spans = []
        for index in range(spans_a_message):
            now += 20_000
            trace_id, span_id = ids[24 * index : 24 * index + 16], ids[24 * index + 16 : 24 * index + 24]
            sequence = sequences[stream] + index
            hexadecimal = trace_id.hex()
            record = (
                f"{hexadecimal[:8]}-{hexadecimal[8:12]}-{hexadecimal[12:16]}-{hexadecimal[16:20]}-{hexadecimal[20:]}"
            )
            spans.append(
                _field(
                    2,
                    b"\x0a\x10"
                    + trace_id
                    + b"\x12\x08"
                    + span_id
                    + b"\x2a\x0bchat stream\x30\x03"
                    + b"\x39"
                    + struct.pack("<Q", now - 5_000_000)
                    + b"\x41"
                    + struct.pack("<Q", now)
                    + variants[choose.randrange(2000)]
                    + _field(9, _field(1, record_prefix) + _field(2, _field(1, record.encode())))
                    + _field(9, sequence_prefix + _field(2, b"\x18" + _varint(sequence))),
                )
            )
        sequences[stream] += spans_a_message
        yield _field(1, resources[stream] + _field(2, scope + b"".join(spans))), now


def entries(count: int, shape: Shape = LARGE, **options: int) -> Iterator[NewEntry]:
    """The same as journal entries."""
    for body, now in requests(count, shape, **options):
        yield NewEntry(EntryKind.OTLP, "inference-1", "bearer", now + 1_000_000, "otlp_proto", body)
