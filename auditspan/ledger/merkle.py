"""The Merkle tree of RFC 6962 section 2.1 (RFC 9162 section 2.1) as small pure functions.

A log is never held whole: a `CompactRange` keeps the roots of the O(log n) perfect subtrees that cover a run of leaves,
which is all that appending, roots and range proofs need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from auditspan.ledger.hashing import Digests, hash_rows

__all__ = [
    "EMPTY_ROOT",
    "CompactRange",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "range_boundaries",
    "verify_consistency",
    "verify_inclusion",
    "verify_range",
]

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Root of the empty tree (RFC 6962 section 2.1)."""


def leaf_hash(leaf: bytes) -> bytes:
    """``SHA-256(0x00 ‖ leaf)`` (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """``SHA-256(0x01 ‖ left ‖ right)`` (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class CompactRange:
    """The roots of the aligned perfect subtrees that cover leaves ``[begin, end)``, from left to right.

    For ``begin = 0`` there is one root per set bit of ``end``, largest first.
    """

    __slots__ = ("_levels", "_roots", "begin", "end")

    def __init__(self, begin: int = 0) -> None:
        if begin < 0:
            raise ValueError("a range begins at 0 or later")
        self.begin = begin
        self.end = begin
        self._roots: list[bytes] = []
        self._levels: list[int] = []

    @classmethod
    def of(cls, begin: int, end: int, roots: Sequence[bytes]) -> CompactRange:
        """The range ``[begin, end)`` with the given subtree roots.

        Raises:
            ValueError: the number of roots is not the one such a range has, or a root is not 32 bytes.
        """
        levels = [level for _, level in range_boundaries(begin, end)]
        if len(levels) != len(roots) or any(len(root) != 32 for root in roots):
            raise ValueError(f"the range [{begin}, {end}) needs {len(levels)} roots of 32 bytes")
        made = cls(begin)
        made.end, made._roots, made._levels = end, list(roots), levels
        return made

    @property
    def roots(self) -> list[bytes]:
        """Copies of the subtree roots, from left to right."""
        return list(self._roots)

    def copy(self) -> CompactRange:
        """An independent copy."""
        made = CompactRange(self.begin)
        made.end, made._roots, made._levels = self.end, list(self._roots), list(self._levels)
        return made

    def append(self, leaf: bytes, on_node: Callable[[int, int, bytes], None] | None = None) -> None:
        """Append one leaf *hash*. ``on_node(level, index, hash)`` is told every perfect subtree this completes."""
        self._push(leaf, 0, on_node)

    def extend(self, leaves: Iterable[bytes], on_node: Callable[[int, int, bytes], None] | None = None) -> None:
        """Append leaf hashes in order; the same as `append` for each."""
        for leaf in leaves:
            self._push(leaf, 0, on_node)

    def extend_column(self, leaves: Digests, on_nodes: Callable[[int, int, Digests], None] | None = None) -> None:
        """Append a column of leaf hashes; the same as `append` for each, hashed level by level.

        ``on_nodes(level, first index, hashes)`` is told the perfect subtrees of a level that this completes, in order.
        """
        level, start, nodes = 0, self.end, leaves
        self.end += len(leaves)
        left: list[tuple[int, bytes]] = []
        right: list[tuple[int, bytes]] = []
        while len(nodes):
            if start & 1:
                # The left sibling is the last root there is, or lies before the range.
                if self._levels and self._levels[-1] == level and not left:
                    self._levels.pop()
                    nodes = np.concatenate((np.frombuffer(self._roots.pop(), np.uint8)[np.newaxis], nodes))
                    start -= 1
                else:
                    left.append((level, nodes[0].tobytes()))
                    nodes, start = nodes[1:], start + 1
            if len(nodes) & 1:
                right.append((level, nodes[-1].tobytes()))
            pairs = len(nodes) // 2
            joined = np.empty((pairs, 65), np.uint8)
            joined[:, 0] = 1
            joined[:, 1:] = nodes[: 2 * pairs].reshape(pairs, 64)
            level, start, nodes = level + 1, start >> 1, hash_rows(joined)
            if on_nodes is not None and pairs:
                on_nodes(level, start, nodes)
        for at, digest in (*left, *reversed(right)):
            self._roots.append(digest)
            self._levels.append(at)

    def append_subtree(self, root: bytes, level: int) -> None:
        """Append a perfect subtree of ``2**level`` leaves.

        Raises:
            ValueError: the range does not end at a multiple of ``2**level``.
        """
        if self.end & ((1 << level) - 1):
            raise ValueError(f"a subtree of 2^{level} leaves cannot start at leaf {self.end}")
        self._push(root, level, None)

    def _push(self, digest: bytes, level: int, on_node: Callable[[int, int, bytes], None] | None) -> None:
        start, size = self.end, 1 << level
        while self._levels and self._levels[-1] == level and (start >> level) & 1:
            digest = node_hash(self._roots.pop(), digest)
            self._levels.pop()
            level += 1
            start -= start & ((1 << level) - 1)
            if on_node is not None:
                on_node(level, start >> level, digest)
        self._roots.append(digest)
        self._levels.append(level)
        self.end += size

    def root(self) -> bytes:
        """Root of the tree of size ``end`` (RFC 6962 section 2.1).

        Raises:
            ValueError: the range does not begin at leaf 0.
        """
        if self.begin:
            raise ValueError("only a range from leaf 0 has a root")
        if not self._roots:
            return EMPTY_ROOT
        digest = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            digest = node_hash(left, digest)
        return digest


def range_boundaries(begin: int, end: int) -> list[tuple[int, int]]:
    """``(first leaf, level)`` of the aligned perfect subtrees that cover ``[begin, end)``, from left to right.

    At most ``2 * ceil(log2(end))`` of them.
    """
    if not 0 <= begin <= end:
        raise ValueError(f"[{begin}, {end}) is no range")
    covering = []
    position = begin
    while position < end:
        aligned = (position & -position).bit_length() - 1 if position else end.bit_length()
        level = min(aligned, (end - position).bit_length() - 1)
        covering.append((position, level))
        position += 1 << level
    return covering


def verify_range(
    left: Sequence[bytes], leaves: Iterable[bytes], right: Sequence[bytes], begin: int, size: int
) -> bytes:
    """The root of the tree of ``size`` leaves that these leaf hashes at ``[begin, …)`` and the proof give.

    The caller compares it with the signed root (evidence format, section 13).

    Raises:
        ValueError: the proof does not have the shape that the range needs.
    """
    tree = CompactRange.of(0, begin, left)
    tree.extend(leaves)
    boundaries = range_boundaries(tree.end, size)
    if len(boundaries) != len(right):
        raise ValueError(
            f"the range ends at {tree.end}: to reach {size} it needs {len(boundaries)} hashes, not {len(right)}"
        )
    for (_, level), digest in zip(boundaries, right, strict=True):
        tree.append_subtree(digest, level)
    return tree.root()


def inclusion_proof(index: int, size: int, subtree: Callable[[int, int], bytes]) -> list[bytes]:
    """``PATH(index, D[size])`` (RFC 6962 section 2.1.1). ``subtree(begin, end)`` gives ``MTH(D[begin:end])``."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        split = begin + _largest_power_below(end - begin)
        if index < split:
            path.append(subtree(split, end))
            end = split
        else:
            path.append(subtree(begin, split))
            begin = split
    path.reverse()
    return path


def verify_inclusion(digest: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a leaf hash and its path give (RFC 9162 section 2.1.3.2).

    Raises:
        ValueError: the path does not have the length such a place in such a tree needs.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    first, last, result = index, size - 1, digest
    for sibling in path:
        if last == 0:
            raise ValueError("the inclusion path is too long")
        if first & 1 or first == last:
            result = node_hash(sibling, result)
            while first and not first & 1:
                first >>= 1
                last >>= 1
        else:
            result = node_hash(result, sibling)
        first >>= 1
        last >>= 1
    if last:
        raise ValueError("the inclusion path is too short")
    return result


def consistency_proof(old: int, size: int, subtree: Callable[[int, int], bytes]) -> list[bytes]:
    """``PROOF(old, D[size])`` (RFC 6962 section 2.1.2). ``subtree(begin, end)`` gives ``MTH(D[begin:end])``."""
    if not 0 <= old <= size:
        raise ValueError(f"a tree of {old} leaves is no prefix of one of {size}")
    if old in (0, size):
        return []
    proof: list[bytes] = []
    begin, end, whole = 0, size, True
    while True:
        length = end - begin
        if old - begin == length:
            if not whole:
                proof.append(subtree(begin, end))
            break
        split = begin + _largest_power_below(length)
        if old <= split:
            proof.append(subtree(split, end))
            end = split
        else:
            proof.append(subtree(begin, split))
            begin, whole = split, False
    proof.reverse()
    return proof


def verify_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of ``old`` leaves is a prefix of that of ``size`` leaves (RFC 9162 section 2.1.4.2)."""
    if not 0 <= old <= size:
        return False
    if old == size:
        return not proof and old_root == root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    first, last = old - 1, size - 1
    while first & 1:
        first >>= 1
        last >>= 1
    first_root = second_root = path[0]
    for digest in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            first_root = node_hash(digest, first_root)
            second_root = node_hash(digest, second_root)
            while first and not first & 1:
                first >>= 1
                last >>= 1
        else:
            second_root = node_hash(second_root, digest)
        first >>= 1
        last >>= 1
    return last == 0 and first_root == old_root and second_root == root


def _largest_power_below(length: int) -> int:
    """The largest power of two smaller than ``length`` (RFC 6962 section 2.1: ``k < n <= 2k``)."""
    return 1 << (length - 1).bit_length() - 1
