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
from auditspan.processors.stored_tree import contains

__all__ = ["LostLeaves", "lost_leaves"]


@dataclass(frozen=True, slots=True)
class LostLeaves:
    """A log with ``stored`` leaves, of which ``signed`` were signed as far as is known here.

    ``whole``: whether what is stored begins with what was signed.
    """

    partition: str
    log_id: str
    stored: int
    signed: int
    whole: bool

    @property
    def lost(self) -> str:
        """In words."""
        if self.whole:
            return "nothing that is known here"
        if self.signed > self.stored:
            return f"leaves {self.stored:,} to {self.signed - 1:,}"
        return "it is another tree than the one that was signed"

    def to_json(self) -> dict[str, Any]:
        """As a program reads it."""
        return {
            "partition": self.partition,
            "log_id": self.log_id,
            "stored": self.stored,
            "signed": self.signed,
            "lost": not self.whole,
        }

    def row(self) -> dict[str, str]:
        """As a person reads it."""
        return {
            "log": f"{self.partition} ({self.log_id})",
            "in the store": f"{self.stored:,}",
            "signed": f"{self.signed:,}",
            "lost": self.lost,
        }


def lost_leaves(directory: DataDirectory, settings: Settings) -> list[LostLeaves]:
    """Compare the store with the signer's state and the control partition, which are outside of it.

    Raises:
        AuditSpanError: journal or store cannot be read, or nothing was sealed.
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
            stored = store.next_leaf(one.log_id)
            whole = all(contains(store, one.log_id, stored, tree) for tree in known)
            signed = max((tree.size for tree in known), default=0)
            found.append(LostLeaves(one.partition, one.log_id, stored, signed, whole))
    return found
