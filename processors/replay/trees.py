"""Two trees of one log, the derived and the stored one, held against what was signed and against the kept nodes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from auditspan.ledger.hashing import Digests
from auditspan.ledger.merkle import CompactRange, leaf_hash
from auditspan.ledger.subtrees import TILE_LEVELS
from auditspan.store.contract import Store

from ..stored_tree import SignedTree
from .report import Findings

__all__ = ["Trees"]

_NODES_AT_ONCE: Final = 1024
_MOST_HASHES: Final = 1 << 20
"""Leaf hashes remembered since the last tree that was signed, to say which leaf is not as it was signed."""


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A leaf of which the journal alone does not say every byte."""

    index: int
    leaf: bytes


class Trees:
    """Grows with the batches of a replay.

    Args:
        signed: the trees that were signed, smallest first.
        store: where the kept nodes are.
        log_id: of which log.
        findings: where differences go.
        begin: the tree of what comes before; None: nothing does.
    """

    def __init__(
        self,
        signed: Iterable[SignedTree],
        store: Store,
        log_id: str,
        findings: Findings,
        begin: CompactRange | None = None,
    ) -> None:
        self._signed: Iterator[SignedTree] = iter(signed)
        self._next = next(self._signed, None)
        self._store = store
        self._log_id = log_id
        self._findings = findings
        self._derived = CompactRange() if begin is None else begin.copy()
        self._stored = self._derived
        self._good = self._derived.copy()
        self._since: list[Digests] = []
        self._suspects: list[_Suspect] = []
        self._softwares: set[str] = set()
        self._nodes: list[tuple[int, int, bytes]] = []
        self._bad_signed = False
        self.signed_to = 0
        """Size of the greatest signed tree that is the derived one."""

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._derived.end

    @property
    def good(self) -> CompactRange:
        """The greatest tree so far whose root is a signed one; what it began with while there is none."""
        return self._good.copy()

    def root(self) -> bytes:
        """Root of the derived tree."""
        return self._derived.root()

    def extend(self, derived: Digests, stored: Digests | None = None, batch_leaf: bytes | None = None) -> None:
        """Append leaf hashes; ``stored`` those of the store where they differ, ``batch_leaf`` the last leaf itself."""
        if stored is not None and self._stored is self._derived:
            self._stored = self._derived.copy()
        begin = self.size
        if batch_leaf is not None:
            self._softwares.add(json.loads(batch_leaf)["body"]["software"])
            self._suspects.append(_Suspect(begin + len(derived) - 1, batch_leaf))
        place = 0
        while place < len(derived):
            upto = len(derived)
            while self._next is not None and self._next.size <= begin + place:
                self._compare(self._next)
            if self._next is not None:
                upto = min(upto, self._next.size - begin)
            self._append(derived[place:upto], (derived if stored is None else stored)[place:upto])
            place = upto
        while self._next is not None and self._next.size <= self.size:
            self._compare(self._next)
        if len(self._nodes) >= _NODES_AT_ONCE:
            self._compare_nodes()

    def finish(self) -> None:
        """Compare the nodes that are left, and report trees that were signed beyond the end."""
        self._compare_nodes()
        while self._next is not None:
            self._findings.add(
                "root.differs", self.size, f"{self._next.size} leaves, as signed ({self._next.where})", self.size
            )
            self._next = next(self._signed, None)

    def _append(self, derived: Digests, stored: Digests) -> None:
        self._derived.extend_column(derived, self._keep)
        if self._stored is not self._derived:
            self._stored.extend_column(stored)
        if self._derived.end - self._good.end <= _MOST_HASHES:
            self._since.append(derived)

    def _keep(self, level: int, first: int, digests: Digests) -> None:
        if level % TILE_LEVELS == 0:
            self._nodes.extend((level, first + place, digest.tobytes()) for place, digest in enumerate(digests))

    def _compare(self, signed: SignedTree) -> None:
        self._next = next(self._signed, None)
        if signed.size != self.size:
            # Two trees of one size were signed, and the log has grown past: only a second history does that.
            if not self._bad_signed:
                self._differs(signed)
            return
        if self._derived.root() == signed.root:
            self._good, self._since, self._suspects = self._derived.copy(), [], []
            self.signed_to = signed.size
            return
        # Once a tree differs all later ones do; the first says where.
        if not self._bad_signed:
            self._differs(signed)
        self._bad_signed = True

    def _differs(self, signed: SignedTree) -> None:
        begin = self._good.end
        roots = f"root {_text(signed.root)} of {signed.size} leaves ({signed.where})", _text(self._derived.root())
        if self._stored is not self._derived and self._stored.root() == signed.root:
            self._findings.note(
                f"What is stored is what was signed ({signed.size:,} leaves), and the journal gives other leaves: "
                "the journal, the salt key or the reference was altered, and the store was not."
            )
            if self._findings.any_between(begin, signed.size):
                return
        leaf = self._altered_software(signed)
        if leaf is not None:
            self._findings.add("leaf.differs", leaf, "the software that was signed", "another", column="header")
        elif len(self._suspects) == 1 and not self._findings.any_between(begin, signed.size):
            self._findings.add("leaf.differs", self._suspects[0].index, *roots, column="header")
        else:
            self._findings.add("root.differs", begin, f"leaves {begin} to {signed.size - 1}: {roots[0]}", roots[1])

    def _altered_software(self, signed: SignedTree) -> int | None:
        """The batch leaf that gives the signed root with the software that other batches name.

        Nothing but this text is in a leaf and neither in the journal nor in the control log.
        """
        if not self._since or sum(map(len, self._since)) != signed.size - self._good.end:
            return None
        since = np.concatenate(self._since)
        for suspect in self._suspects:
            said = json.loads(suspect.leaf)
            for software in sorted(self._softwares - {said["body"]["software"]}):
                old, new = (
                    json.dumps(text, ensure_ascii=False).encode() for text in (said["body"]["software"], software)
                )
                other = suspect.leaf.replace(b'"software":' + old, b'"software":' + new)
                hashes = since.copy()
                hashes[suspect.index - self._good.end] = np.frombuffer(leaf_hash(other), np.uint8)
                tree = self._good.copy()
                tree.extend_column(hashes)
                if tree.root() == signed.root:
                    return suspect.index
        return None

    def _compare_nodes(self) -> None:
        by_level: dict[int, list[tuple[int, bytes]]] = {}
        for level, index, digest in self._nodes:
            by_level.setdefault(level, []).append((index, digest))
        self._nodes = []
        for level, nodes in by_level.items():
            kept = dict(
                zip(
                    *(
                        self._store.nodes(self._log_id, level, nodes[0][0], nodes[-1][0] + 1)[name].to_pylist()
                        for name in ("node_index", "hash")
                    ),
                    strict=True,
                )
            )
            for index, digest in nodes:
                if kept.get(index, digest) != digest:
                    begin, end = index << level, (index + 1) << level
                    self._findings.add(
                        "node.differs", begin, f"leaves {begin} to {end - 1}: {_text(digest)}", _text(kept[index])
                    )


def _text(root: bytes) -> str:
    return base64.b64encode(root).decode()
