"""Rows as the body of an insert: an Arrow file in pieces that are the columns' own buffers, not copies of them.

Measured with 25,000 rows of 2 kB on loopback: 10 ms of CPU to write and send, against 40 ms when the file is gathered
in one buffer first and 34 ms with LZ4. So compression is for networks that are slower than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["ArrowBody", "BodyCompression"]

BodyCompression = Literal["none", "lz4", "zstd"]

_SMALL: Final = 16 * 1024
_CHUNK: Final = 1 << 20


class ArrowBody:
    """``rows`` as one record batch, which ClickHouse reads as one block. Iterate it once for each time it is sent."""

    def __init__(self, rows: pa.Table, compression: BodyCompression = "none") -> None:
        sink = _Pieces()
        unified = rows.unify_dictionaries()
        block = pa.table([_joined(column) for column in unified.columns], schema=unified.schema)
        options = pa.ipc.IpcWriteOptions(
            compression=None if compression == "none" else compression,
            # Threads would count as this process's CPU all the same.
            use_threads=False,
        )
        with pa.ipc.new_file(sink, block.schema, options=options) as writer:
            writer.write_table(block)
        self._pieces = sink.pieces
        self.size = sink.size
        """Bytes of the whole body."""

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """The body in pieces of at most 1 MiB: a socket's time limit holds for a piece, not for the whole."""
        small = bytearray()
        for piece in self._pieces:
            if len(small) + len(piece) <= _SMALL:
                small += piece
                continue
            if small:
                yield bytes(small)
                small.clear()
            for start in range(0, len(piece), _CHUNK):
                yield piece[start : start + _CHUNK]
        if small:
            yield bytes(small)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    """All chunks in one, the bytes of long values not copied where one chunk has all of them.

    So it is with most columns of a batch: it ends in leaves that have nothing but a header.
    """
    if not (pa.types.is_binary(column.type) or pa.types.is_string(column.type)):
        return column.combine_chunks()
    ends = [_ends(chunk) for chunk in column.chunks]
    filled = [place for place, of_chunk in enumerate(ends) if of_chunk[-1] > of_chunk[0]]
    if len(filled) != 1:
        return column.combine_chunks()
    [full] = filled
    before = sum(map(len, column.chunks[:full]))
    after = len(column) - before - len(column.chunk(full))
    offsets = np.concatenate([np.full(before, ends[full][0]), ends[full], np.full(after, ends[full][-1])])
    valid = pc.is_valid(column).combine_chunks().buffers()[1] if column.null_count else None
    data = column.chunk(full).buffers()[2]
    return pa.Array.from_buffers(column.type, len(column), [valid, pa.py_buffer(offsets.astype(np.int32)), data])


def _ends(chunk: pa.Array) -> npt.NDArray[np.int32]:
    """Where its values begin and end in its data: one more than it has values."""
    offsets = chunk.buffers()[1]
    if offsets is None or not len(chunk):
        return np.zeros(1, np.int32)
    return np.frombuffer(offsets, np.int32, len(chunk) + 1, 4 * chunk.offset)


class _Pieces:
    """What Arrow writes to: keeps the buffers themselves."""

    closed: Final = False

    def __init__(self) -> None:
        self.pieces: list[memoryview] = []
        self.size = 0

    def write(self, piece: Any) -> int:
        view = memoryview(piece)
        self.pieces.append(view)
        self.size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False
