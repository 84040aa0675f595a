"""Journal entries read ahead, so that small batches do not cost a read each."""

from __future__ import annotations

from typing import Final

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import Entry, Journal, PositionLost

__all__ = ["EntriesGone", "EntryWindow"]

_BYTES: Final = 16 << 20
_ENTRIES: Final = 4_096


class EntriesGone(PositionLost):
    """Entries that a batch consumed are not in the journal any more."""


class EntryWindow:
    """The entries of one partition in order; what was taken may be taken again until something later is."""

    def __init__(self, journal: Journal, partition: str) -> None:
        self._journal = journal
        self._partition = partition
        self._entries: list[Entry] = []

    def take(self, offset: int, to: int) -> list[Entry]:
        """The entries ``[offset, to)``, all of which the journal must have.

        Raises:
            EntriesGone: they were trimmed meanwhile, or were never there to be consumed.
            AuditSpanError: the journal does not give them.
            JournalUnavailable: the journal cannot be read now.
        """
        held = self._entries
        if held and held[0].offset <= offset <= held[-1].offset + 1:
            held = held[offset - held[0].offset :]
        else:
            held = []
        while (following := held[-1].offset + 1 if held else offset) < to:
            held = held + self._read(following)
        self._entries = held
        return held[: to - offset]

    def _read(self, offset: int) -> list[Entry]:
        try:
            read = self._journal.read(self._partition, offset, max_entries=_ENTRIES, max_bytes=_BYTES)
        except PositionLost as error:
            raise EntriesGone(
                f"The journal no longer has entry {offset} of {self._partition}, which was there when the replay began "
                "or was sealed before it.",
                remedy="Run the replay again: it begins with what the journal has. If it stops here again, look at the "
                "journal's settings: something removes entries from its middle.",
                resumes_at=error.resumes_at,
            ) from error
        if not read or read[0].offset != offset:
            raise AuditSpanError(
                f"The journal does not give entry {offset} of {self._partition}, though it ends beyond it.",
                remedy="See that it can be read whole, then run the replay again.",
            )
        return read
