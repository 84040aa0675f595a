"""Which sequences of a stream have been sealed: the highest one, and the holes below it.

A hole remembers when the log first saw beyond it, and whether it was declared as a gap, so that identity ("was this
sequence sealed before?") and gaps ("what has not come?") rest on one state (``docs/evidence-format.md`` sections 7, 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["NO_HOLES", "UNSEEN", "Holes", "Int64s", "Stream", "advance", "contains", "from_sealed", "runs"]

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Holes:
    """Disjoint, non-adjacent intervals ``[begin, end)`` of sequences that were not sealed, in order.

    ``seen_at`` is the arrival time (ns) of the earliest leaf at or beyond ``end``; ``declared`` says that an
    ``audit.gap`` leaf names the hole.
    """

    begin: Int64s
    end: Int64s
    seen_at: Int64s
    declared: Bools

    def __len__(self) -> int:
        """How many holes there are."""
        return len(self.begin)


_NONE: Final = np.empty(0, np.int64)
NO_HOLES: Final = Holes(_NONE, _NONE, _NONE, np.empty(0, np.bool_))


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Sealed are the sequences ``0 … highest`` without the holes."""

    highest: int
    holes: Holes = NO_HOLES


UNSEEN: Final = Stream(-1)
"""A stream of which nothing was sealed."""


def contains(stream: Stream, sequences: Int64s) -> Bools:
    """Whether each of ``sequences`` was sealed."""
    sealed: Bools = sequences <= stream.highest
    if len(stream.holes):
        hole = np.searchsorted(stream.holes.begin, sequences, side="right") - 1
        sealed &= ~((hole >= 0) & (sequences < stream.holes.end[np.maximum(hole, 0)]))
    return sealed


def advance(stream: Stream, sequences: Int64s, arrivals: Int64s) -> tuple[Stream, Int64s]:
    """The stream after ``sequences`` were sealed, and those of them that were declared missing, in order.

    ``sequences`` are distinct, were not sealed before, and stand in order of their leaves with their arrival times.
    """
    if not len(sequences):
        return stream, _NONE
    before = np.maximum.accumulate(np.concatenate(([stream.highest], sequences[:-1])))
    beyond = sequences > before
    jumps = sequences > before + 1
    holes = stream.holes
    if jumps.any():
        holes = Holes(
            np.concatenate((holes.begin, before[jumps] + 1)),
            np.concatenate((holes.end, sequences[jumps])),
            np.concatenate((holes.seen_at, arrivals[jumps])),
            np.concatenate((holes.declared, np.zeros(int(jumps.sum()), np.bool_))),
        )
    late = np.sort(sequences[~beyond])
    closed = _NONE
    if len(late):
        hole = np.searchsorted(holes.begin, late, side="right") - 1
        closed = late[holes.declared[hole]]
        holes = _without(holes, late, hole)
    return Stream(max(stream.highest, int(sequences.max())), holes), closed


def _without(holes: Holes, late: Int64s, hole: Int64s) -> Holes:
    """The holes without the sequences ``late``, of which each lies in the hole at ``hole``."""
    # Disjoint intervals keep their order, so sorted begins and sorted ends pair up again after every cut.
    begin = np.concatenate((holes.begin, late + 1))
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], np.sort(np.concatenate((holes.end, late)))
    parent = np.concatenate((np.arange(len(holes)), hole))[order]
    left = begin < end
    return Holes(begin[left], end[left], holes.seen_at[parent][left], holes.declared[parent][left])


def from_sealed(sequences: Int64s, arrivals: Int64s, declared_before: int, before: Stream = UNSEEN) -> Stream:
    """A stream from its sealed leaves in order of leaves, of which a sequence may occur more than once.

    Every batch declares all that is due, so a hole is declared exactly when it was seen at ``declared_before`` (ns) or
    earlier: the watermark of the last batch less the patience of section 9. ``before`` is what the stream was in the
    logs before this one.
    """
    _, first = np.unique(sequences, return_index=True)
    first.sort()
    first = first[~contains(before, sequences[first])]
    stream, _ = advance(before, sequences[first], arrivals[first])
    holes = stream.holes
    declared = holes.declared | (holes.seen_at <= declared_before)
    return Stream(stream.highest, Holes(holes.begin, holes.end, holes.seen_at, declared))


def runs(sequences: Int64s) -> list[tuple[int, int]]:
    """The maximal runs ``[from, to)`` of sorted, distinct sequences."""
    if not len(sequences):
        return []
    breaks = np.flatnonzero(np.diff(sequences) != 1)
    starts = np.concatenate(([0], breaks + 1))
    ends = np.concatenate((breaks, [len(sequences) - 1]))
    return [(int(a), int(b) + 1) for a, b in zip(sequences[starts], sequences[ends], strict=True)]
