"""Attributes to the bytes of an OTLP ``Span``, and the constant ``Resource`` and ``InstrumentationScope`` of a stream.

The host's tracer, sampler and span processors take no part: what is recorded does not depend on what is traced. A
record joins the trace of its parent where there is one, sampled or not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanContext, get_current_span

from .. import __version__, semconv

__all__ = [
    "AttributeValue",
    "Attributes",
    "Parent",
    "encode_resource",
    "encode_scope",
    "encode_sequence",
    "encode_span",
    "encode_text_attribute",
    "new_record_id",
]

AttributeValue = str | bool | int | float | bytes | Sequence[object] | None
Attributes = Mapping[str, AttributeValue]
Parent = Context | SpanContext | None

_INT64_LARGEST: Final = 2**63 - 1
_UINT64_LARGEST: Final = 2**64 - 1
_INTERNAL: Final = Span.SpanKind.SPAN_KIND_INTERNAL
_HAS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200


def _clean(text: str) -> str:
    """``text`` with lone surrogates made visible: protobuf takes valid UTF-8 only, and no record is dropped for it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _set_text(value: AnyValue, text: str) -> None:
    try:
        value.string_value = text
    except (UnicodeEncodeError, ValueError):
        value.string_value = _clean(text)


def _set_value(value: AnyValue, item: object) -> None:
    if isinstance(item, str):
        _set_text(value, str(item))
    elif isinstance(item, bool):
        value.bool_value = item
    elif isinstance(item, int):
        if -_INT64_LARGEST - 1 <= item <= _INT64_LARGEST:
            value.int_value = item
        else:
            value.string_value = str(item)
    elif isinstance(item, float):
        value.double_value = item
    elif isinstance(item, bytes | bytearray):
        value.bytes_value = bytes(item)
    elif isinstance(item, Sequence):
        value.array_value.SetInParent()
        for element in item:
            _set_value(value.array_value.values.add(), element)
    elif item is not None:
        # An arbitrary object's text might hold what must not be recorded, so only its type is named.
        value.string_value = f"<{type(item).__name__}>"


def _uuid7(milliseconds: int, random: bytes) -> str:
    """A UUID version 7 (RFC 9562 section 5.7) of a time and ten random bytes."""
    value = bytearray(milliseconds.to_bytes(6, "big") + random)
    value[6] = value[6] & 0x0F | 0x70
    value[8] = value[8] & 0x3F | 0x80
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_record_id(time_unix_nano: int) -> str:
    """A fresh ``audit.record.id``: UUID version 7 from the system's randomness, so a fork cannot repeat it."""
    return _uuid7(time_unix_nano // 1_000_000 & 0xFFFFFFFFFFFF, os.urandom(10))


def _span_context(parent: Parent) -> SpanContext:
    if isinstance(parent, SpanContext):
        return parent
    return get_current_span(parent).get_span_context()


def encode_span(
    event_class: str,
    attributes: Attributes,
    *,
    record_id: str,
    start_time: int,
    end_time: int,
    parent: Parent = None,
) -> bytes:
    """The bytes of one ``Span`` without its sequence number, which ``encode_sequence`` appends.

    Args:
        event_class: ``audit.event.class``.
        attributes: further attributes; ``None`` values are left out, and a value of no OTLP type becomes the name of
            its type, so that nothing a hook passes can break the call it watches.
        record_id: ``audit.record.id``.
        start_time: nanoseconds since 1970; outside what OTLP can say, the nearest that it can.
        end_time: as ``start_time``.
        parent: context or span context to join; the current one when None.
    """
    context = _span_context(parent)
    span = Span(
        kind=_INTERNAL,
        start_time_unix_nano=min(max(start_time, 0), _UINT64_LARGEST),
        end_time_unix_nano=min(max(end_time, 0), _UINT64_LARGEST),
    )
    if context.is_valid:
        span.trace_id = context.trace_id.to_bytes(16, "big")
        span.span_id = os.urandom(8)
        span.parent_span_id = context.span_id.to_bytes(8, "big")
        span.flags = int(context.trace_flags) & 0xFF | _HAS_REMOTE | (_IS_REMOTE if context.is_remote else 0)
    else:
        ids = os.urandom(24)
        span.trace_id = ids[:16]
        span.span_id = ids[16:]
    _set_name(span, attributes.get(semconv.AUDIT_ACTION), event_class)
    add = span.attributes.add
    pair = add()
    pair.key = semconv.AUDIT_EVENT_CLASS
    _set_text(pair.value, event_class)
    pair = add()
    pair.key = semconv.AUDIT_RECORD_ID
    pair.value.string_value = record_id
    for key, item in attributes.items():
        if item is None or key in _OWN:
            continue
        pair = add()
        try:
            pair.key = key
        except (TypeError, UnicodeEncodeError, ValueError):
            pair.key = _clean(str(key))
        kind = type(item)
        if kind is str:
            _set_text(pair.value, item)  # type: ignore[arg-type]
        else:
            _set_value(pair.value, item)
    return bytes(span.SerializeToString())


_OWN: Final = frozenset({semconv.AUDIT_EVENT_CLASS, semconv.AUDIT_RECORD_ID, semconv.AUDIT_SEQUENCE_NUMBER})
"""Set by the recorder alone: a second occurrence would be a duplicate key."""


def _set_name(span: Span, action: AttributeValue, event_class: str) -> None:
    name = action if isinstance(action, str) and action else event_class
    try:
        span.name = name
    except (UnicodeEncodeError, ValueError):
        span.name = _clean(name)


def encode_sequence(sequence: int) -> bytes:
    """``audit.sequence.number`` as bytes to append to an encoded span.

    Protobuf joins the elements of a repeated field wherever they stand, so a span is encoded before its sequence is
    known, outside the lock that hands sequences out.
    """
    pair = KeyValue(key=semconv.AUDIT_SEQUENCE_NUMBER)
    pair.value.int_value = sequence
    body: bytes = pair.SerializeToString()
    return bytes((_ATTRIBUTES_TAG, len(body))) + body


_ATTRIBUTES_TAG: Final = Span.ATTRIBUTES_FIELD_NUMBER << 3 | 2
assert len(semconv.AUDIT_SEQUENCE_NUMBER) < 100, "the attribute's length must fit one varint byte"


def encode_text_attribute(key: str, text: str) -> bytes:
    """One ``KeyValue`` message with a string value."""
    pair = KeyValue(key=key)
    _set_text(pair.value, text)
    return bytes(pair.SerializeToString())


def encode_resource(resource: Resource, stream: str) -> bytes:
    """The bytes of the ``Resource`` of a stream: the SDK's resource and the stream's id. Constant for the stream."""
    message = ResourceMessage()
    attributes: dict[str, object] = {
        **resource.attributes,
        semconv.AUDIT_SOURCE_ID: stream,
        semconv.AUDIT_SCHEMA_VERSION: semconv.SCHEMA_VERSION,
    }
    for key, item in attributes.items():
        pair = message.attributes.add()
        pair.key = _clean(key)
        _set_value(pair.value, item)
    return bytes(message.SerializeToString())


def encode_scope() -> bytes:
    """The bytes of the ``InstrumentationScope``: this package and its version."""
    return bytes(InstrumentationScope(name="auditspan", version=__version__).SerializeToString())
