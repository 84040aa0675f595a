"""OTLP on the wire as section 5 of the evidence format reads it, with the standard protobuf parser.

The message types are those of the package opentelemetry-proto, changed in the two ways that the format names: a request
is parsed with ``resource``, ``scope`` and ``spans`` as ``repeated bytes``, and arrays and maps of attributes are
``bytes``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

_FILES = (common_pb2, resource_pb2, trace_pb2, trace_service_pb2)
_BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_REPEATED = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
_REQUEST_FIELDS = {("ResourceSpans", "resource"), ("ScopeSpans", "scope"), ("ScopeSpans", "spans")}
_SPAN_FIELDS = {("AnyValue", "array_value"), ("AnyValue", "kvlist_value")}


class Malformed(Exception):
    """The bytes are no such message."""


def _types(as_bytes: set[tuple[str, str]], *, repeated: bool) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    changed = set()
    for module in _FILES:
        file = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for message in file.message_type:
            for field in message.field:
                if (message.name, field.name) in as_bytes:
                    field.type = _BYTES
                    field.ClearField("type_name")
                    if repeated:
                        field.label = _REPEATED
                    changed.add((message.name, field.name))
        pool.Add(file)
    assert changed == as_bytes
    return pool


def _class(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


_REQUEST_TYPES = _types(_REQUEST_FIELDS, repeated=True)
_SPAN_TYPES = _types(_SPAN_FIELDS, repeated=False)
_Request = _class(_REQUEST_TYPES, "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest")
_Resource = _class(_SPAN_TYPES, "opentelemetry.proto.resource.v1.Resource")
_Scope = _class(_SPAN_TYPES, "opentelemetry.proto.common.v1.InstrumentationScope")
_Span = _class(_SPAN_TYPES, "opentelemetry.proto.trace.v1.Span")


def _parse(kind: Any, data: bytes) -> Any:
    try:
        message = kind.FromString(data)
    except DecodeError as error:
        raise Malformed(str(error)) from error
    if _has_group(message):
        raise Malformed("a group")
    return message


def _has_group(message: Any) -> bool:
    if any(field.wire_type == 3 for field in unknown_fields.UnknownFieldSet(message)):
        return True
    for field, value in message.ListFields():
        if field.message_type is not None:
            values = value if hasattr(value, "__len__") else [value]
            if any(_has_group(item) for item in values):
                return True
    return False


@dataclass(frozen=True)
class SpanBytes:
    """One span of a request as received; ``canonical`` is false where ``resource`` or ``scope`` was repeated."""

    resource: bytes
    scope: bytes
    span: bytes
    canonical: bool


def spans_of(body: bytes) -> list[SpanBytes]:
    """The spans of a request in wire order. Raises Malformed."""
    found = []
    for resource_spans in _parse(_Request, body).resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                canonical = len(resource_spans.resource) <= 1 and len(scope_spans.scope) <= 1
                found.append(SpanBytes(b"".join(resource_spans.resource), b"".join(scope_spans.scope), span, canonical))
    return found


@dataclass(frozen=True)
class Attributes:
    """An attribute list: the first occurrence of every key, how many there are, whether a key repeats."""

    first: dict[str, tuple[str | None, Any]]
    count: int
    repeats: bool


@dataclass(frozen=True)
class Span:
    """What the log reads of a span."""

    trace_id: bytes
    span_id: bytes
    start: int
    end: int
    attributes: Attributes
    resource: Attributes


def _attributes(items: Any) -> Attributes:
    first: dict[str, tuple[str | None, Any]] = {}
    count = 0
    for key, kind, value in _read(items):
        count += 1
        first.setdefault(key, (kind, value))
    return Attributes(first, count, count != len(first))


def _read(items: Any) -> Iterator[tuple[str, str | None, Any]]:
    for item in items:
        kind = item.value.WhichOneof("value")
        yield item.key, kind, getattr(item.value, kind) if kind else None


def read_span(raw: SpanBytes) -> Span:
    """The fields of a span and of its resource. Raises Malformed."""
    resource, _, span = _parse(_Resource, raw.resource), _parse(_Scope, raw.scope), _parse(_Span, raw.span)
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        resource=_attributes(resource.attributes),
    )
