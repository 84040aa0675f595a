"""The trees of a log that were signed, in order of size, each note's signature checked."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.ledger.checkpoint import CheckpointInvalid, open_checkpoint
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from ..stored_tree import SignedTree
from .report import Findings

__all__ = ["SignedTrees", "notes_in_control_leaf"]

_PAGE: Final = 512
_KEPT: Final = (
    "SELECT size, root, note FROM auditspan.checkpoints WHERE log_id = {log_id:String} "
    "AND size > {after:UInt64} AND size <= {greatest:UInt64} ORDER BY size, note LIMIT {page:UInt32}"
)
_AT: Final = (
    "SELECT DISTINCT size, root, note FROM auditspan.checkpoints WHERE log_id = {log_id:String} "
    "AND size = {size:UInt64} ORDER BY note"
)


class SignedTrees:
    """Iterates over what was signed of one log, in order of size, in constant memory.

    Args:
        store: where the notes are kept.
        log_id: of which log.
        origin: of its checkpoints.
        keys: those that may have signed.
        findings: where a note that is no good is reported.
        greatest: size beyond which kept notes are not looked at.
        more: trees remembered elsewhere: the signer's state, notes that only the control log has.
        after: size up to which kept notes are not looked at.
    """

    def __init__(
        self,
        store: Store,
        log_id: str,
        origin: str,
        keys: Sequence[Ed25519PublicKey],
        findings: Findings,
        *,
        greatest: int,
        more: Sequence[SignedTree] = (),
        after: int = 0,
    ) -> None:
        self._store = store
        self._log_id = log_id
        self._origin = origin
        self._keys = keys
        self._findings = findings
        self._greatest = greatest
        self._more = sorted((tree for tree in more if tree.size > after), key=lambda tree: tree.size)
        self._after = after
        self.opened = 0
        """Notes whose signature held."""

    def __iter__(self) -> Iterator[SignedTree]:
        """The trees, smallest first."""
        waiting = list(self._more)
        for tree in self._kept():
            while waiting and waiting[0].size <= tree.size:
                yield waiting.pop(0)
            yield tree
        yield from waiting

    def _kept(self) -> Iterator[SignedTree]:
        after = self._after
        while True:
            parameters = {"log_id": self._log_id, "after": after, "greatest": self._greatest, "page": _PAGE}
            rows = self._store.query(_KEPT, parameters).to_pylist()
            whole = len(rows) < _PAGE
            if not whole:
                # The last size may have more notes than fit: it is read as a whole.
                last = rows[-1]["size"]
                rows = [row for row in rows if row["size"] < last]
                rows += self._store.query(_AT, {"log_id": self._log_id, "size": last}).to_pylist()
            for row in rows:
                tree = self._open(row)
                if tree is not None:
                    yield tree
            if whole:
                return
            after = rows[-1]["size"]

    def _open(self, row: dict[str, Any]) -> SignedTree | None:
        size = int(row["size"])
        try:
            said = open_checkpoint(row["note"], self._origin, self._keys)
        except CheckpointInvalid as error:
            self._findings.add(error.code, None, f"a signed checkpoint of {size} leaves", error)
            return None
        self.opened += 1
        root = base64.b64encode(said.root).decode()
        if (said.size, root) != (size, row["root"]):
            self._findings.add(
                "checkpoint.differs", None, f"size {said.size}, root {root}, as signed", f"{size}, {row['root']}"
            )
        return SignedTree(said.size, said.root, "a kept checkpoint")


def notes_in_control_leaf(header: bytes) -> list[tuple[str, int, str]]:
    """``(log id, size, note)`` of what an ``audit.checkpoint`` leaf of the control log lists; nothing for other leaves.

    A leaf that cannot be read is for the replay of the control log to report.
    """
    try:
        said = json.loads(header)
        if said["class"] != EventClass.CHECKPOINT:
            return []
        body = said["body"]["body"]
        # Processors that share the signing journal the control log's own checkpoint as well.
        listed = [*body["checkpoints"], *filter(None, [body.get("control")])]
        return [(str(one["log_id"]), int(one["size"]), str(one["note"])) for one in listed]
    except (ValueError, KeyError, TypeError):
        return []
