"""How much may be under way at once. More is refused at once and sent again, so that memory stays bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .outcome import Refusal, Refused

__all__ = ["Capacity", "Slot"]


class Slot:
    """The place of one request, with the bytes it holds."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self.held = 0

    def reserve(self, size: int) -> None:
        """Count ``size`` more bytes; safe to call from any thread.

        Raises:
            Refused: other requests hold too much. A request that is alone may hold whatever its own limits allow.
        """
        self._capacity._reserve(self, size)


class Capacity:
    """At most ``requests`` requests, and about ``size`` bytes of them, at the same time."""

    def __init__(self, requests: int, size: int) -> None:
        self._requests = requests
        self._size = size
        self._guard = threading.Lock()
        self._taken = 0
        self._held = 0

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """A place for one request while the block runs.

        Raises:
            Refused: all places are taken.
        """
        with self._guard:
            if self._taken >= self._requests:
                raise Refused(Refusal.BUSY, f"{self._taken} requests are in progress; send again.")
            self._taken += 1
        slot = Slot(self)
        try:
            yield slot
        finally:
            with self._guard:
                self._taken -= 1
                self._held -= slot.held

    def _reserve(self, slot: Slot, size: int) -> None:
        with self._guard:
            others = self._held - slot.held
            if others and self._held + size > self._size:
                raise Refused(Refusal.BUSY, f"Requests in progress hold {self._held} bytes; send again.")
            slot.held += size
            self._held += size
