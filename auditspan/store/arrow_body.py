"""Rows as the body of an insert: an Arrow file in pieces that are the columns' own buffers, not copies of them.

Measured with 25,000 rows of 2 kB on loopback: 10 ms of CPU to write and send, against 40 ms when the file is gathered
in one buffer first and 34 ms with LZ4. So compression is for networks that are slower than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import pyarrow as pa

__all__ = ["ArrowBody", "BodyCompression"]

BodyCompression = Literal["none", "lz4", "zstd"]

_SMALL: Final = 16 * 1024
_CHUNK: Final = 1 << 20


class ArrowBody:
    """``rows`` as one record batch, which ClickHouse reads as one block. Iterate it once for each time it is sent."""

    def __init__(self, rows: pa.Table, compression: BodyCompression = "none") -> None:
        sink = _Pieces()
        block = rows.unify_dictionaries().combine_chunks()
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
