from __future__ import annotations

import numpy as np
import pyarrow as pa
from auditspan.processors.foreign import NEVER, WINDOW, ForeignIdentities, fixed_width
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=1, max_size=8), max_size=30))
def test_the_latest_watermark_of_every_hash_is_known(batches: list[list[tuple[int, int]]]) -> None:
    # Runs are spilled and left unmerged early, so that all their kinds take part.
    foreign = ForeignIdentities(in_memory=4, largest=16)
    latest: dict[int, int] = {}
    for batch in batches:
        foreign.add(np.array([key for key, _ in batch], np.uint64), np.array([mark for _, mark in batch], np.int64))
        for key, mark in batch:
            latest[key] = max(mark, latest.get(key, NEVER))
    asked = list(range(31))
    assert foreign.last_seen(np.array(asked, np.uint64)).tolist() == [latest.get(key, NEVER) for key in asked]


def test_memory_is_given_back_after_the_window() -> None:
    foreign = ForeignIdentities(largest=8)
    for day in range(40):
        mark = day * WINDOW // 7
        foreign.add(np.arange(day * 8, day * 8 + 8, dtype=np.uint64), np.full(8, mark, np.int64))
    assert len(foreign) <= 8 * 8
    assert foreign.last_seen(np.array([0, 39 * 8], np.uint64)).tolist() == [NEVER, 39 * WINDOW // 7]


def test_a_hash_takes_all_of_the_identity_into_account() -> None:
    foreign = ForeignIdentities()
    base = (1, 2, 3, 4)
    varied = [base, (9, 2, 3, 4), (1, 9, 3, 4), (1, 2, 9, 4), (1, 2, 3, 9)]
    emitter, high, low, span = np.array(varied, np.uint64).T
    hashes = foreign.hash(emitter, np.stack([high, low], axis=1), span)
    assert len(set(hashes.tolist())) == len(varied)
    assert foreign.emitter_hash("a") != foreign.emitter_hash("b")


def test_ids_are_read_from_a_slice() -> None:
    ids = pa.array([bytes([i]) * 16 for i in range(5)], pa.binary()).slice(2, 2)
    assert fixed_width(ids, 2).tobytes() == bytes([2]) * 16 + bytes([3]) * 16
    assert fixed_width(pa.array([], pa.binary()), 2).shape == (0, 2)
