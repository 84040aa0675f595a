"""Forget journal entries that are old and proven sealed: the journal is for delivery, the store and its evidence stay.

An entry goes when it is older than the operator wants to keep and lies below the journal offset that a signed
checkpoint covers. The second bound is not a matter of settings: what is not signed is nowhere else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from auditspan.journal.contract import Journal

__all__ = ["Trimmer", "first_to_keep"]

_log = logging.getLogger(__name__)

_NANOSECONDS_A_DAY: Final = 86_400 * 1_000_000_000
_STEP: Final = 4096
"""Entries forgotten in one call, so that a long arrears can be interrupted."""


class Position(Protocol):
    """What is asked of a log's status."""

    @property
    def partition(self) -> str:
        """The partition that feeds the log."""

    @property
    def signed_to(self) -> int:
        """Journal offset up to which everything is under a signed checkpoint; 0 when nothing is."""


def first_to_keep(journal: Journal, partition: str, before: int, signed_to: int) -> int:
    """Offset of the first entry of ``partition`` that must stay.

    It arrived at ``before`` (nanoseconds) or later, or nothing signed covers it. Arrival times are taken as ordered,
    which they are but for requests that were under way together.

    Raises:
        JournalUnavailable: the journal cannot be read.
    """
    low = journal.earliest(partition)
    high = min(signed_to, journal.high_water_mark(partition))
    if low < high and _arrival(journal, partition, low) >= before:
        return low
    while low < high:
        middle = (low + high) // 2
        if _arrival(journal, partition, middle) < before:
            low = middle + 1
        else:
            high = middle
    return low


class Trimmer:
    """Trims every partition of a journal. `run_once` is called from one thread.

    Args:
        journal: what is trimmed.
        positions: where every log stands now.
        keep_days: how long entries are kept; 0 keeps them for ever.
        stopping: whether to end early; the next round goes on.
        clock: now, in nanoseconds since 1970.
    """

    def __init__(
        self,
        journal: Journal,
        positions: Callable[[], Iterable[Position]],
        keep_days: float,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._journal = journal
        self._positions = positions
        self._keep = int(keep_days * _NANOSECONDS_A_DAY)
        self._stopping = stopping
        self._clock = clock

    def run_once(self) -> int:
        """Forget what may go now; how many entries that were.

        Raises:
            JournalUnavailable: the journal cannot be read, or its disk refused. Trying again is safe.
        """
        if not self._keep:
            return 0
        return sum(self._trim(at.partition, at.signed_to) for at in self._positions() if not self._stopping())

    def _trim(self, partition: str, signed_to: int) -> int:
        begin = trimmed = self._journal.earliest(partition)
        end = first_to_keep(self._journal, partition, self._clock() - self._keep, signed_to)
        while trimmed < end and not self._stopping():
            trimmed = min(trimmed + _STEP, end)
            self._journal.trim(partition, trimmed)
        if trimmed > begin:
            _log.info("%s: forgot entries %d to %d of the journal, which are sealed and signed.", partition, begin, end)
        return trimmed - begin


def _arrival(journal: Journal, partition: str, offset: int) -> int:
    return journal.read(partition, offset, max_entries=1, max_bytes=1)[0].arrival_time
