"""Splitting OTLP requests by stream and by size, without touching the bytes of a span, its resource or its scope.

The partition of a span is ``u64(H(u32(len emitter) ‖ emitter ‖ kind ‖ key)[:8]) mod N`` with ``H`` SHA-256, ``kind``
``"s"`` and ``key`` the stream (resource attribute ``audit.source.id``), or ``"r"`` and the bytes of the ``Resource``
where there is no stream. It depends on what was sent alone, so that a stream and every retry of it meet one partition.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from auditspan.otlp.wire import (
    FIELD_1,
    FIELD_2,
    Framing,
    Range,
    ResourceSpans,
    ScopeSpans,
    WireError,
    check_request,
    content,
    fields,
)
from auditspan.semconv import AUDIT_SOURCE_ID

__all__ = ["Rejected", "Split", "SplitLimits", "partition_of", "split", "split_request", "stream_of"]

_STREAM_KEY: Final = AUDIT_SOURCE_ID.encode()
_LARGEST_STREAM: Final = 128
_LARGEST_RESOURCE: Final = 1024 * 1024
# Tags and lengths of the ResourceSpans and the ScopeSpans around a span: at most 1 + 5 bytes each.
_WRAPPING: Final = 12
_PAYLOAD_LENGTHS: Final = 12
"""Bytes of the three lengths in a payload (evidence format, section 3)."""
_ANY_VALUE_MEMBERS: Final = 7

_Run = tuple[ResourceSpans, ScopeSpans, list[Range]]


@dataclass(frozen=True, slots=True)
class SplitLimits:
    """Bounds of what `split` makes.

    Args:
        entry_spans: most spans in one entry.
        entry_bytes: most bytes of one entry; one span above it stands alone.
        span_bytes: most bytes of one ``Span``; a larger one is rejected.
        resource_bytes: most bytes of what precedes spans (``Resource`` and ``InstrumentationScope``): it is repeated in
            every entry that a request is split into, so it must stay small beside them.
        payload_bytes: most bytes that the payloads of one entry's spans have together; one span above it stands alone.
            Every payload repeats the resource and the scope: a large resource before thousands of small spans would
            grow a thousandfold when the entry is sealed.
    """

    entry_spans: int = 10_000
    entry_bytes: int = 4 * 1024 * 1024
    span_bytes: int = 8 * 1024 * 1024
    resource_bytes: int = _LARGEST_RESOURCE
    payload_bytes: int = 32 * 1024 * 1024

    def within(self, largest: int | None) -> SplitLimits:
        """These limits, lowered so that no entry has more than ``largest`` bytes; None: as they are."""
        if largest is None:
            return self
        resource = min(self.resource_bytes, largest // 4)
        # A span that stands alone still has its resource and scope before it, and a tag and a length of each message.
        alone = largest - resource - 2 * _WRAPPING
        return replace(
            self,
            entry_bytes=min(self.entry_bytes, largest),
            span_bytes=min(self.span_bytes, alone),
            resource_bytes=resource,
        )


@dataclass(frozen=True, slots=True)
class Rejected:
    """Spans that are too large to be processed, as a request of their own so that nothing of them is lost."""

    reason: str
    partition: int
    spans: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Split:
    """``entries`` as (index of the data partition, request bytes), in order; and what was ``rejected``."""

    entries: list[tuple[int, bytes]]
    rejected: list[Rejected]


def split(framing: Framing, emitter: str, partitions: int, limits: SplitLimits) -> Split:
    """Entries for the journal: every span once, in order within its partition.

    A request that needs no splitting is handed on as it was received. A request without spans gives no entries.
    """
    body = framing.body
    names = emitter.encode()
    groups: dict[int, list[ResourceSpans]] = {}
    for resource in framing.resources:
        key = b"" if partitions == 1 else b"".join([content(body, field) for field in resource.resources])
        groups.setdefault(partition_of(names, key, partitions), []).append(resource)
    if len(groups) == 1 and _is_small(framing, limits):
        return Split([(next(iter(groups)), body)], [])
    result = Split([], [])
    for partition, resources in sorted(groups.items()):
        packer = _Packer(body, partition, limits, result)
        for resource in resources:
            packer.add(resource)
        packer.close()
    return result


def split_request(
    body: bytes, emitter: str, partitions: int, max_spans: int, max_bytes: int
) -> list[tuple[int, bytes]]:
    """`split` of ``body`` without limits on single spans and resources: (partition, request bytes) in order.

    Raises:
        WireError: the framing of ``body`` is not valid.
    """
    limits = SplitLimits(max_spans, max_bytes, span_bytes=len(body), resource_bytes=len(body))
    return split(check_request(body), emitter, partitions, limits).entries


def partition_of(emitter: bytes, resource: bytes, partitions: int) -> int:
    """Index of the data partition of ``emitter``'s spans under ``resource`` (the bytes of the ``Resource``)."""
    if partitions == 1:
        return 0
    stream = stream_of(resource)
    kind, key = (b"r", resource) if stream is None else (b"s", stream)
    digest = hashlib.sha256(len(emitter).to_bytes(4, "big") + emitter + kind + key).digest()
    return int.from_bytes(digest[:8], "big") % partitions


def stream_of(resource: bytes) -> bytes | None:
    """The stream id in a ``Resource``: its first attribute ``audit.source.id``, where that is text of 1–128 bytes."""
    if len(resource) > _LARGEST_RESOURCE or _STREAM_KEY not in resource:
        return None
    try:
        for tag, field in fields(resource, 0, len(resource)):
            if tag == FIELD_1:
                key, value = _key_value(content(resource, field))
                if key == _STREAM_KEY:
                    return value if value is not None and 1 <= len(value) <= _LARGEST_STREAM else None
    except WireError:
        return None  # the decoder quarantines its spans; their partition follows from the bytes
    return None


def _key_value(message: bytes) -> tuple[bytes, bytes | None]:
    """Key and, where it is text, value of a ``KeyValue``. Protobuf's rules: the last key counts, values are merged."""
    key = b""
    text: bytes | None = None
    for tag, field in fields(message, 0, len(message)):
        if tag == FIELD_1:
            key = content(message, field)
        elif tag == FIELD_2:
            value = content(message, field)
            for member, inner in fields(value, 0, len(value)):
                if member == FIELD_1:
                    text = content(value, inner)
                elif member >> 3 <= _ANY_VALUE_MEMBERS:
                    text = None
    return key, text


def _is_small(framing: Framing, limits: SplitLimits) -> bool:
    """Whether the whole request may be one entry."""
    size = len(framing.body)
    if framing.spans > limits.entry_spans or size > limits.entry_bytes:
        return False
    repeated = sum(
        len(scope.spans) * (_size(resource.head) + _size(scope.head) + _PAYLOAD_LENGTHS)
        for resource in framing.resources
        for scope in resource.scopes
    )
    if framing.spans > 1 and size + repeated > limits.payload_bytes:
        return False
    if size <= min(limits.span_bytes, limits.resource_bytes):
        return True
    return not any(
        _size(resource.head) + _size(scope.head) > limits.resource_bytes
        or any(end - start > limits.span_bytes for start, end in scope.spans)
        for resource in framing.resources
        for scope in resource.scopes
    )


class _Packer:
    """Packs the spans of one partition into requests within the limits, repeating what precedes them."""

    def __init__(self, body: bytes, partition: int, limits: SplitLimits, result: Split) -> None:
        self._body = body
        self._partition = partition
        self._limits = limits
        self._result = result
        self._runs: list[_Run] = []
        self._spans = 0
        self._bytes = 0
        self._payloads = 0

    def add(self, resource: ResourceSpans) -> None:
        before = _size(resource.head)
        for scope in resource.scopes:
            head = before + _size(scope.head)
            if head > self._limits.resource_bytes:
                what = f"a resource with its scope is larger than {self._limits.resource_bytes} bytes"
                self._reject(what, (resource, scope, scope.spans))
            else:
                self._add_scope(resource, scope, head)

    def _add_scope(self, resource: ResourceSpans, scope: ScopeSpans, before: int) -> None:
        """Pack the spans of ``scope``; ``before`` is the size of what precedes them."""
        head = before + _WRAPPING
        run: list[Range] = []
        for span in scope.spans:
            size = span[1] - span[0]
            if size > self._limits.span_bytes:
                self._reject(f"a span is larger than {self._limits.span_bytes} bytes", (resource, scope, [span]))
                continue
            needed = size if run else size + head
            payload = size + before + _PAYLOAD_LENGTHS
            if (
                self._spans >= self._limits.entry_spans
                or self._bytes + needed > self._limits.entry_bytes
                or self._payloads + payload > self._limits.payload_bytes
            ):
                self.close()
                run = []
                needed = size + head
            if not run:
                self._runs.append((resource, scope, run))
            run.append(span)
            self._spans += 1
            self._bytes += needed
            self._payloads += payload

    def close(self) -> None:
        """End the request that is being packed, if it has a span."""
        if self._spans:
            self._result.entries.append((self._partition, _request(self._body, self._runs)))
        self._runs, self._spans, self._bytes, self._payloads = [], 0, 0, 0

    def _reject(self, reason: str, run: _Run) -> None:
        self._result.rejected.append(Rejected(reason, self._partition, len(run[2]), _request(self._body, [run])))


def _request(body: bytes, runs: list[_Run]) -> bytes:
    """An ``ExportTraceServiceRequest`` of ``runs``; those of one ``ResourceSpans`` stay together."""
    messages: list[bytes] = []
    inside: list[bytes] = []
    previous: ResourceSpans | None = None
    for resource, scope, spans in runs:
        if resource is not previous:
            if previous is not None:
                messages.append(_message(FIELD_1, inside))
            inside = _pieces(body, resource.head)
            previous = resource
        inside.append(_message(FIELD_2, _pieces(body, scope.head + spans)))
    messages.append(_message(FIELD_1, inside))
    return b"".join(messages)


def _message(tag: int, pieces: list[bytes]) -> bytes:
    length = sum(map(len, pieces))
    prefix = bytearray((tag,))
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return b"".join((prefix, *pieces))


def _pieces(body: bytes, ranges: list[Range]) -> list[bytes]:
    """The bytes of ``ranges``; neighbours are copied at once."""
    if not ranges:
        return []
    breaks = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(ranges)) if a[1] != b[0]), len(ranges)]
    return [body[ranges[first][0] : ranges[last - 1][1]] for first, last in pairwise(breaks)]


def _size(ranges: list[Range]) -> int:
    return sum(end - start for start, end in ranges)
