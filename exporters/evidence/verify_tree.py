"""Whether the leaves with the range proof give the signed root, and the roots that others saw on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from auditspan.ledger.checkpoint import Checkpoint
from auditspan.ledger.hashing import Digests
from auditspan.ledger.merkle import CompactRange, range_boundaries

from .report import Faults
from .statement import LogEvidence

__all__ = ["KnownRoots", "TreeCheck"]

_TOGETHER: Final = 32_768
"""Leaf hashes that are folded in at once: each level of the tree costs a query, however few there are."""

KnownRoots = Mapping[int, tuple[bytes, int]]
"""By tree size: the root that a leaf of the control log states, and the index of that leaf."""


class TreeCheck:
    """Folds the leaf hashes of an interval, as they come, into the tree of section 13."""

    def __init__(
        self, log: LogEvidence, checkpoint: Checkpoint | None, known: KnownRoots, control_id: str, faults: Faults
    ) -> None:
        self._log, self._checkpoint, self._faults, self._control_id = log, checkpoint, faults, control_id
        self._known = known
        self._sizes = sorted(size for size in known if log.begin <= size <= log.end)
        self.broken = False
        """Whether leaves are missing, so that there is no tree to compare."""
        self.tree: CompactRange | None = None
        self._waiting: list[Digests] = []
        self._next = log.begin
        try:
            self.tree = CompactRange.of(0, log.begin, log.left)
        except ValueError as error:
            faults.add("range.root", None, f"a proof of what comes before leaf {log.begin}", error)

    def extend(self, hashes: Digests) -> None:
        """Append the hashes of the next leaves."""
        if self.tree is None or self.broken:
            return
        self._waiting.append(hashes)
        self._next += len(hashes)
        if self._next - self.tree.end >= _TOGETHER:
            self._fold(self.tree)

    def _fold(self, tree: CompactRange) -> None:
        """Fold in what waits, and compare the roots that are known on the way."""
        if not self._waiting:
            return
        hashes, self._waiting = np.concatenate(self._waiting), []
        start = 0
        while self._sizes and self._sizes[0] <= tree.end + len(hashes) - start:
            stop = start + self._sizes[0] - tree.end
            tree.extend_column(hashes[start:stop])
            start = stop
            self._compare(self._sizes.pop(0), tree.root())
        tree.extend_column(hashes[start:])

    def finish(self) -> bytes | None:
        """Compare with the signed root; what was computed, if it could be."""
        if self.tree is None or self.broken or self._checkpoint is None:
            return None
        self._fold(self.tree)
        size = self._checkpoint.size
        if self.tree.end > size:
            return None
        boundaries = range_boundaries(self.tree.end, size)
        if len(boundaries) != len(self._log.right) or any(len(digest) != 32 for digest in self._log.right):
            self._faults.add(
                "range.root",
                None,
                f"{len(boundaries)} hashes from leaf {self.tree.end} to {size}",
                len(self._log.right),
            )
            return None
        for (_, level), digest in zip(boundaries, self._log.right, strict=True):
            self.tree.append_subtree(digest, level)
        root = self.tree.root()
        if root != self._checkpoint.root:
            self._faults.add("range.root", None, self._checkpoint.root.hex(), root.hex())
        elif size in self._known and size > self._log.end:
            self._compare(size, root)
        return root

    def _compare(self, size: int, root: bytes) -> None:
        stated, leaf = self._known[size]
        if stated != root:
            # Two histories of one log: the control log saw another tree of this size.
            self._faults.add(
                "consistency",
                (self._control_id, leaf),
                f"the root of the first {size} leaves of {self._log.log_id}: {root.hex()}",
                stated.hex(),
            )
