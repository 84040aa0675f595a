from __future__ import annotations

import numpy as np
from auditspan.processors.gaps import PATIENCE
from auditspan.processors.streams import UNSEEN, Stream, advance, contains, from_sealed, runs
from hypothesis import given, settings
from hypothesis import strategies as st

batches = st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=6)


def int64s(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


def fresh(values: list[int], sealed: set[int]) -> list[int]:
    """Distinct and not sealed before, in order: what `advance` is given."""
    return [v for v in dict.fromkeys(values) if v not in sealed]


def missing(stream: Stream) -> set[int]:
    holes = stream.holes
    return {s for a, b in zip(holes.begin.tolist(), holes.end.tolist(), strict=True) for s in range(a, b)}


@settings(deadline=None)
@given(batches)
def test_a_stream_knows_exactly_what_was_sealed(drawn: list[list[int]]) -> None:
    stream, sealed, clock = UNSEEN, set[int](), 0
    for values in drawn:
        added = fresh(values, sealed)
        stream, _ = advance(stream, int64s(added), int64s(list(range(clock, clock + len(added)))))
        sealed |= set(added)
        clock += len(added)
        assert stream.highest == max(sealed, default=-1)
        assert missing(stream) == set(range(stream.highest + 1)) - sealed
        asked = list(range(45))
        assert contains(stream, int64s(asked)).tolist() == [s in sealed for s in asked]


@settings(deadline=None)
@given(batches)
def test_a_hole_was_seen_when_the_first_leaf_beyond_it_came(drawn: list[list[int]]) -> None:
    stream, order = UNSEEN, list[int]()
    for values in drawn:
        added = fresh(values, set(order))
        stream, _ = advance(stream, int64s(added), int64s([len(order) + i for i in range(len(added))]))
        order += added
    for end, seen_at in zip(stream.holes.end.tolist(), stream.holes.seen_at.tolist(), strict=True):
        assert seen_at == next(i for i, sequence in enumerate(order) if sequence >= end)


@settings(deadline=None)
@given(batches)
def test_restored_from_leaves_is_the_same_stream(drawn: list[list[int]]) -> None:
    stream, order = UNSEEN, list[int]()
    for values in drawn:
        added = fresh(values, set(order))
        stream, _ = advance(stream, int64s(added), int64s([len(order) + i for i in range(len(added))]))
        order += added
    if not order:
        return
    # Repetitions are leaves as well: a conflict is sealed under a sequence that was sealed before.
    leaves = [*order, order[0]]
    restored = from_sealed(int64s(leaves), int64s(list(range(len(leaves)))), 3 - PATIENCE + PATIENCE)
    assert restored.highest == stream.highest
    for name in ("begin", "end", "seen_at"):
        assert getattr(restored.holes, name).tolist() == getattr(stream.holes, name).tolist()
    assert restored.holes.declared.tolist() == [seen <= 3 for seen in stream.holes.seen_at.tolist()]


def test_what_was_declared_missing_and_comes_is_told() -> None:
    stream, _ = advance(UNSEEN, int64s([0, 9]), int64s([0, 1]))
    holes = stream.holes
    declared = Stream(9, type(holes)(holes.begin, holes.end, holes.seen_at, np.array([True])))
    later, closed = advance(declared, int64s([5, 12, 4, 11]), int64s([2, 3, 4, 5]))
    assert closed.tolist() == [4, 5]
    assert missing(later) == {1, 2, 3, 6, 7, 8, 10}


def test_runs() -> None:
    assert runs(int64s([1, 2, 3, 7, 9, 10])) == [(1, 4), (7, 8), (9, 11)]
    assert runs(int64s([])) == []
