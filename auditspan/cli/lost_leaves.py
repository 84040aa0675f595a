"""What a store lacks of what was signed, log by log."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from auditspan.cli.reading import open_reader
from auditspan.config import Settings
from auditspan.data_directory import DataDirectory
from auditspan.journal.opening import open_journal
from auditspan.ledger.trust import load_trust
from auditspan.processors.control import opened_logs
from auditspan.processors.signing import journaled_checkpoints, remembered_places
from auditspan.processors.signing_keys import signing_keys
from auditspan.processors.stored_tree import SignedTree, StoredTree, Tree, contains

__all__ = ["LostLeaves", "lost_leaves"]


@dataclass(frozen=True, slots=True)
class LostLeaves:
    """A log as it is ``stored``, and the largest tree of it that was ``signed`` as far as is known here.

    ``whole``: whether what is stored begins with all that is known to be signed.
    """

    partition: str
    log_id: str
    stored: Tree
    signed: SignedTree | None
    whole: bool

    @property
    def signed_size(self) -> int:
        """Leaves of the largest tree that was signed."""
        return 0 if self.signed is None else self.signed.size

    @property
    def lost(self) -> str:
        """In words."""
        if self.whole:
            return "nothing that is known here"
        if self.signed_size > self.stored.size:
            return f"leaves {self.stored.size:,} to {self.signed_size - 1:,}"
        return "it is another tree than the one that was signed"

    def to_json(self) -> dict[str, Any]:
        """As a program reads it."""
        return {
            "partition": self.partition,
            "log_id": self.log_id,
            "stored": self.stored.size,
            "signed": self.signed_size,
            "lost": not self.whole,
        }

    def row(self) -> dict[str, str]:
        """As a person reads it."""
        return {
            "log": f"{self.partition} ({self.log_id})",
            "in the store": f"{self.stored.size:,}",
            "signed": f"{self.signed_size:,}",
            "lost": self.lost,
        }


def lost_leaves(directory: DataDirectory, settings: Settings) -> list[LostLeaves]:
    """Compare the store with the signer's state and the control partition, which are outside of it.

    Raises:
        AuditSpanError: journal or store cannot be read, nothing was sealed, or a log does not end with a batch.
    """
    trust = load_trust(directory.trust)
    found = []
    with (
        closing(open_journal(directory, settings, read_only=True)) as journal,
        open_reader(directory.root, None, settings) as reading,
    ):
        store = reading.store
        logs = opened_logs(journal, store)
        keys = signing_keys(journal, store, logs[0].log_id, trust.deployment, trust.keys).known
        journaled = journaled_checkpoints(journal, trust.deployment, keys, [one.log_id for one in logs])
        for one in logs:
            known = [*remembered_places(directory.signer_state, one.log_id)]
            known += [journaled[one.log_id]] if one.log_id in journaled else []
            size = store.next_leaf(one.log_id)
            there = [tree for tree in known if contains(store, one.log_id, size, tree)]
            stored = StoredTree.after(store, one.log_id, max(there, key=_size, default=None)).look()
            signed = max(known, key=_size, default=None)
            found.append(LostLeaves(one.partition, one.log_id, stored, signed, len(there) == len(known)))
    return found


def _size(tree: SignedTree) -> int:
    return tree.size
