"""Who reads which partition where: places that are kept between two reads, so that what was fetched ahead is used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import JournalUnavailable
from auditspan.journal.kafka_cursor import Cursor

__all__ = ["Readers"]

_CURSORS: Final = 2
"""Readers of one partition at once: its processor, and whoever looks at it."""


class Readers:
    """Cursors of every partition, each lent to one thread at a time. Safe to call from several threads.

    Args:
        make: a cursor of a partition at an offset, with a link of its own.
        partitions: their names.
    """

    def __init__(self, make: Callable[[str, int], Cursor], partitions: Iterable[str]) -> None:
        self._make = make
        self._changed = threading.Condition()
        self._closed = False
        self._idle: dict[str, list[Cursor]] = {name: [] for name in partitions}
        self._busy = dict.fromkeys(self._idle, 0)

    @contextmanager
    def at(self, partition: str, offset: int) -> Iterator[Cursor]:
        """A cursor at ``offset``, for this thread alone; the one that stopped there, if there is one.

        Raises:
            JournalUnavailable: a new one cannot reach the brokers, or the journal is closed.
        """
        cursor = self._take(partition, offset)
        try:
            if cursor is None:
                cursor = self._make(partition, offset)
            elif cursor.offset != offset:
                cursor.seek(offset)
            yield cursor
        except AuditSpanError as error:
            if cursor is not None and isinstance(error, JournalUnavailable):
                # A connection that refuses once may refuse for ever: the next reader gets a new one.
                cursor.link.close()
                cursor = None
            raise
        finally:
            self._give_back(partition, cursor)

    def close(self) -> None:
        """Let go of all connections; of those in use when they are given back."""
        with self._changed:
            self._closed = True
            idle = [cursor for cursors in self._idle.values() for cursor in cursors]
            self._idle = {name: [] for name in self._idle}
            self._changed.notify_all()
        for cursor in idle:
            cursor.link.close()

    def _take(self, partition: str, offset: int) -> Cursor | None:
        """An idle cursor, best the one at ``offset``; None where a new one may be made."""
        with self._changed:
            while True:
                if self._closed:
                    raise JournalUnavailable("The journal is closed.", remedy="Start the service again.")
                idle = self._idle[partition]
                chosen = next((one for one in idle if one.offset == offset), None)
                if chosen is None and len(idle) + self._busy[partition] >= _CURSORS and idle:
                    chosen = idle[0]
                if chosen is not None:
                    idle.remove(chosen)
                if chosen is not None or self._busy[partition] < _CURSORS:
                    self._busy[partition] += 1
                    return chosen
                self._changed.wait()

    def _give_back(self, partition: str, cursor: Cursor | None) -> None:
        with self._changed:
            self._busy[partition] -= 1
            keep = cursor is not None and not self._closed
            if keep and cursor is not None:
                self._idle[partition].append(cursor)
            self._changed.notify_all()
        if cursor is not None and not keep:
            cursor.link.close()
