"""What is remembered of work done before, bounded by bytes: what strangers ask and send has any size."""

from __future__ import annotations

from collections.abc import Hashable
from sys import getsizeof
from typing import Final, Generic, TypeVar

__all__ = ["Memory", "weigh"]

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")

_PER_ENTRY: Final = 150
"""Bytes of a place in a dictionary that is at most half empty, with a tuple around the key."""


def weigh(value: object) -> int:
    """Bytes that a value of facts takes: a text, a number, or a tuple of them, whatever else refers to it too."""
    if not isinstance(value, tuple):
        return getsizeof(value)
    return getsizeof(value) + sum([weigh(each) if isinstance(each, tuple) else getsizeof(each) for each in value])


class Memory(Generic[_Key, _Value]):
    """Results by key. Forgets all when they are too many or take too much. Not safe for concurrent calls.

    Args:
        most: entries.
        most_bytes: of all entries together, as whoever keeps them weighs them. One that takes more than a sixteenth
            of it is not kept, so that no few of them drive out the rest.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._known: dict[_Key, _Value] = {}
        self.bytes = 0
        """What the entries take."""

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: _Key) -> _Value | None:
        """What was kept under ``key``; None when nothing is."""
        return self._known.get(key)

    def keep(self, key: _Key, value: _Value, size: int) -> None:
        """Remember ``value``, which takes ``size`` bytes with its key."""
        size += _PER_ENTRY
        if size > self._most_bytes // 16:
            return
        if len(self._known) >= self._most or self.bytes + size > self._most_bytes:
            self.clear()
        self._known[key] = value
        self.bytes += size

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
        self.bytes = 0
