from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from auditspan.ledger.merkle import (
    EMPTY_ROOT,
    CompactRange,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    range_boundaries,
    verify_consistency,
    verify_inclusion,
    verify_range,
)

SIZES = st.integers(1, 70)


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(b"leaf %d" % number) for number in range(count)]


def root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, as it is written there."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\1" + root(hashes[:split]) + root(hashes[split:])).digest()


def subtrees(count: int):
    hashes = leaves(count)
    return lambda begin, end: root(hashes[begin:end])


def appended(hashes: list[bytes], begin: int = 0) -> CompactRange:
    tree = CompactRange(begin)
    for each in hashes:
        tree.append(each)
    return tree


def test_hashes_are_those_of_rfc_6962() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert node_hash(leaf_hash(b""), leaf_hash(b"\0")).hex() == (
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    )


@settings(deadline=None)
@given(SIZES)
def test_roots_equal_those_of_pymerkle_and_of_the_definition(count: int) -> None:
    theirs = InmemoryTree(algorithm="sha256")
    for number in range(count):
        theirs.append_entry(b"leaf %d" % number)
    assert appended(leaves(count)).root() == theirs.get_root() == root(leaves(count))


def test_an_empty_tree_has_the_empty_root() -> None:
    assert CompactRange().root() == EMPTY_ROOT == root([])


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_extending_is_appending_and_tells_the_same_nodes(begin: int, count: int) -> None:
    one, all_at_once = CompactRange(begin), CompactRange(begin)
    told: list[list[tuple[int, int, bytes]]] = [[], []]
    for each in leaves(count):
        one.append(each, lambda *node: told[0].append(node))
    all_at_once.extend(leaves(count), lambda *node: told[1].append(node))
    assert (one.roots, one.end, told[0]) == (all_at_once.roots, all_at_once.end, told[1])
    hashes = leaves(count)
    for level, index, digest in told[0]:
        first = (index << level) - begin
        assert digest == root(hashes[first : first + (1 << level)])


@settings(deadline=None)
@given(st.sampled_from([0, 0, 1, 6, 37]), st.lists(st.integers(0, 70), max_size=4))
def test_extending_by_columns_is_appending_and_tells_the_same_nodes(begin: int, counts: list[int]) -> None:
    one, by_columns = CompactRange(begin), CompactRange(begin)
    told: list[list[tuple[int, int, bytes]]] = [[], []]

    def tell(level: int, first: int, digests: np.ndarray) -> None:
        told[1].extend((level, first + place, digest.tobytes()) for place, digest in enumerate(digests))

    for count in counts:
        column = leaves(count)
        one.extend(column, lambda *node: told[0].append(node))
        by_columns.extend_column(np.frombuffer(b"".join(column), np.uint8).reshape(-1, 32), tell)
        assert (one.roots, one.end) == (by_columns.roots, by_columns.end)
    assert sorted(told[0]) == sorted(told[1])
    # What was appended so can be appended to as well.
    one.extend(leaves(5))
    by_columns.extend(leaves(5))
    assert one.roots == by_columns.roots


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 200))
def test_a_range_holds_the_roots_of_its_aligned_perfect_subtrees(begin: int, length: int) -> None:
    end = begin + length
    boundaries = range_boundaries(begin, end)
    covered = [leaf for first, level in boundaries for leaf in range(first, first + (1 << level))]
    assert covered == list(range(begin, end))
    assert all(first % (1 << level) == 0 for first, level in boundaries)
    hashes = leaves(length)
    expected = [root(hashes[first - begin : first - begin + (1 << level)]) for first, level in boundaries]
    assert appended(hashes, begin).roots == expected
    if begin == 0:
        assert len(expected) == end.bit_count()


@settings(deadline=None)
@given(SIZES, st.data())
def test_a_range_can_be_put_down_and_taken_up(count: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, count))
    before = appended(leaves(count)[:cut])
    again = CompactRange.of(0, cut, before.roots)
    copy = again.copy()
    again.extend(leaves(count)[cut:])
    assert again.root() == root(leaves(count))
    assert copy.end == cut


def test_a_range_with_roots_that_cannot_be_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="2 roots"):
        CompactRange.of(0, 3, [b"\0" * 32])
    with pytest.raises(ValueError, match="32 bytes"):
        CompactRange.of(0, 1, [b"\0" * 31])
    with pytest.raises(ValueError, match="leaf 0"):
        CompactRange(3).root()
    with pytest.raises(ValueError, match="or later"):
        CompactRange(-1)
    with pytest.raises(ValueError, match="cannot start"):
        appended(leaves(1)).append_subtree(b"\0" * 32, 1)


@settings(deadline=None)
@given(SIZES, st.data())
def test_a_range_proof_gives_the_root_and_nothing_else_does(size: int, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, size))
    end = data.draw(st.integers(begin, size))
    hashes = leaves(size)
    left = appended(hashes[:begin]).roots
    right = [root(hashes[first : first + (1 << level)]) for first, level in range_boundaries(end, size)]
    assert verify_range(left, hashes[begin:end], right, begin, size) == root(hashes)
    if begin < end:
        place = data.draw(st.integers(begin, end - 1))
        altered = [*hashes[begin:place], leaf_hash(b"altered"), *hashes[place + 1 : end]]
        assert verify_range(left, altered, right, begin, size) != root(hashes)
        with pytest.raises(ValueError, match=r"needs|roots"):
            verify_range(left, hashes[begin:end], [*right, b"\0" * 32], begin, size)
    if end - begin > 1:
        swapped = [hashes[begin + 1], hashes[begin], *hashes[begin + 2 : end]]
        assert verify_range(left, swapped, right, begin, size) != root(hashes)


@settings(deadline=None)
@given(SIZES, st.data())
def test_inclusion_proofs_hold_for_their_leaf_and_place_alone(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(index, size, subtrees(size))
    assert verify_inclusion(leaves(size)[index], index, size, path) == root(leaves(size))
    assert verify_inclusion(leaf_hash(b"other"), index, size, path) != root(leaves(size))
    with pytest.raises(ValueError, match="too long"):
        verify_inclusion(leaves(size)[index], index, size, [*path, b"\0" * 32])
    if path:
        with pytest.raises(ValueError, match="too short"):
            verify_inclusion(leaves(size)[index], index, size, path[:-1])


@settings(deadline=None)
@given(SIZES, st.data())
def test_consistency_proofs_hold_for_prefixes_alone(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(0, size))
    proof = consistency_proof(old, size, subtrees(size))
    old_root, new_root = root(leaves(old)), root(leaves(size))
    assert verify_consistency(old, old_root, size, new_root, proof)
    assert not verify_consistency(old, leaf_hash(b"x"), size, new_root, proof)
    assert not verify_consistency(old, old_root, size, new_root, [*proof, b"\0" * 32])
    if 0 < old < size:
        assert not verify_consistency(old, old_root, size, leaf_hash(b"x"), proof)
        for place in range(len(proof)):
            broken = [*proof[:place], leaf_hash(b"x"), *proof[place + 1 :]]
            assert not verify_consistency(old, old_root, size, new_root, broken)


def test_places_that_are_not_in_the_tree_are_refused() -> None:
    for ask in (lambda: inclusion_proof(3, 3, subtrees(3)), lambda: verify_inclusion(b"", 3, 3, [])):
        with pytest.raises(ValueError, match="no leaf 3"):
            ask()
    with pytest.raises(ValueError, match="no prefix"):
        consistency_proof(4, 3, subtrees(4))
    with pytest.raises(ValueError, match="no range"):
        range_boundaries(2, 1)
    assert not verify_consistency(4, b"", 3, b"", [])
