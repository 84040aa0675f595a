"""Durable, ordered, replayable entry of everything that is sealed."""

from auditspan.journal.contract import (
    CONTROL_PARTITION,
    Assignment,
    Entry,
    EntryKind,
    Journal,
    JournalFull,
    JournalUnavailable,
    NewEntry,
    PositionLost,
    SupportsProbe,
    data_partition,
)

__all__ = [
    "CONTROL_PARTITION",
    "Assignment",
    "Entry",
    "EntryKind",
    "Journal",
    "JournalFull",
    "JournalUnavailable",
    "NewEntry",
    "PositionLost",
    "SupportsProbe",
    "data_partition",
]
