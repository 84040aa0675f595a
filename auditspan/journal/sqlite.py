"""The journal in one SQLite file: durable entries on one machine, without a server.

One thread writes. What waits while a transaction is being made durable goes into the next one together (group commit),
so that the cost of an fsync is shared by everything that came meanwhile. Readers have connections of their own and, in
WAL mode, neither wait for the writer nor make it wait.

Durability rests on ``synchronous=FULL``: in WAL mode SQLite then syncs the log on every commit
(https://www.sqlite.org/pragma.html#pragma_synchronous). A future is resolved only after that.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auditspan.errors import AuditSpanError
from auditspan.journal import sqlite_file as file
from auditspan.journal.contract import Entry, EntryKind, JournalUnavailable, NewEntry, PositionLost, data_partition

__all__ = ["SqliteJournal"]

_Row = tuple[int, str, str, str, int, str, bytes]

_LARGEST_PARTITION_COUNT: Final = 1024
_CHECKPOINT_PAGES: Final = 2048
_LARGEST_COMMIT: Final = 32 * 1024 * 1024
_TRIM_SLICE: Final = 256
_VACUUM_SLICE: Final = 512
# Free pages kept for the next appends: giving them back costs a copy of as many from the end of the file.
_SPARE_PAGES: Final = 2048
_SPARE_SHARE: Final = 4


@dataclass(slots=True)
class _Submission:
    entries: Sequence[tuple[int, NewEntry]]
    size: int
    future: Future[list[int]]


@dataclass(slots=True)
class _Task:
    run: Callable[[sqlite3.Connection], None]
    future: Future[None]


class SqliteJournal:
    """`auditspan.journal.Journal` in the file ``path`` (with ``-wal``, ``-shm`` and ``.lock`` beside it, all 0600).

    Args:
        path: the database file; created when absent.
        data_partitions: how many data partitions the journal has. Fixed when it is created.
        queue_bytes: most bytes of bodies that may wait to be made durable; more is refused with `JournalUnavailable`,
            so that a slow disk never becomes a full memory.
        maximum_bytes: most bytes the database file may take; more is refused with `JournalFull`. None: no limit.
        read_only: take part beside a running writer: reads only, whatever the number of partitions.

    Raises:
        AuditSpanError: the file has another number of partitions, is no journal, or another process writes it.
        JournalUnavailable: the file cannot be opened or created.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        data_partitions: int = 1,
        *,
        queue_bytes: int = 64 * 1024 * 1024,
        maximum_bytes: int | None = None,
        read_only: bool = False,
    ) -> None:
        if not 1 <= data_partitions <= _LARGEST_PARTITION_COUNT:
            raise AuditSpanError(
                f"A journal cannot have {data_partitions} data partitions.",
                remedy=f"Choose a number from 1 to {_LARGEST_PARTITION_COUNT}.",
            )
        self._path = Path(path)
        self._queue_bytes = queue_bytes
        self._maximum_bytes = maximum_bytes
        self._read_only = read_only
        self._changed = threading.Condition()
        self._waiting: deque[_Submission] = deque()
        self._tasks: deque[_Task] = deque()
        self._pending_bytes = 0
        self._closed = False
        self._readers: list[sqlite3.Connection] = []
        self._lock_descriptor = -1 if read_only else file.lock(self._path)
        try:
            with self._opening() as connection:
                self._identity, self._ids = file.load(connection, self._path, None if read_only else data_partitions)
                self._next = {number: file.next_offset(connection, number) for number in self._ids.values()}
        except BaseException:
            self._unlock()
            raise
        self._partitions = tuple(data_partition(index) for index in range(len(self._ids) - 1))
        self._writer: threading.Thread | None = None
        if not read_only:
            self._writer = threading.Thread(target=self._write_until_closed, name="auditspan-journal", daemon=True)
            self._writer.start()

    @property
    def identity(self) -> str:
        """``sqlite:<random id>``, drawn when the journal was created and kept inside it."""
        return self._identity

    @property
    def partitions(self) -> Sequence[str]:
        """The data partitions, in order."""
        return self._partitions

    @property
    def own_partitions(self) -> Sequence[str]:
        """All of `partitions`: nobody else writes here."""
        return self._partitions

    @property
    def generations(self) -> Mapping[int, Sequence[str]]:
        """One: the number of partitions of a file never changes."""
        return {1: self.own_partitions}

    def settled(self, partition: str) -> bool:
        """False: every partition still grows."""
        return False

    @property
    def largest_body(self) -> int | None:
        """None: what collectors accept fits SQLite."""
        return None

    def append(self, entries: Sequence[tuple[str, NewEntry]]) -> Future[list[int]]:
        """Append all of ``entries`` in one transaction; the future gives their offsets once they are durable.

        It fails with `JournalFull` when the disk or ``maximum_bytes`` refused, with `JournalUnavailable` when too much
        is waiting already, on an I/O error, or when the journal is closed. Every append tries anew, so that the journal
        recovers by itself when the cause is gone.

        Raises:
            AuditSpanError: an entry names a partition that does not exist. No retry can help.
        """
        numbered = [(self._number(partition), entry) for partition, entry in entries]
        size = sum(len(entry.body) for _, entry in numbered)
        future: Future[list[int]] = Future()
        # A caller that goes away must not be able to cancel what the writer is about to commit.
        future.set_running_or_notify_cancel()
        with self._changed:
            if self._closed or self._read_only:
                future.set_exception(file.not_writable())
            elif self._pending_bytes and self._pending_bytes + size > self._queue_bytes:
                future.set_exception(
                    JournalUnavailable(
                        f"{self._pending_bytes} bytes wait to be made durable.",
                        remedy="Send again; if it stays so, the journal's disk is too slow for this load.",
                    )
                )
            else:
                self._pending_bytes += size
                self._waiting.append(_Submission(numbered, size, future))
                self._changed.notify_all()
        return future

    def probe(self) -> Future[None]:
        """A durable write that leaves no entry: whether an append would succeed now. Fails as `append` does."""

        def touch(connection: sqlite3.Connection) -> None:
            with file.transaction(connection):
                connection.execute(
                    "INSERT INTO meta VALUES ('probe', '1') ON CONFLICT (name) DO UPDATE SET value = value + 1"
                )

        return self._submit(touch)

    def read(self, partition: str, offset: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Entries of ``partition`` from ``offset`` on, in order; see `Journal.read`.

        Raises:
            PositionLost: ``offset`` was trimmed.
            JournalUnavailable: the file cannot be read.
        """
        number = self._number(partition)
        found: list[Entry] = []
        size = 0
        with self._reading() as connection:
            earliest = file.earliest(connection, number)
            if offset < earliest:
                raise PositionLost(
                    f"Offset {offset} of {partition} was trimmed; the earliest kept is {earliest}.",
                    remedy="Restore the journal from a backup, or start a new log.",
                    resumes_at=earliest,
                )
            rows = connection.execute(
                "SELECT position, kind, emitter, authentication, arrival_time, encoding, body FROM entries"
                " WHERE position >= ? AND position < ? ORDER BY position LIMIT ?",
                (file.position(number, offset), file.position(number + 1, 0), max(1, max_entries)),
            )
            for position, kind, emitter, authentication, arrival_time, encoding, body in rows:
                size += len(body)
                if found and size > max_bytes:
                    break
                at = position - file.position(number, 0)
                found.append(
                    Entry(partition, at, EntryKind(kind), emitter, authentication, arrival_time, encoding, body)
                )
        return found

    def earliest(self, partition: str) -> int:
        """The earliest offset of ``partition`` that `read` still gives."""
        number = self._number(partition)
        with self._reading() as connection:
            return file.earliest(connection, number)

    def high_water_mark(self, partition: str) -> int:
        """Offset that the next entry of ``partition`` will get."""
        number = self._number(partition)
        if self._read_only:
            with self._reading() as connection:
                return file.next_offset(connection, number)
        with self._changed:
            return self._next[number]

    def wait(self, partition: str, offset: int, timeout: float) -> bool:
        """Block until ``partition`` has an entry at ``offset`` or ``timeout`` seconds passed; whether it has."""
        number = self._number(partition)
        if self._read_only:
            raise AuditSpanError("A journal opened for reading cannot wait.", remedy="Ask for its high-water mark.")
        with self._changed:
            self._changed.wait_for(lambda: self._next[number] > offset or self._closed, timeout)
            return self._next[number] > offset

    def trim(self, partition: str, before: int) -> None:
        """Forget the entries of ``partition`` below ``before`` and give their space back to the file system.

        Done in slices, so that appends wait for tens of milliseconds at most. The next trim ends an interrupted one.

        Raises:
            JournalUnavailable: the disk refused.
        """
        number = self._number(partition)
        before = min(before, self.high_water_mark(partition))
        progress = {"left": 1}

        def forget(connection: sqlite3.Connection) -> None:
            with file.transaction(connection):
                connection.execute(
                    "UPDATE partitions SET earliest = max(earliest, ?) WHERE id = ?",
                    (before, number),
                )
                limit = file.position(number, file.earliest(connection, number))
                bounds = (file.position(number, 0), limit)
                lowest = connection.execute(
                    "SELECT min(position) FROM entries WHERE position >= ? AND position < ?", bounds
                ).fetchone()[0]
                if lowest is None:
                    progress["left"] = 0
                    return
                connection.execute(
                    "DELETE FROM entries WHERE position >= ? AND position < ?",
                    (lowest, min(lowest + _TRIM_SLICE, limit)),
                )

        def give_back(connection: sqlite3.Connection) -> None:
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            progress["left"] = max(0, free - max(_SPARE_PAGES, pages // _SPARE_SHARE))
            if progress["left"]:
                connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_SLICE})").fetchall()

        for step in (forget, give_back):
            progress["left"] = 1
            while progress["left"]:
                self._submit(step).result()

    def close(self) -> None:
        """Commit what waits, then let go of the files and the thread. More than once is harmless."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._writer is not None:
            self._writer.join()
        with self._changed:
            readers, self._readers = self._readers, []
        for connection in readers:
            connection.close()
        self._unlock()

    def _number(self, partition: str) -> int:
        number = self._ids.get(partition)
        if number is None:
            raise AuditSpanError(
                f"The journal has no partition {partition!r}.", remedy=f"It has {', '.join(self._ids)}."
            )
        return number

    def _submit(self, run: Callable[[sqlite3.Connection], None]) -> Future[None]:
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        with self._changed:
            if self._closed or self._read_only:
                future.set_exception(file.not_writable())
            else:
                self._tasks.append(_Task(run, future))
                self._changed.notify_all()
        return future

    def _write_until_closed(self) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._tasks or self._closed)
                group = self._take()
                task = self._tasks.popleft() if self._tasks else None
                if not group and task is None:
                    break
            connection = self._commit(connection, group) if group else connection
            connection = self._perform(connection, task) if task else connection
        if connection is not None:
            file.checkpoint_and_close(connection)

    def _take(self) -> list[_Submission]:
        group: list[_Submission] = []
        size = 0
        while self._waiting and (not group or size + self._waiting[0].size <= _LARGEST_COMMIT):
            group.append(self._waiting.popleft())
            size += group[-1].size
        return group

    def _commit(self, connection: sqlite3.Connection | None, group: list[_Submission]) -> sqlite3.Connection | None:
        """Make ``group`` durable in one transaction and resolve its futures; the connection to go on with."""
        try:
            connection = connection or self._connect()
            offsets, following = self._insert(connection, group)
        except Exception as error:  # the thread must outlive any fault: it is passed on to those who wait
            file.discard(connection)
            if len(group) > 1 and not isinstance(error, sqlite3.OperationalError):
                # Something in one submission cannot be stored: it must not take its neighbours with it.
                connection = None
                for submission in group:
                    connection = self._commit(connection, [submission])
                return connection
            self._settle(group, {})
            for submission in group:
                submission.future.set_exception(file.explained(error, self._path))
            return None
        self._settle(group, following)
        for submission, given in zip(group, offsets, strict=True):
            submission.future.set_result(given)
        return connection

    def _insert(
        self, connection: sqlite3.Connection, group: list[_Submission]
    ) -> tuple[list[list[int]], dict[int, int]]:
        following = dict(self._next)
        offsets: list[list[int]] = []
        rows: list[_Row] = []
        for submission in group:
            given = []
            for number, entry in submission.entries:
                offset = following[number]
                following[number] = offset + 1
                given.append(offset)
                rows.append(
                    (
                        file.position(number, offset),
                        entry.kind.value,
                        entry.emitter,
                        entry.authentication,
                        entry.arrival_time,
                        entry.encoding,
                        entry.body,
                    )
                )
            offsets.append(given)
        with file.transaction(connection):
            connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        return offsets, following

    def _settle(self, group: list[_Submission], following: dict[int, int]) -> None:
        with self._changed:
            self._pending_bytes -= sum(submission.size for submission in group)
            self._next.update(following)
            self._changed.notify_all()

    def _perform(self, connection: sqlite3.Connection | None, task: _Task) -> sqlite3.Connection | None:
        try:
            connection = connection or self._connect()
            task.run(connection)
        except Exception as error:  # as in _commit
            file.discard(connection)
            task.future.set_exception(file.explained(error, self._path))
            return None
        task.future.set_result(None)
        return connection

    def _connect(self) -> sqlite3.Connection:
        """A connection for the writer thread. After a fault it is a new one, with offsets read anew from the file."""
        connection = file.connect(self._path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {2 * _CHECKPOINT_PAGES * file.PAGE_SIZE}")
        if self._maximum_bytes is not None:
            connection.execute(f"PRAGMA max_page_count = {max(1, self._maximum_bytes // file.PAGE_SIZE)}")
        following = {number: file.next_offset(connection, number) for number in self._ids.values()}
        with self._changed:
            self._next.update(following)
            self._changed.notify_all()
        return connection

    @contextmanager
    def _opening(self) -> Iterator[sqlite3.Connection]:
        try:
            if not self._read_only:
                file.create_file(self._path)
            with closing(file.connect(self._path)) as connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise file.explained(error, self._path) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._changed:
            if self._closed:
                raise file.not_writable()
            connection = self._readers.pop() if self._readers else None
        try:
            connection = connection or file.connect(self._path)
            with file.transaction(connection, "DEFERRED"):
                yield connection
        except sqlite3.Error as error:
            file.discard(connection)
            connection = None
            raise file.explained(error, self._path) from error
        finally:
            if connection is not None:
                with self._changed:
                    keep = not self._closed
                    if keep:
                        self._readers.append(connection)
                if not keep:
                    connection.close()

    def _unlock(self) -> None:
        descriptor, self._lock_descriptor = self._lock_descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
