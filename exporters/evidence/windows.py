"""Two sides of an interval, revealed and withheld, merged by leaf index into windows of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .leaf_files import READ_EVENTS
from .report import Faults

__all__ = ["Window", "merge"]

_LARGEST_INDEX: Final = 2**53 - 1
_NOTHING: Final = pa.RecordBatch.from_pylist([], schema=READ_EVENTS)


@dataclass(frozen=True, slots=True)
class Window:
    """Leaves in order of their index, which rises from window to window.

    ``revealed`` tells which of them stand in ``events/`` (or ``control/``); ``events`` holds those rows whole.
    """

    index: npt.NDArray[np.int64]
    headers: pa.Array
    revealed: npt.NDArray[np.bool_]
    events: pa.RecordBatch


def merge(
    log_id: str,
    begin: int,
    end: int,
    events: Iterator[pa.RecordBatch],
    withheld: Iterator[pa.RecordBatch],
    faults: Faults,
) -> Iterator[Window]:
    """The leaves of both sides in order.

    What is out of order, outside ``[begin, end)`` or there twice is a fault and left out; holes are left to the caller,
    who sees the indexes.
    """
    left, right = _Side(log_id, begin, end, events, faults), _Side(log_id, begin, end, withheld, faults)
    while any([left.more(), right.more()]):
        cut = min((side.last for side in (left, right) if side.rows), default=0)
        yield _window(log_id, left.take(cut), right.take(cut), faults)


class _Side:
    """One side, kept strictly rising."""

    def __init__(self, log_id: str, begin: int, end: int, pieces: Iterator[pa.RecordBatch], faults: Faults) -> None:
        self._log_id, self._end, self._pieces, self._faults = log_id, end, pieces, faults
        self._next = begin
        self._begin = begin
        self.rows: pa.RecordBatch | None = None
        self._index: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def more(self) -> bool:
        while not self.rows:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self.rows = self._rising(piece)
        return True

    @property
    def last(self) -> int:
        return int(self._index[-1])

    def take(self, cut: int) -> pa.RecordBatch | None:
        """The rows up to and including the leaf ``cut``."""
        if not self.rows:
            return None
        count = int(np.searchsorted(self._index, cut, side="right"))
        taken = self.rows.slice(0, count)
        self.rows = self.rows.slice(count) if count < self.rows.num_rows else None
        self._index = self._index[count:]
        return taken

    def _rising(self, piece: pa.RecordBatch) -> pa.RecordBatch | None:
        raw = piece["leaf_index"].to_numpy()
        index = np.minimum(raw, _LARGEST_INDEX).astype(np.int64)
        before = np.maximum.accumulate(np.concatenate([[self._next - 1], index[:-1]]))
        good = (index > before) & (index < self._end)
        if not good.all():
            for place in np.flatnonzero(~good).tolist():
                self._complain(int(index[place]), int(before[place]))
            # A leaf beyond the end must not hide those that follow it.
            index = index[good]
            keep = (
                index > np.maximum.accumulate(np.concatenate([[self._next - 1], index[:-1]]))
                if len(index)
                else good[good]
            )
            piece, index = piece.filter(pa.array(good)).filter(pa.array(keep)), index[keep]
        self._index = index
        if len(index):
            self._next = int(index[-1]) + 1
        return piece if piece.num_rows else None

    def _complain(self, index: int, before: int) -> None:
        leaf = (self._log_id, index)
        if index == before:
            self._faults.add("leaf.duplicate", leaf, "each leaf once", "the leaf occurs twice")
        elif not self._begin <= index < self._end:
            self._faults.add("leaf.order", leaf, f"leaves in [{self._begin}, {self._end})", f"leaf {index}")
        else:
            self._faults.add("leaf.order", leaf, f"a leaf after {before}", f"leaf {index}")


def _window(log_id: str, left: pa.RecordBatch | None, right: pa.RecordBatch | None, faults: Faults) -> Window:
    if left is None or right is None:
        rows = left if right is None else right
        assert rows is not None
        index = rows["leaf_index"].to_numpy().astype(np.int64)
        revealed = np.full(len(index), right is None)
        return Window(index, rows["header"], revealed, _NOTHING if left is None else left)
    index = np.concatenate([left["leaf_index"].to_numpy(), right["leaf_index"].to_numpy()]).astype(np.int64)
    order = np.argsort(index, kind="stable")
    index, revealed = index[order], order < left.num_rows
    headers = pa.concat_arrays([left["header"], right["header"]])
    # Stable: of a leaf that stands on both sides the revealed row comes first and is the one that is kept.
    twice = np.flatnonzero(index[1:] == index[:-1]) + 1
    for leaf in index[twice].tolist():
        faults.add("leaf.duplicate", (log_id, leaf), "on one side of the query", "in events/ and in withheld/")
    if len(twice):
        keep = np.ones(len(index), bool)
        keep[twice] = False
        index, revealed, order = index[keep], revealed[keep], order[keep]
    return Window(index, headers.take(pa.array(order)), revealed, left)
