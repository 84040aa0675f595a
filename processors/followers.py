"""What the control log's owner works out of sealed events, and journals: allocations of licences, for instance.

It is in one sequence because one process does it, in one thread, and because the control partition's order decides
where two believed it: an entry names what it follows, and counts only where it follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from auditspan.policy.reference import Reference
from auditspan.store.contract import Store

from .control_entries import ControlLog

__all__ = ["Follower", "Following", "MakeFollower"]


@dataclass(frozen=True, slots=True)
class Following:
    """What a follower works with.

    Args:
        entries: journals what it works out; the control log seals it in the same round or the next.
        control_log: id of the control log, whose sealed leaves say what was worked out before.
        data_logs: ids of the open data logs, sorted.
        reference: the snapshot that is in force; None while it cannot be had.
    """

    entries: ControlLog
    control_log: str
    data_logs: Sequence[str]
    reference: Callable[[], Reference | None]


class Follower(Protocol):
    """Runs in the thread that signs, so a round of it is short."""

    def run_once(self, store: Store) -> int:
        """How many entries were journaled. What is left of the work is done in the next round.

        Raises:
            JournalUnavailable: nothing more could be journaled.
            StoreUnavailable: the store cannot be read now.
        """


MakeFollower = Callable[[Following], Follower]
"""Makes a follower when the control log was taken over: it begins with what is sealed, and remembers nothing else."""
