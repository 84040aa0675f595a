"""How rows reach the embedded engine: through a file in memory whose pages serve every insert again.

The client's own way is a temporary file, which a kill leaves behind. A new file in memory for each insert leaves
nothing, and makes the kernel clear and give back its pages each time: a fifth of all CPU time of an insert.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

import pyarrow as pa

__all__ = ["Handover"]

_KEPT: Final = 96 << 20
"""Bytes that stay for the next insert; what a larger one took is given back."""
_STEP: Final = 4 << 20


class Handover:
    """One file, for one client and so for one insert at a time. Nothing of it outlives the process.

    Args:
        name: what it shows as among the process's files, after ``auditspan-insert-``.
    """

    def __init__(self, name: str) -> None:
        self._descriptor = os.memfd_create(f"auditspan-insert-{name}")
        self._pages: mmap.mmap | None = None

    @property
    def path(self) -> str:
        """Where the engine, in this process, finds the file."""
        return f"/proc/self/fd/{self._descriptor}"

    def write(self, rows: pa.Table) -> None:
        """Put ``rows`` into the file as an Arrow stream. What a longer one left behind lies beyond its end mark."""
        measured = pa.MockOutputStream()
        _write(rows, measured)
        pages = self._fit(measured.size())
        _write(rows, pa.FixedSizeBufferWriter(pa.py_buffer(pages)))

    def close(self) -> None:
        """Give everything back."""
        if self._descriptor >= 0:
            self._let_go()
            os.close(self._descriptor)
            self._descriptor = -1

    def _fit(self, size: int) -> mmap.mmap:
        have = len(self._pages) if self._pages is not None else 0
        if self._pages is None or have < size or (have > _KEPT and size <= _KEPT):
            self._let_go()
            whole = -(-size // _STEP) * _STEP
            os.ftruncate(self._descriptor, whole)
            self._pages = mmap.mmap(self._descriptor, whole)
        return self._pages

    def _let_go(self) -> None:
        if self._pages is not None:
            self._pages.close()
            self._pages = None


def _write(rows: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
