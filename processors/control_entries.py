"""The control log's entries: what processors and officers originate (evidence format, section 11)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from auditspan.canonical import JsonValue, canonical_json
from auditspan.journal.contract import CONTROL_PARTITION, EntryKind, Journal, NewEntry
from auditspan.ledger.commitments import LARGEST_LEAF

__all__ = ["ACTOR", "INTERNAL", "INTERNAL_AUTHENTICATION", "ControlLog", "heartbeat"]

INTERNAL: Final = "auditspan"
"""Emitter of the pipeline's own entries."""
INTERNAL_AUTHENTICATION: Final = "internal"
"""How it is known that they are the pipeline's own."""
ACTOR: Final = f"system:{INTERNAL}"
"""Who says what no person said."""

_OVERHEAD: Final = 1024


class ControlLog:
    """Journals control entries. Safe to call from several threads.

    Args:
        journal: where to; the control partition exists in every journal.
        clock: now, in nanoseconds since 1970.
    """

    def __init__(self, journal: Journal, clock: Callable[[], int] = time.time_ns) -> None:
        self._journal = journal
        self._clock = clock

    @property
    def journal(self) -> Journal:
        """Where it appends to: what others journaled meanwhile is read there."""
        return self._journal

    def append(self, name: str, actor: str, body: JsonValue) -> int:
        """Journal one entry of class ``name``; its offset, once it is durable. It is sealed soon after.

        Raises:
            ValueError: ``body`` has no canonical form, or is too long for a leaf.
            JournalUnavailable: nothing was made durable.
        """
        return self._journal.append([self._entry(name, actor, body)]).result()[0]

    def append_all(self, entries: Sequence[tuple[str, str, JsonValue]]) -> int:
        """Journal ``(class, actor, body)`` entries, all or none, with one arrival time; the last one's offset."""
        now = self._clock()
        return self._journal.append([self._entry(*entry, now=now) for entry in entries]).result()[-1]

    def _entry(self, name: str, actor: str, body: JsonValue, now: int | None = None) -> tuple[str, NewEntry]:
        said = canonical_json({"class": name, "actor": actor, "body": body})
        if len(said) > LARGEST_LEAF - _OVERHEAD:
            raise ValueError(f"a control entry of {len(said)} bytes does not fit a leaf")
        arrival = self._clock() if now is None else now
        return CONTROL_PARTITION, NewEntry(EntryKind.CONTROL, INTERNAL, INTERNAL_AUTHENTICATION, arrival, "jcs", said)


def heartbeat(now: int) -> NewEntry:
    """The entry that says that a partition was alive at ``now`` (ns) while nothing came."""
    return NewEntry(EntryKind.HEARTBEAT, INTERNAL, INTERNAL_AUTHENTICATION, now, "jcs", b"{}")
