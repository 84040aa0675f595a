"""Columns hash to what hashlib gives value by value, few or many, whole or cut."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditspan.ledger.hashing import (
    as_binary,
    equal_width,
    from_binary,
    hash_columns,
    hash_rows,
    hash_values,
    leaf_hashes,
)
from auditspan.ledger.merkle import leaf_hash


def texts(count: int) -> list[bytes]:
    return [b"%d" % i * (i % 90) for i in range(count)]


def digests(values: list[bytes], prefix: bytes = b"") -> list[bytes]:
    return [hashlib.sha256(prefix + value).digest() for value in values]


def listed(hashes: np.ndarray) -> list[bytes]:
    return [digest.tobytes() for digest in hashes]


@pytest.mark.parametrize("count", [0, 1, 1_024, 1_025, 20_000])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_values(count: int, kind: pa.DataType) -> None:
    values = texts(count)
    assert listed(hash_values(pa.array(values, kind))) == digests(values)
    assert listed(hash_values(pa.array(values, kind), b"\x07")) == digests(values, b"\x07")


@pytest.mark.parametrize("count", [3, 5_000])
def test_a_part_of_a_column(count: int) -> None:
    values = texts(count)
    assert listed(hash_values(pa.array(values, pa.binary()).slice(1, count - 2))) == digests(values[1:-1])


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=30))
def test_any_values(values: list[bytes]) -> None:
    assert listed(hash_values(pa.array(values, pa.binary()))) == digests(values)


@pytest.mark.parametrize("count", [0, 2, 3_000])
def test_rows_of_one_width(count: int) -> None:
    rows = np.arange(count * 65, dtype=np.uint64).astype(np.uint8).reshape(count, 65)
    assert listed(hash_rows(rows)) == digests([row.tobytes() for row in rows])
    assert listed(hash_rows(rows[::2])) == digests([row.tobytes() for row in rows[::2]])
    assert equal_width(rows).to_pylist() == [row.tobytes() for row in rows]


def test_leaves_are_hashed_across_chunks_and_slices() -> None:
    leaves = texts(3_000)
    array = pa.array(leaves, pa.binary())
    chunked = pa.chunked_array([array.slice(0, 3), array.slice(3, 0), array.slice(3)])
    expected = [leaf_hash(leaf) for leaf in leaves]
    assert listed(leaf_hashes(chunked)) == expected
    assert listed(leaf_hashes(array)) == expected
    assert listed(leaf_hashes(pa.chunked_array([], pa.binary()))) == []


def test_digests_go_to_arrow_and_back() -> None:
    hashes = hash_values(pa.array([b"a", b"b", b"c"], pa.binary()))
    assert as_binary(hashes).to_pylist() == listed(hashes)
    for column in (as_binary(hashes), as_binary(hashes).cast(pa.binary())):
        assert listed(from_binary(column.slice(1))) == listed(hashes)[1:]


def test_a_null_has_no_hash() -> None:
    with pytest.raises(ValueError, match="null"):
        hash_values(pa.array([b"a", None], pa.binary()))


def test_without_the_engine_hashes_are_the_same() -> None:
    # A verifier needs no pipeline: the engine is one of the things that it may lack.
    program = (
        "import sys; sys.modules['datafusion'] = None\n"
        "import importlib.util; importlib.util.find_spec = lambda name, package=None: None\n"
        "import pyarrow as pa\n"
        "from auditspan.ledger.hashing import hash_values\n"
        "print(hash_values(pa.array([b'%d' % i for i in range(5000)], pa.binary())).tobytes().hex())"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said.strip() == b"".join(digests([b"%d" % i for i in range(5000)])).hex()


@pytest.mark.parametrize("lengths", [(3, 5), (1_500, 1_500), (0, 2_000), (4_000, 0, 7)])
def test_columns_that_are_hashed_together_are_hashed_as_each_alone(lengths: tuple[int, ...]) -> None:
    columns = [pa.array([b"%d" % number for number in range(length)], pa.binary()) for length in lengths]
    together = hash_columns(*columns)
    assert [listed(hashes) for hashes in together] == [digests(column.to_pylist()) for column in columns]


def test_a_null_among_columns_has_no_hash() -> None:
    with pytest.raises(ValueError, match="null"):
        hash_columns(pa.array([b"x"] * 3_000), pa.array([b"x", None]))
