"""An assignment that a test scripts: who owns what, and what was released and confirmed."""

from __future__ import annotations

import threading


class Scripted:
    """`Assignment` whose partitions the test gives and takes."""

    def __init__(self, *owned: str) -> None:
        self._changed = threading.Condition()
        self._owned = frozenset(owned)
        self.released_: list[str] = []
        self.confirmed: dict[str, int] = {}
        self.closed = False

    def give(self, *owned: str) -> None:
        with self._changed:
            self._owned = frozenset(owned)
            self._changed.notify_all()

    def poll(self, timeout: float) -> frozenset[str]:
        with self._changed:
            self._changed.wait(timeout)
            return self._owned

    def released(self, partition: str) -> None:
        self.released_.append(partition)

    def confirm(self, partition: str, offset: int) -> None:
        self.confirmed[partition] = offset

    def close(self) -> None:
        self.closed = True
