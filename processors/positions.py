"""Where a log stands: what is measured, shown, and asked before the journal forgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from auditspan.journal.contract import Journal, PositionLost

from .stored_tree import Tree

__all__ = ["LogStatus", "log_status"]

_LONGEST_BODY: Final = 1


@dataclass(frozen=True, slots=True)
class LogStatus:
    """Where one log stands. ``lag_seconds`` is the age of the oldest entry that is not sealed; times are ns."""

    partition: str
    log_id: str
    journal_end: int
    sealed_to: int
    lag_entries: int
    lag_seconds: float
    leaves: int
    watermark: int
    checkpoint_size: int
    checkpoint_signed_at: int | None
    signed_to: int
    sealed_here: bool


def log_status(
    journal: Journal,
    *,
    partition: str,
    log_id: str,
    tree: Tree,
    watermark: int,
    waiting_since: int | None,
    signed: tuple[Tree, int] | None,
    sealed_here: bool,
    now: int,
) -> LogStatus:
    """The status of a log that was last seen as ``tree``.

    ``waiting_since`` is the arrival time of its oldest entry that is taken and not sealed, where that is known without
    reading the journal. ``signed`` is what was signed and kept last, and when.

    Raises:
        JournalUnavailable: the journal cannot be read.
    """
    end = journal.high_water_mark(partition)
    if end <= tree.sealed_to:
        waiting_since = None
    elif waiting_since is None:
        waiting_since = _arrival(journal, partition, tree.sealed_to)
    age = (now - waiting_since) / 1e9 if waiting_since is not None else 0.0
    return LogStatus(
        partition=partition,
        log_id=log_id,
        journal_end=end,
        sealed_to=tree.sealed_to,
        lag_entries=max(end - tree.sealed_to, 0),
        lag_seconds=max(age, 0.0),
        leaves=tree.size,
        watermark=watermark,
        checkpoint_size=signed[0].size if signed is not None else 0,
        checkpoint_signed_at=signed[1] if signed is not None else None,
        signed_to=signed[0].sealed_to if signed is not None else 0,
        sealed_here=sealed_here,
    )


def _arrival(journal: Journal, partition: str, offset: int) -> int | None:
    try:
        waiting = journal.read(partition, offset, max_entries=1, max_bytes=_LONGEST_BODY)
    except PositionLost:  # sealed, signed and trimmed since we looked at the tree
        return None
    return waiting[0].arrival_time if waiting else None
