"""Entries read one by one with the standard protobuf parser: what `auditspan.otlp.columns` must agree with.

The messages are those of opentelemetry-proto, with the content of attribute arrays and maps, and what the first pass
cuts out, declared ``bytes``.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from auditspan import semconv

FILES = (common_pb2, resource_pb2, trace_pb2, trace_service_pb2)
OPAQUE = {("AnyValue", "array_value"), ("AnyValue", "kvlist_value")}
CUT = {("ResourceSpans", "resource"), ("ScopeSpans", "scope"), ("ScopeSpans", "spans")}


def messages(opaque: set[tuple[str, str]]) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for module in FILES:
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            for field in message.field:
                if (message.name, field.name) in opaque:
                    field.type = field.TYPE_BYTES
                    field.ClearField("type_name")
                if (message.name, field.name) in CUT & opaque:
                    field.label = field.LABEL_REPEATED
        pool.Add(file)
    return pool


def message_class(pool: descriptor_pool.DescriptorPool, name: str) -> type[Message]:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"opentelemetry.proto.{name}"))


WHOLE, CUTTING = messages(OPAQUE), messages(CUT)
REQUEST = message_class(CUTTING, "collector.trace.v1.ExportTraceServiceRequest")
RESOURCE = message_class(WHOLE, "resource.v1.Resource")
SCOPE = message_class(WHOLE, "common.v1.InstrumentationScope")
SPAN = message_class(WHOLE, "trace.v1.Span")

MEMBERS = {"string": "string_value", "int": "int_value", "boolean": "bool_value"}


def has_group(message: Message) -> bool:
    if any(field.wire_type == 3 for field in UnknownFieldSet(message)):
        return True
    for field, value in message.ListFields():
        if field.message_type is not None and any(map(has_group, value if field.is_repeated else [value])):
            return True
    return False


def parse(kind: type[Message], data: bytes) -> Any:
    try:
        message = kind.FromString(data)
    except DecodeError:
        return None
    return None if has_group(message) else message


def read_attributes(attributes: Any, known: dict[str, str]) -> tuple[dict[str, Any], bool, bool]:
    first = {}
    duplicate = False
    for attribute in attributes:
        duplicate |= attribute.key in first
        first.setdefault(attribute.key, attribute.value)
    values: dict[str, Any] = {}
    wrong = False
    for name, type_ in known.items():
        if name in first:
            right = first[name].WhichOneof("value") == MEMBERS[type_]
            wrong |= not right
            values[name] = getattr(first[name], MEMBERS[type_]) if right else None
        else:
            values[name] = None
    return values, duplicate, wrong


NOTHING = {
    **dict.fromkeys(("trace_id", "span_id", "span_name", "start_time", "end_time")),
    **dict.fromkeys((*semconv.READ_FROM_SPAN, *semconv.READ_FROM_RESOURCE)),
    "attribute_count": 0,
    "duplicate_key": False,
    "wrong_type": False,
}


def read_span(resource: bytes, scope: bytes, span: bytes) -> dict[str, Any]:
    r, s, p = parse(RESOURCE, resource), parse(SCOPE, scope), parse(SPAN, span)
    if r is None or s is None or p is None:
        return NOTHING | {"quarantine": "span.undecodable"}
    if len(p.trace_id) != 16 or len(p.span_id) != 8 or not any(p.trace_id) or not any(p.span_id):
        return NOTHING | {"quarantine": "span.invalid_id"}
    of_resource, duplicate_there, wrong_there = read_attributes(r.attributes, semconv.READ_FROM_RESOURCE)
    of_span, duplicate_here, wrong_here = read_attributes(p.attributes, semconv.READ_FROM_SPAN)
    if of_span[semconv.END_USER] is not None:
        del of_resource[semconv.END_USER]
    return {
        **of_span,
        **of_resource,
        "trace_id": p.trace_id,
        "span_id": p.span_id,
        "span_name": p.name,
        "start_time": p.start_time_unix_nano,
        "end_time": p.end_time_unix_nano,
        "attribute_count": len(p.attributes),
        "duplicate_key": duplicate_here or duplicate_there,
        "wrong_type": wrong_here or wrong_there,
        "quarantine": None,
    }


def read_body(body: bytes, *, decodable: bool = True) -> list[dict[str, Any]]:
    request = parse(REQUEST, body) if decodable else None
    if request is None:
        parts = {"ordinal": 0, "resource": b"", "scope": b"", "span": body}
        return [NOTHING | parts | {"quarantine": "request.undecodable"}]
    rows: list[dict[str, Any]] = []
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                resource, scope = b"".join(resource_spans.resource), b"".join(scope_spans.scope)
                if len(resource_spans.resource) > 1 or len(scope_spans.scope) > 1:
                    read = NOTHING | {"quarantine": "request.non_canonical"}
                else:
                    read = read_span(resource, scope, span)
                rows.append(read | {"ordinal": len(rows), "resource": resource, "scope": scope, "span": span})
    return rows
