"""The SQLite file of a journal: how it is made, opened, laid out, and what its errors mean."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from auditspan.durable import sync
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import CONTROL_PARTITION, JournalFull, JournalUnavailable, data_partition

__all__ = [
    "APPLICATION_ID",
    "PAGE_SIZE",
    "checkpoint_and_close",
    "connect",
    "create_file",
    "create_schema",
    "discard",
    "earliest",
    "explained",
    "load",
    "lock",
    "next_offset",
    "not_writable",
    "position",
    "transaction",
]

_log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x41554A31
"""``AUJ1``: says in the file's header what this database is."""

PAGE_SIZE: Final = 16 * 1024
"""A request of 100 spans is about 100 kB: larger pages than SQLite's 4 KiB make its overflow chain short."""

_OFFSET_BITS: Final = 48

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE partitions (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, earliest INTEGER NOT NULL) STRICT;
CREATE TABLE entries (
    position INTEGER PRIMARY KEY, kind TEXT NOT NULL, emitter TEXT NOT NULL, authentication TEXT NOT NULL,
    arrival_time INTEGER NOT NULL, encoding TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
"""


def position(number: int, offset: int) -> int:
    """Primary key of an entry: entries of one partition lie together, in order."""
    return (number << _OFFSET_BITS) | offset


def earliest(connection: sqlite3.Connection, number: int) -> int:
    """The earliest offset of a partition that was not trimmed."""
    return int(connection.execute("SELECT earliest FROM partitions WHERE id = ?", (number,)).fetchone()[0])


def next_offset(connection: sqlite3.Connection, number: int) -> int:
    """Offset that the next entry of a partition gets, as the file says."""
    last = connection.execute(
        "SELECT max(position) FROM entries WHERE position >= ? AND position < ?",
        (position(number, 0), position(number + 1, 0)),
    ).fetchone()[0]
    after_last = 0 if last is None else last - position(number, 0) + 1
    return max(after_last, earliest(connection, number))


def connect(path: Path) -> sqlite3.Connection:
    """A connection to an existing file, in autocommit mode, usable from any thread but one at a time."""
    # mode=rw: a journal that was deleted under us must be an error, not a new, empty journal.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Commit at the end of the block; roll back on any error. ``DEFERRED`` is for reading."""
    connection.execute("BEGIN IMMEDIATE" if kind == "IMMEDIATE" else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def create_schema(connection: sqlite3.Connection, data_partitions: int) -> None:
    """Lay out an empty file."""
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    names = [CONTROL_PARTITION, *(data_partition(index) for index in range(data_partitions))]
    with transaction(connection):
        for statement in filter(str.strip, _SCHEMA.split(";")):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('identity', ?)", (f"sqlite:{secrets.token_hex(16)}",))
        connection.executemany("INSERT INTO partitions VALUES (?, ?, 0)", list(enumerate(names)))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def load(connection: sqlite3.Connection, path: Path, data_partitions: int | None) -> tuple[str, dict[str, int]]:
    """Identity and partitions (name to number, in order) of the journal, laid out now if the file is empty.

    Args:
        connection: open on ``path``.
        path: for messages.
        data_partitions: how many there must be; None: whatever there are, and nothing is laid out.

    Raises:
        AuditSpanError: no journal, or another number of partitions.
    """
    empty = not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    if data_partitions is not None and empty:
        create_schema(connection, data_partitions)
    elif connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise AuditSpanError(f"{path} is no journal.", remedy="Give the path of a journal or of a new file.")
    identity = connection.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()[0]
    numbers = dict(connection.execute("SELECT name, id FROM partitions ORDER BY id").fetchall())
    if data_partitions is not None and len(numbers) - 1 != data_partitions:
        raise AuditSpanError(
            f"The journal {path} has {len(numbers) - 1} data partitions, not {data_partitions}.",
            remedy=f"Set the number to {len(numbers) - 1}: it is fixed for the life of a log generation.",
        )
    return str(identity), numbers


def create_file(path: Path) -> None:
    """Create ``path`` for its owner alone: SQLite gives ``-wal`` and ``-shm`` the permissions of the database."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    sync(path.parent)


def lock(path: Path) -> int:
    """Be the only writer; the descriptor that holds the lock until it is closed, however the process ends.

    Raises:
        AuditSpanError: another process is.
    """
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise explained(error, path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise AuditSpanError(
            f"Another process writes the journal {path}.", remedy="Stop it, or use another data directory."
        ) from error
    return descriptor


def discard(connection: sqlite3.Connection | None) -> None:
    """Drop a connection that met a fault: what it holds in memory is no longer trusted."""
    if connection is not None:
        try:
            connection.close()
        except sqlite3.Error as error:
            _log.warning("closing the journal after a fault failed: %s", error)


def checkpoint_and_close(connection: sqlite3.Connection) -> None:
    """Leave one file behind, where that succeeds; the write-ahead log holds the rest otherwise."""
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        _log.warning("the journal's write-ahead log stays for the next start: %s", error)
    discard(connection)


def not_writable() -> JournalUnavailable:
    """What an append to a closed journal gets."""
    return JournalUnavailable("The journal is closed, or open for reading only.", remedy="Start the service again.")


def explained(error: BaseException, path: Path) -> AuditSpanError:
    """``error`` in the words of the journal's contract."""
    if isinstance(error, AuditSpanError):
        return error
    code: Any = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int) and code & 0xFF == sqlite3.SQLITE_FULL:
        return JournalFull(
            f"The journal {path} is full: {error}.", remedy="Free disk space or raise its limit; senders keep retrying."
        )
    return JournalUnavailable(
        f"The journal {path} failed: {error}.", remedy="Check the disk and its permissions; senders keep retrying."
    )
