"""The spool's file format: frames that say where they begin, how long they are and whether they are whole.

A segment file is ``MAGIC`` and then frames::

    marker (4) ‖ length of body (4) ‖ crc32 (4) ‖ kind (1) ‖ number (8) ‖ body

All integers are unsigned and big-endian; the checksum covers everything after itself. The marker lets a reader go on
behind damage, so that one torn frame costs one record and never its neighbours. Pure functions, no files.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = [
    "FRAME_OVERHEAD",
    "MAGIC",
    "Damage",
    "Frame",
    "FrameKind",
    "encode_frame",
    "join_header",
    "read_frames",
    "split_header",
]

MAGIC: Final = b"ASPOOL1\n"
_MARKER: Final = b"\xf5ASF"
_HEAD: Final = struct.Struct(">4sIIBQ")
_TAIL: Final = struct.Struct(">BQ")
_LENGTH: Final = struct.Struct(">I")
FRAME_OVERHEAD: Final = _HEAD.size


class FrameKind(IntEnum):
    """What a frame's body is."""

    HEADER = 1
    """The stream's encoded ``Resource`` and ``InstrumentationScope``; its number is the segment's."""

    RECORD = 2
    """One encoded ``Span``; its number is the record's sequence."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame, and the offset just behind it."""

    kind: FrameKind
    number: int
    body: bytes
    end: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes ``[start, end)`` that are no whole frame; ``tail`` when nothing whole follows them."""

    start: int
    end: int
    tail: bool


def encode_frame(kind: int, number: int, body: bytes) -> bytes:
    """The bytes of one frame."""
    tail = _TAIL.pack(kind, number)
    return _HEAD.pack(_MARKER, len(body), zlib.crc32(body, zlib.crc32(tail)), kind, number) + body


def _frame_at(data: bytes, at: int) -> Frame | None:
    """The whole frame that begins at ``at``, or None."""
    if len(data) - at < FRAME_OVERHEAD:
        return None
    marker, length, checksum, kind, number = _HEAD.unpack_from(data, at)
    begin = at + FRAME_OVERHEAD
    if marker != _MARKER or length > len(data) - begin:
        return None
    body = data[begin : begin + length]
    if zlib.crc32(body, zlib.crc32(data[begin - _TAIL.size : begin])) != checksum:
        return None
    try:
        return Frame(FrameKind(kind), number, body, begin + length)
    except ValueError:
        return None


def read_frames(data: bytes, at: int = 0) -> Iterator[Frame | Damage]:
    """The frames of ``data`` from offset ``at``, in order, with the damage between them.

    Offsets are positions in ``data``. Damage that reaches the end has ``tail`` set: it may be a record being written.
    """
    while at < len(data):
        frame = _frame_at(data, at)
        if frame is not None:
            yield frame
            at = frame.end
            continue
        start, at = at, data.find(_MARKER, at + 1)
        while at >= 0 and _frame_at(data, at) is None:
            at = data.find(_MARKER, at + 1)
        if at < 0:
            yield Damage(start, len(data), tail=True)
            return
        yield Damage(start, at, tail=False)


def join_header(resource: bytes, scope: bytes) -> bytes:
    """Body of a header frame."""
    return _LENGTH.pack(len(resource)) + resource + scope


def split_header(body: bytes) -> tuple[bytes, bytes]:
    """Encoded ``Resource`` and ``InstrumentationScope`` of a header frame's body.

    Raises:
        ValueError: the body is too short for what it says.
    """
    if len(body) < _LENGTH.size:
        raise ValueError("the header frame has no length")
    (length,) = _LENGTH.unpack_from(body)
    if length > len(body) - _LENGTH.size:
        raise ValueError("the header frame is shorter than its resource")
    return body[_LENGTH.size : _LENGTH.size + length], body[_LENGTH.size + length :]
