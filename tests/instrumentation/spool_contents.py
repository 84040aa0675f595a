"""Reading a spool back as it lies on the disk, whoever writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from auditspan.instrumentation.frames import MAGIC, Frame, FrameKind, read_frames
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from waiting import until


def attributes_of(span: Span) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        assert pair.key not in values, f"{pair.key} twice"
        if kind == "array_value":
            values[pair.key] = [item.string_value for item in pair.value.array_value.values]
        else:
            values[pair.key] = getattr(pair.value, kind)
    return values


def spooled_spans(directory: Path) -> list[Span]:
    """Every record in a spool, of all its streams, in the order of each."""
    spans = []
    # A stream that is being born is renamed under whoever looks into it, and has no segment yet.
    for segment in sorted(directory.glob("[!.]*/*.spool")):
        for item in read_frames(segment.read_bytes(), len(MAGIC)):
            if isinstance(item, Frame) and item.kind is FrameKind.RECORD:
                spans.append(Span.FromString(item.body))
    return spans


def spooled(directory: Path, event_class: str) -> list[dict[str, Any]]:
    """The attributes of every record of a class in a spool."""
    found = [attributes_of(span) for span in spooled_spans(directory)]
    return [item for item in found if item["audit.event.class"] == event_class]


def told_gaps(directory: Path, count: int = 1) -> list[tuple[str, int]]:
    """Reason and count of every gap record in a spool, once at least ``count`` records are told lost."""

    def gaps() -> list[tuple[str, int]]:
        found = spooled(directory, "audit.gap") if directory.exists() else []
        return [(item["audit.gap.reason"], item["audit.gap.count"]) for item in found]

    until(lambda: sum(lost for _, lost in gaps()) >= count, "the gap to be told")
    return gaps()
