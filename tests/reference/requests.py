"""Requests for vectors and random journals: ordinary ones with opentelemetry-proto, strange ones byte by byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SCOPE = InstrumentationScope(name="vectors", version="1").SerializeToString()


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited(number: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def any_value(value: Any) -> AnyValue:
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, list):
        made = AnyValue()
        made.array_value.values.extend(any_value(item) for item in value)
        return made
    return AnyValue(string_value=value)


def attributes(pairs: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> list[KeyValue]:
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return [KeyValue(key=key, value=any_value(value)) for key, value in items]


def resource(pairs: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> bytes:
    return Resource(attributes=attributes(pairs)).SerializeToString()


def span(
    number: int,
    pairs: Mapping[str, Any] | Iterable[tuple[str, Any]],
    *,
    start: int = 0,
    end: int = 0,
    trace_id: bytes | None = None,
    span_id: bytes | None = None,
    name: str = "span",
) -> bytes:
    """A ``Span`` message; its ids come from ``number`` unless given."""
    return Span(
        trace_id=number.to_bytes(16, "big") if trace_id is None else trace_id,
        span_id=number.to_bytes(8, "big") if span_id is None else span_id,
        name=name,
        start_time_unix_nano=start,
        end_time_unix_nano=end,
        attributes=attributes(pairs),
    ).SerializeToString()


def request(resource_bytes: bytes, spans: Iterable[bytes], scope: bytes = SCOPE) -> bytes:
    """An ``ExportTraceServiceRequest`` of one resource and one scope."""
    scope_spans = delimited(1, scope) + b"".join(delimited(2, one) for one in spans)
    return delimited(1, delimited(1, resource_bytes) + delimited(2, scope_spans))
