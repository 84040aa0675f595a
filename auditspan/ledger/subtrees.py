"""Roots of any part of a sealed log, from the nodes that were kept and the leaves themselves.

Kept are the roots of perfect subtrees of 2^8, 2^16, … leaves, as in C2SP ``tlog-tiles``; what lies between is computed
from at most 256 hashes each. A node that is missing is computed from the level below, so that a lost one costs time and
never a proof.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from auditspan.ledger.merkle import (
    CompactRange,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    range_boundaries,
)

__all__ = ["KEPT_LEVELS", "TILE_LEVELS", "Subtrees"]

TILE_LEVELS: Final = 8
"""Levels between kept nodes."""
KEPT_LEVELS: Final = (8, 16, 24, 32, 40)
"""Levels whose nodes are kept: a log of 2^48 leaves is far away."""

_TILE: Final = 1 << TILE_LEVELS


class Subtrees:
    """Hashes of subtrees of one log. Not for several threads at once.

    Args:
        nodes: ``nodes(level, begin, end)`` gives ``(index, hash)`` of the kept nodes ``[begin, end)`` of a kept level.
        leaves: ``leaves(begin, end)`` gives the leaves (headers) ``[begin, end)`` in order.
        tiles: tiles of up to 256 hashes to remember, 8 KiB each.
    """

    def __init__(
        self,
        nodes: Callable[[int, int, int], Iterable[tuple[int, bytes]]],
        leaves: Callable[[int, int], Iterable[bytes]],
        tiles: int = 256,
    ) -> None:
        self._nodes = nodes
        self._leaves = leaves
        self._tiles: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self._most = tiles

    def node(self, level: int, index: int) -> bytes:
        """Root of the perfect subtree ``[index · 2^level, (index + 1) · 2^level)``, all of whose leaves must be sealed.

        Raises:
            LookupError: a leaf of it is not there.
        """
        base = level - level % TILE_LEVELS
        first = index << (level - base)
        return _fold(self._hashes(base, first, first + (1 << (level - base))))

    def subtree(self, begin: int, end: int) -> bytes:
        """``MTH(D[begin:end])`` of RFC 6962 section 2.1 for the ranges that its proofs are made of.

        Raises:
            ValueError: ``begin`` is no multiple of the power of two at or above the length: no proof asks for that.
        """
        length = end - begin
        if length < 1 or begin & ((1 << (length - 1).bit_length()) - 1):
            raise ValueError(f"[{begin}, {end}) is no subtree of the tree of RFC 6962")
        *left, digest = self.roots(begin, end)
        for sibling in reversed(left):
            digest = node_hash(sibling, digest)
        return digest

    def roots(self, begin: int, end: int) -> list[bytes]:
        """Roots of the aligned perfect subtrees that cover ``[begin, end)``: one side of a range proof (section 13)."""
        return [self.node(level, first >> level) for first, level in range_boundaries(begin, end)]

    def compact_range(self, size: int) -> CompactRange:
        """The tree of ``size`` leaves, to append to."""
        return CompactRange.of(0, size, self.roots(0, size))

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Proof that the tree of ``old`` leaves is a prefix of that of ``size`` (RFC 6962 section 2.1.2)."""
        return consistency_proof(old, size, self.subtree)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Proof that leaf ``index`` is in the tree of ``size`` (RFC 6962 section 2.1.1)."""
        return inclusion_proof(index, size, self.subtree)

    def missing(self, begin: int, end: int) -> list[tuple[int, int, bytes]]:
        """``(level, index, hash)`` of the nodes completed by leaves ``[begin, end)`` that were not kept."""
        found: list[tuple[int, int, bytes]] = []
        for level in KEPT_LEVELS:
            first, last = begin >> level, end >> level
            if first == last:
                break
            kept = {index for index, _ in self._nodes(level, first, last)}
            found += [(level, index, self.node(level, index)) for index in range(first, last) if index not in kept]
        return found

    def _hashes(self, base: int, begin: int, end: int) -> Sequence[bytes]:
        """Nodes ``[begin, end)`` of level ``base``, all in one tile.

        A tile is remembered from its first node as far as it was asked for: sealed nodes never change, and whoever asks
        for a part of a tile soon asks for another.
        """
        tile = begin // _TILE
        first = tile * _TILE
        hashes = self._tiles.setdefault((base, tile), [])
        self._tiles.move_to_end((base, tile))
        if first + len(hashes) < end:
            hashes += self._read(base, first + len(hashes), end)
        if len(self._tiles) > self._most:
            self._tiles.popitem(last=False)
        return hashes[begin - first : end - first]

    def _read(self, base: int, begin: int, end: int) -> list[bytes]:
        if base == 0:
            hashes = [leaf_hash(leaf) for leaf in self._leaves(begin, end)]
            if len(hashes) != end - begin:
                raise LookupError(f"leaves [{begin}, {end}) are not all in the store")
            return hashes
        kept = dict(self._nodes(base, begin, end))
        return [
            kept.get(index) or _fold(self._hashes(base - TILE_LEVELS, index * _TILE, (index + 1) * _TILE))
            for index in range(begin, end)
        ]


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Root over a power of two of hashes."""
    while len(hashes) > 1:
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]
