from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditspan.ledger.merkle import (
    CompactRange,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
    verify_range,
)
from auditspan.ledger.subtrees import Subtrees

LEAVES = [b"leaf %d" % i for i in range(70_000)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
KEPT: dict[tuple[int, int], bytes] = {}
_all = CompactRange()
_all.extend(HASHES, lambda level, index, digest: KEPT.__setitem__((level, index), digest))


def mth(begin: int, end: int) -> bytes:
    tree = CompactRange()
    tree.extend(HASHES[begin:end])
    return tree.root()


class Log:
    """The first leaves of the log above, with some of its nodes kept; counts what is read."""

    def __init__(self, size: int, lost: frozenset[tuple[int, int]] = frozenset()) -> None:
        self.size, self.lost, self.read = size, lost, 0

    def nodes(self, level: int, begin: int, end: int) -> Iterable[tuple[int, bytes]]:
        found = [(i, KEPT.get((level, i))) for i in range(begin, min(end, self.size >> level))]
        self.read += len(found)
        return [(i, digest) for i, digest in found if digest and (level, i) not in self.lost]

    def leaves(self, begin: int, end: int) -> Iterable[bytes]:
        self.read += end - begin
        return LEAVES[begin : min(end, self.size)]

    def subtrees(self) -> Subtrees:
        return Subtrees(self.nodes, self.leaves)


sizes = st.integers(1, 3000) | st.integers(65_000, 70_000)


@settings(max_examples=30, deadline=None)
@given(sizes, st.data())
def test_proofs_and_roots_are_those_of_the_whole_tree(size: int, data: st.DataObject) -> None:
    lost = data.draw(st.frozensets(st.tuples(st.just(8), st.integers(0, size >> 8))))
    subtrees = Log(size, lost).subtrees()
    root = mth(0, size)
    old, index = data.draw(st.integers(0, size)), data.draw(st.integers(0, size - 1))
    assert subtrees.compact_range(size).root() == root
    assert verify_consistency(old, mth(0, old), size, root, subtrees.consistency(old, size))
    assert verify_inclusion(HASHES[index], index, size, subtrees.inclusion(index, size)) == root
    begin, end = sorted((old, index))
    left, right = subtrees.roots(0, begin), subtrees.roots(end, size)
    assert verify_range(left, HASHES[begin:end], right, begin, size) == root


def test_missing_nodes_are_found_and_are_right() -> None:
    lost = frozenset({(8, 3), (8, 4), (16, 0)})
    found = Log(70_000, lost).subtrees().missing(700, 70_000)
    assert found == [(level, index, KEPT[level, index]) for level, index in sorted(lost)]
    assert Log(70_000).subtrees().missing(0, 70_000) == []


def test_a_proof_in_a_large_log_reads_little() -> None:
    log = Log(70_000)
    subtrees = log.subtrees()
    subtrees.consistency(69_000, 70_000)
    assert log.read < 4 * 256
    before = log.read
    subtrees.consistency(69_000, 70_000)
    assert log.read == before


def test_a_leaf_that_is_not_there_is_no_hash() -> None:
    with pytest.raises(LookupError):
        Log(10).subtrees().node(0, 10)


def test_only_ranges_of_the_tree_are_subtrees() -> None:
    subtrees = Log(100).subtrees()
    assert subtrees.subtree(64, 100) == mth(64, 100)
    for begin, end in ((1, 3), (3, 3), (4, 2), (32, 97)):
        with pytest.raises(ValueError, match="no subtree"):
            subtrees.subtree(begin, end)
