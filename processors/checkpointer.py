"""Signs what was read back, and seals the signatures in the control log (evidence format, sections 11 and 12).

One round: every open data log is signed, one ``audit.checkpoint`` entry names them all, the control log seals it, and
is signed itself. A round in which no data log grew makes no entry, or each would be the reason for the next. The entry
also repeats the control log's own last checkpoint, so that what was signed of every log is written outside the store.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from auditspan.canonical import JsonValue
from auditspan.ledger.signer import Signer
from auditspan.semconv import EventClass
from auditspan.store.contract import Store, StoredCheckpoint

from .control_entries import ACTOR, ControlLog
from .processor import LogProcessor
from .restore import store_subtrees
from .stored_tree import Tree

__all__ = ["Checkpointer", "Followed"]


class Followed(Protocol):
    """A data log as the signer sees it."""

    @property
    def log_id(self) -> str:
        """The log's id."""

    def look(self) -> Tree:
        """The log as it was read back by now.

        Raises:
            StoreUnavailable: the store cannot be read now.
        """


class Checkpointer:
    """Runs in one thread, together with the control log's processor, which it drives.

    Args:
        store: a client of its own.
        signer: the deployment's signer.
        journal_control: where the round's entry goes.
        control: processor of the control log.
        data: every open data log.
        signed: what was last signed of the control log, for the first entry; None when nothing was.
        clock: now, in nanoseconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        signer: Signer,
        journal_control: ControlLog,
        control: LogProcessor,
        data: Sequence[Followed],
        clock: Callable[[], int] = time.time_ns,
        signed: StoredCheckpoint | None = None,
    ) -> None:
        self._store = store
        self._signer = signer
        self._journal = journal_control
        self._control = control
        self._data = sorted(data, key=lambda log: log.log_id)
        self._clock = clock
        log_ids = [*(log.log_id for log in self._data), control.log_id]
        self._subtrees = {log_id: store_subtrees(store, log_id) for log_id in log_ids}
        self._control_signed = signed
        self._signed: dict[str, Tree] = {}
        self._kept: dict[str, tuple[Tree, int]] = {}
        self._unsaved: list[tuple[StoredCheckpoint, Tree]] = []

    def last(self, log_id: str) -> tuple[Tree, int] | None:
        """What was last signed and kept for a log, and when (ns); None before the first round."""
        return self._kept.get(log_id)

    def run_once(self) -> bool:
        """One round; whether anything was signed. Safe to call again after an error that may pass.

        Raises:
            SignerRefused: a log does not contain what was signed of it; nothing more may be signed.
            JournalUnavailable: the round's entry could not be journaled.
            StoreUnavailable: proofs could not be read or notes not be kept.
        """
        self._save()
        trees = {log.log_id: log.look() for log in self._data}
        grew = any(self._signed.get(log_id) != tree for log_id, tree in trees.items())
        if grew:
            checkpoints = [self._sign(log_id, tree) for log_id, tree in trees.items()]
            body: dict[str, JsonValue] = {"checkpoints": [_entry(checkpoint) for checkpoint in checkpoints]}
            if self._control_signed is not None:
                body["control"] = _entry(self._control_signed)
            self._journal.append(EventClass.CHECKPOINT, ACTOR, body)
            grown = [c for c in checkpoints if self._signed.get(c.log_id) != trees[c.log_id]]
            self._unsaved += [(checkpoint, trees[checkpoint.log_id]) for checkpoint in grown]
            self._signed.update(trees)
        while self._control.run_once(0):
            pass
        tree = self._control.tree
        if self._signed.get(self._control.log_id) != tree:
            self._control_signed = self._sign(self._control.log_id, tree)
            self._unsaved.append((self._control_signed, tree))
            self._signed[self._control.log_id] = tree
        kept = bool(self._unsaved)
        self._save()
        return kept

    def _sign(self, log_id: str, tree: Tree) -> StoredCheckpoint:
        subtrees = self._subtrees[log_id]
        note = self._signer.sign(log_id, tree.size, tree.root, lambda old: subtrees.consistency(old, tree.size))
        root = base64.b64encode(tree.root).decode()
        return StoredCheckpoint(log_id, tree.size, root, note, self._clock())

    def _save(self) -> None:
        if self._unsaved:
            self._store.append_checkpoints([checkpoint for checkpoint, _ in self._unsaved])
            self._kept.update({c.log_id: (tree, c.signed_at) for c, tree in self._unsaved})
            self._unsaved = []


def _entry(checkpoint: StoredCheckpoint) -> dict[str, JsonValue]:
    return {
        "log_id": checkpoint.log_id,
        "size": checkpoint.size,
        "root": checkpoint.root,
        "note": checkpoint.note,
    }
