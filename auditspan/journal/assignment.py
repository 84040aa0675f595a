"""The assignment of a journal that one process has to itself: every partition, for ever."""

from __future__ import annotations

import threading

from auditspan.journal.contract import CONTROL_PARTITION, Journal

__all__ = ["AllPartitions"]


class AllPartitions:
    """`auditspan.journal.contract.Assignment` of one process that owns all partitions of ``journal``."""

    def __init__(self, journal: Journal) -> None:
        self._owned = frozenset([CONTROL_PARTITION, *journal.partitions])
        self._closed = threading.Event()

    def poll(self, timeout: float) -> frozenset[str]:
        """All partitions; none once it is closed."""
        return frozenset() if self._closed.wait(timeout) else self._owned

    def released(self, partition: str) -> None:
        """Nobody else waits for it."""

    def confirm(self, partition: str, offset: int) -> None:
        """Nobody else asks."""

    def close(self) -> None:
        """Own nothing any more."""
        self._closed.set()
