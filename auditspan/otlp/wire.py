"""OTLP traces on the wire: framing down to span boundaries.

One pass over the tags and lengths of an ``ExportTraceServiceRequest``
(opentelemetry-proto ``collector/trace/v1/trace_service.proto``) finds where every ``ResourceSpans``, ``ScopeSpans`` and
``Span`` lies; nothing inside a ``Resource``, an ``InstrumentationScope`` or a ``Span`` is parsed. What protobuf would
skip as unknown (other fields, groups, a known field with another wire type) is skipped here as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = [
    "FIELD_1",
    "FIELD_2",
    "Framing",
    "Range",
    "ResourceSpans",
    "ScopeSpans",
    "TooManyParts",
    "WireError",
    "WireSpan",
    "check_request",
    "content",
    "fields",
    "iterate_spans",
]

FIELD_1: Final = 0x0A
"""Tag of field 1, length-delimited: resource_spans, resource, scope, attributes, key."""

FIELD_2: Final = 0x12
"""Tag of field 2, length-delimited: scope_spans, spans, value."""

_DEEPEST_GROUP: Final = 100
_LARGEST_TAG: Final = 2**32 - 1

Range = tuple[int, int]
"""Start and end of a field in a request, tag and length included."""


class WireError(ValueError):
    """The bytes are no ``ExportTraceServiceRequest`` down to span boundaries. Carries the reason and where."""


class TooManyParts(WireError):
    """The request has more spans and fields around them than the caller allows."""


@dataclass(frozen=True, slots=True)
class WireSpan:
    """One span as sent. ``canonical`` is false where ``resource`` or ``scope`` occurs more than once around it.

    ``resource`` and ``scope`` are then the last of them.
    """

    resource: bytes
    scope: bytes
    span: bytes
    canonical: bool


@dataclass(frozen=True, slots=True)
class ScopeSpans:
    """A ``ScopeSpans`` with spans: its other fields, those of them that are ``scope``, and the spans."""

    head: list[Range]
    scopes: list[Range]
    spans: list[Range]


@dataclass(frozen=True, slots=True)
class ResourceSpans:
    """A ``ResourceSpans`` with spans: its fields other than scope_spans, those that are ``resource``, and the rest."""

    head: list[Range]
    resources: list[Range]
    scopes: list[ScopeSpans]


@dataclass(frozen=True, slots=True)
class Framing:
    """Where everything lies in a request whose framing is valid. What holds no span is left out."""

    body: bytes
    spans: int
    resources: list[ResourceSpans]


def check_request(body: bytes, *, max_parts: int | None = None) -> Framing:
    """Walk ``body`` down to span boundaries.

    Args:
        body: an ``ExportTraceServiceRequest``.
        max_parts: most spans and other fields around them. A field takes two bytes: without a bound, a request of
            millions of empty ones would cost seconds and gigabytes.

    Raises:
        WireError: a tag, length or group that cannot be, or a message that ends early.
        TooManyParts: more than ``max_parts``.
    """
    return _Walk(body, len(body) if max_parts is None else max_parts).request()


def iterate_spans(body: bytes) -> Iterator[WireSpan]:
    """The spans of ``body`` in wire order: the order of their ordinals (evidence format, section 2).

    Raises:
        WireError: the framing of ``body`` is not valid.
    """
    for resource in check_request(body).resources:
        resource_bytes = content(body, resource.resources[-1]) if resource.resources else b""
        for scope in resource.scopes:
            scope_bytes = content(body, scope.scopes[-1]) if scope.scopes else b""
            canonical = len(resource.resources) <= 1 and len(scope.scopes) <= 1
            for span in scope.spans:
                yield WireSpan(resource_bytes, scope_bytes, content(body, span), canonical)


def fields(body: bytes, at: int, end: int) -> Iterator[tuple[int, Range]]:
    """Tag and range of every field in ``body[at:end]``.

    Raises:
        WireError: the bytes are no sequence of fields.
    """
    while at < end:
        start = at
        tag, at = _field(body, at, end)
        yield tag, (start, at)


def content(body: bytes, field: Range) -> bytes:
    """The bytes of the length-delimited ``field``, without its tag and length."""
    start, end = field
    return body[end - _content_length(body, start, end) : end]


class _Walk:
    """One pass over ``body``."""

    def __init__(self, body: bytes, max_parts: int) -> None:
        self._body = body
        self._left = max_parts
        self._spans = 0

    def request(self) -> Framing:
        resources = []
        for tag, field in self._counted(0, len(self._body)):
            if tag == FIELD_1:
                resource = self._resource_spans(*self._inside(field))
                if resource.scopes:
                    resources.append(resource)
        return Framing(self._body, self._spans, resources)

    def _resource_spans(self, at: int, end: int) -> ResourceSpans:
        found = ResourceSpans([], [], [])
        for tag, field in self._counted(at, end):
            if tag == FIELD_2:
                scope = self._scope_spans(*self._inside(field))
                if scope.spans:
                    found.scopes.append(scope)
                continue
            found.head.append(field)
            if tag == FIELD_1:
                found.resources.append(field)
        return found

    def _scope_spans(self, at: int, end: int) -> ScopeSpans:
        """The hot loop: nearly all fields here are spans, so their common form is read without a call."""
        body = self._body
        found = ScopeSpans([], [], [])
        spans = found.spans
        left = self._left
        while at < end:
            if not left:
                raise _too_many()
            left -= 1
            start = at
            if body[at] == FIELD_2 and at + 2 < end:
                length = body[at + 1]
                at += 2
                if length > 0x7F:
                    more = body[at]
                    at += 1
                    if more > 0x7F:
                        length, at = _varint(body, start + 1, end)
                    else:
                        length = length & 0x7F | more << 7
                at += length
                if at > end:
                    raise WireError(f"the span at byte {start} ends after what contains it")
                spans.append((start, at))
                continue
            tag, at = _field(body, at, end)
            if tag == FIELD_2:
                spans.append((start, at))
                continue
            found.head.append((start, at))
            if tag == FIELD_1:
                found.scopes.append((start, at))
        self._left = left
        self._spans += len(spans)
        return found

    def _counted(self, at: int, end: int) -> Iterator[tuple[int, Range]]:
        for found in fields(self._body, at, end):
            if not self._left:
                raise _too_many()
            self._left -= 1
            yield found

    def _inside(self, field: Range) -> Range:
        start, end = field
        return end - _content_length(self._body, start, end), end


def _too_many() -> TooManyParts:
    return TooManyParts("the request has more spans and fields around them than are allowed")


def _field(body: bytes, at: int, end: int) -> tuple[int, int]:
    """The tag of the field at ``at`` and the position after the field."""
    start = at
    tag, at = _tag(body, at, end)
    wire_type = tag & 7
    if wire_type == 2:
        length, at = _varint(body, at, end)
        at += length
    elif wire_type == 0:
        _, at = _varint(body, at, end)
    elif wire_type == 1:
        at += 8
    elif wire_type == 5:
        at += 4
    elif wire_type == 3:
        at = _skip_group(body, at, end, tag >> 3)
    else:
        raise WireError(f"byte {start} is no field: wire type {wire_type}")
    if at > end:
        raise WireError(f"the field at byte {start} ends after what contains it")
    return tag, at


def _skip_group(body: bytes, at: int, end: int, number: int) -> int:
    """The position after a group; groups are long out of use, yet still valid as unknown fields."""
    stack = [number]
    while stack:
        start = at
        tag, at = _tag(body, at, end)
        if tag & 7 == 4:
            if stack.pop() != tag >> 3:
                raise WireError(f"the group that ends at byte {start} is not the one that began")
        elif tag & 7 == 3:
            if len(stack) >= _DEEPEST_GROUP:
                raise WireError(f"groups are nested too deep at byte {start}")
            stack.append(tag >> 3)
        else:
            _, at = _field(body, start, end)
    return at


def _tag(body: bytes, at: int, end: int) -> tuple[int, int]:
    tag, after = _varint(body, at, end)
    if tag > _LARGEST_TAG or tag < 8 or after - at > 5:
        raise WireError(f"byte {at} is no field: tag {tag}")
    return tag, after


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    start = at
    for shift in range(0, 70, 7):
        if at >= end:
            raise WireError(f"the request is cut off in a number at byte {start}")
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise WireError(f"the number at byte {start} is longer than ten bytes")


def _content_length(body: bytes, start: int, end: int) -> int:
    _, at = _tag(body, start, end)
    length, _ = _varint(body, at, end)
    return length
