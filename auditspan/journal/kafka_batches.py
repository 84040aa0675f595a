"""Record batches as a broker gives them (Kafka's message format, version 2), every position of them accounted for.

A library's consumer skips what it is not meant to give: markers of transactions, records removed by compaction. It
stops for good at a record whose headers are no UTF-8, and unpacks whatever a compressed batch grows to. All of these
can be in a topic that others write, and none may stop a log or be passed over in silence.

Source: https://kafka.apache.org/documentation/#messageformat
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import crc32c
import lz4.frame  # type: ignore[import-untyped]
import zstandard

__all__ = ["Batch", "CorruptBatch", "Record", "batches"]

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8
_PREFIX: Final = 12
"""Bytes before those that a batch's length counts."""
_MAGIC_AT: Final = 16
_MAGIC: Final = 2
_CRC_COVERS: Final = 21
_CODEC: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
_CONTROL: Final = 0x20
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_LONGEST_VARINT: Final = 10
# What the decompressors and the parser raise on bytes that are none of theirs.
_NOT_A_BATCH: Final = (
    ValueError,
    IndexError,
    struct.error,
    RuntimeError,
    EOFError,
    OSError,
    zlib.error,
    zstandard.ZstdError,
)


class CorruptBatch(Exception):
    """The bytes are not what the broker was given: the wire or its disk altered them."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record; ``broken``: it stands for one that cannot be taken out of its batch, with the bytes that there are."""

    offset: int
    timestamp: int
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch: ``content`` are its records as stored."""

    base_offset: int
    next_offset: int
    leader_epoch: int
    attributes: int
    base_timestamp: int
    max_timestamp: int
    count: int
    content: memoryview

    @property
    def control(self) -> bool:
        """Whether it holds a marker of a transaction."""
        return bool(self.attributes & _CONTROL)

    def records(self, limit: int) -> Iterator[Record]:
        """Its records, in order; ``limit`` bounds the bytes that they may unpack to.

        A batch that cannot be taken apart, or would grow beyond the limit, gives one broken record for each of its
        positions, the first of which has its bytes.
        """
        try:
            content = _unpacked(self.content, self.attributes & _CODEC, limit)
            found = list(self._parsed(content)) if content is not None else None
        except _NOT_A_BATCH:
            found = None
        if found is not None and not self.control:
            yield from found
            return
        given = bytes(self.content)
        for offset in range(self.base_offset, self.next_offset):
            yield Record(offset, self.max_timestamp, given, broken=True)
            given = b""

    def _parsed(self, content: bytes) -> Iterator[Record]:
        stamped = self.max_timestamp if self.attributes & _LOG_APPEND_TIME else None
        base_offset, base_timestamp = self.base_offset, self.base_timestamp
        at = 0
        for _ in range(self.count):
            length, at = _varint(content, at)
            end = at + length
            if length < 0 or end > len(content):
                raise ValueError("a record goes beyond its batch")
            delta, at = _varint(content, at + 1)
            offset, at = _varint(content, at)
            _, at = _bytes(content, at)
            value, at = _bytes(content, at)
            headers, at = _headers(content, at)
            if at != end:
                raise ValueError("a record is longer than its parts")
            yield Record(base_offset + offset, base_timestamp + delta if stamped is None else stamped, value, headers)
        if at != len(content):
            raise ValueError("a batch is longer than its records")


def batches(data: bytes | memoryview) -> Iterator[Batch]:
    """The whole batches in ``data``; a broker may cut off the last one.

    Raises:
        CorruptBatch: a checksum is wrong, or a batch is of an older format than brokers write since version 4.
    """
    view = memoryview(data)
    at = 0
    while at + _HEADER.size <= len(view):
        end = at + _PREFIX + _LENGTH.unpack_from(view, at + _LENGTH_AT)[0]
        if end > len(view):
            return
        if view[at + _MAGIC_AT] != _MAGIC or end < at + _HEADER.size:
            raise CorruptBatch(f"a batch of format {view[at + _MAGIC_AT]}")
        base, _, epoch, _, crc, attributes, last, first_time, max_time, _, _, _, count = _HEADER.unpack_from(view, at)
        if crc32c.crc32c(view[at + _CRC_COVERS : end]) != crc:
            raise CorruptBatch(f"the batch at offset {base} has a wrong checksum")
        content = view[at + _HEADER.size : end]
        yield Batch(base, base + last + 1, epoch, attributes, first_time, max_time, count, content)
        at = end


def _unpacked(content: memoryview, codec: int, limit: int) -> bytes | None:
    """The records without compression; None when they are more than ``limit`` bytes."""
    if codec == 0:
        return bytes(content)
    if codec == _LZ4:
        packed = bytes(content)
        # The frame says how large its content is, where the producer knew: then one call does.
        if 0 < lz4.frame.get_frame_info(packed)["content_size"] <= limit:
            whole: bytes = lz4.frame.decompress(packed)
            return whole
        unpacker: Any = lz4.frame.LZ4FrameDecompressor()
        found: bytes = unpacker.decompress(packed, max_length=limit + 1)
    elif codec == _ZSTD:
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)) as reader:
            found = reader.read(limit + 1)
    elif codec == _GZIP:
        found = zlib.decompressobj(31).decompress(content, limit + 1)
    elif codec == _SNAPPY:
        return _snappy(bytes(content), limit)
    else:
        raise ValueError(f"codec {codec} is not known")
    return found if len(found) <= limit else None


_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16


def _snappy(packed: bytes, limit: int) -> bytes | None:
    """Snappy as Java producers frame it (blocks with their length before them), or as one plain block."""
    import pyarrow as pa

    blocks: list[bytes] = []
    if packed.startswith(_XERIAL):
        at = _XERIAL_HEADER
        while at < len(packed):
            size = _LENGTH.unpack_from(packed, at)[0]
            at += _LENGTH.size
            if size < 0 or at + size > len(packed):
                raise ValueError("a Snappy block goes beyond its batch")
            blocks.append(packed[at : at + size])
            at += size
    else:
        blocks.append(packed)
    # A Snappy block begins with its unpacked size, as a varint.
    sizes = [_unsigned_varint(block, 0)[0] for block in blocks]
    if sum(sizes) > limit:
        return None
    codec = pa.Codec("snappy")
    return b"".join(
        codec.decompress(block, decompressed_size=size, asbytes=True) for block, size in zip(blocks, sizes, strict=True)
    )


def _headers(content: bytes, at: int) -> tuple[list[tuple[str, bytes | None]], int]:
    count, at = _varint(content, at)
    found: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, at = _short(content, at)
        value, at = _short(content, at)
        # A name that is no UTF-8 is none of ours; the value is what counts.
        found.append(((name or b"").decode("utf-8", "replace"), value))
    return found, at


def _short(content: bytes, at: int) -> tuple[bytes | None, int]:
    """`_bytes` without its calls, for the fields of a header: every record has a dozen of them."""
    length = content[at]
    if length >= 0x80 or length & 1:
        return _bytes(content, at)
    # Where it goes beyond the end, so does the record, and that is noticed.
    end = at + 1 + (length >> 1)
    return content[at + 1 : end], end


def _bytes(content: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = _varint(content, at)
    if length < 0:
        return None, at
    end = at + length
    if end > len(content):
        raise ValueError("a field goes beyond its record")
    return content[at:end], end


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A signed (zigzag) varint at ``at``, and where it ends."""
    first = content[at]
    if first < 0x80:
        return (first >> 1) ^ -(first & 1), at + 1
    raw, at = _unsigned_varint(content, at)
    return (raw >> 1) ^ -(raw & 1), at


def _unsigned_varint(content: bytes, at: int) -> tuple[int, int]:
    raw = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        byte = content[at]
        at += 1
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            return raw, at
    raise ValueError("a varint has no end")
