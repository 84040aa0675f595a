"""The columns give what the formulas of the ledger give one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from auditspan.processors.payloads import (
    facts_hashes,
    payload_hashes,
    payloads,
    salts,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from auditspan.ledger import commitments

LOG_ID = "0123456789abcdef" * 2


def some_salts(count: int) -> np.ndarray:
    return np.repeat(np.arange(count, dtype=np.uint8), 32).reshape(count, 32)


@pytest.mark.parametrize("length", [0, 32, 64, 65, 200])
def test_salts(length: int) -> None:
    key = bytes(range(length))
    offsets = np.array([0, 1, 2**40, 2**62], np.int64)
    ordinals = np.array([0, 7, 2**31 - 1, 3], np.int32)
    assert [salt.tobytes() for salt in salts(key, LOG_ID, offsets, ordinals)] == [
        commitments.leaf_salt(key, LOG_ID, int(offset), int(ordinal))
        for offset, ordinal in zip(offsets, ordinals, strict=True)
    ]
    assert salts(key, LOG_ID, offsets[:0], ordinals[:0]).shape == (0, 32)


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40)), max_size=8))
def test_payloads_and_their_hashes(rows: list[tuple[bytes, bytes, bytes]]) -> None:
    spans = pa.table(
        {n: pa.array([r[i] for r in rows], pa.binary()) for i, n in enumerate(("resource", "scope", "span"))}
    )
    made = payloads(spans)
    expected = [commitments.payload_of(*row) for row in rows]
    assert made.to_pylist() == expected
    salted = some_salts(len(rows))
    assert [digest.hex() for digest in payload_hashes(salted, made).to_pylist()] == [
        commitments.payload_hash(salt.tobytes(), payload) for salt, payload in zip(salted, expected, strict=True)
    ]


def test_facts_are_hashed_where_there_are_some() -> None:
    facts = pa.array([b"one", None, b"two", b"one"], pa.binary()).dictionary_encode()
    salted = some_salts(4)
    expected = [commitments.facts_hash(salted[i].tobytes(), f) if f else None for i, f in enumerate(facts.to_pylist())]
    assert [digest and digest.hex() for digest in facts_hashes(salted, facts).to_pylist()] == expected
    assert facts_hashes(salted[2:3], facts.slice(2, 1)).to_pylist()[0].hex() == expected[2]
