"""The tree of RFC 6962 section 2.1 by its definition, and the range proof of section 13."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf).digest()


class Tree:
    """Merkle tree hashes over leaf hashes. Full subtrees are remembered; the rest is the definition."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._hashes = [leaf_hash(leaf) for leaf in leaves]
        self._known: dict[tuple[int, int], bytes] = {}

    def subtree(self, begin: int, end: int) -> bytes:
        """MTH(D[begin:end])."""
        n = end - begin
        if n == 0:
            return hashlib.sha256(b"").digest()
        if n == 1:
            return self._hashes[begin]
        if (begin, end) not in self._known:
            k = 1
            while k * 2 < n:
                k *= 2
            pair = self.subtree(begin, begin + k) + self.subtree(begin + k, end)
            node = hashlib.sha256(b"\x01" + pair).digest()
            if n & (n - 1):
                return node
            self._known[begin, end] = node
        return self._known[begin, end]

    def root(self, size: int) -> bytes:
        """MTH(D[0:size])."""
        if not 0 <= size <= len(self._hashes):
            raise ValueError(f"there are {len(self._hashes)} leaves, not {size}")
        return self.subtree(0, size)

    def range_proof(self, begin: int, end: int, size: int) -> tuple[list[bytes], list[bytes]]:
        """``left`` and ``right`` of section 13 for the leaves [begin, end) of the tree of ``size``."""
        return self._cover(0, begin), self._cover(end, size)

    def _cover(self, begin: int, end: int) -> list[bytes]:
        """Roots of the largest aligned perfect subtrees that cover [begin, end), from left to right."""
        roots = []
        while begin < end:
            width = 1
            while begin % (2 * width) == 0 and begin + 2 * width <= end:
                width *= 2
            roots.append(self.subtree(begin, begin + width))
            begin += width
        return roots
