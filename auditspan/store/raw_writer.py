"""Inserts that came over HTTP, into the embedded store: one at a time, each under the condition that it states."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import clickhouse_connect
from clickhouse_connect.driver.exceptions import Error

from auditspan.store.insert_statement import (
    EMBEDDED_EVENT_SETTINGS,
    INSERT_SETTINGS,
    NOT_NEXT,
    InsertStatement,
    recognise,
    settings_clause,
)
from auditspan.store.raw import StatementFailed, statement_failed

__all__ = ["RawWriter"]

_TIMEOUT_EXCEEDED: Final = 159
_CONDITIONAL: Final[Mapping[str, str]] = {"auditspan.events": "leaf_index"}
"""Tables whose rows must go on without a hole, and by which column."""
_PLAIN: Final = frozenset(
    {
        "auditspan.tree_nodes",
        "auditspan.checkpoints",
        "auditspan.anchors",
        "auditspan.reference_artifacts",
        "auditspan.request_records",
        "auditspan.suppressed",
    }
)
"""Tables in which a row again is the same row."""


class RawWriter:
    """A client that inserts Arrow files by their descriptors. Call it from one thread.

    Args:
        path: directory of the embedded store.
        lock: who holds it may insert; what the condition of an insert sees cannot change until the insert is done.
    """

    def __init__(self, path: Path, lock: threading.Lock) -> None:
        self._lock = lock
        try:
            self._client = clickhouse_connect.get_client(interface="chdb", path=str(path))
            self._types: Mapping[str, Mapping[str, str]] = {
                table: self._columns(table) for table in _PLAIN | _CONDITIONAL.keys()
            }
        except Error as error:
            raise statement_failed(error) from error

    def recognise(self, statement: str) -> InsertStatement | None:
        """The insert that ``statement`` is, if it is one that may be done here."""
        insert = recognise(statement, self._types)
        if insert is None or insert.position != _CONDITIONAL.get(insert.table):
            return None
        return insert

    def insert(
        self, statement: InsertStatement, descriptor: int, deadline: float, *, log_id: str = "", first: int = 0
    ) -> None:
        """Insert the Arrow file behind ``descriptor`` as one block; durable when it returns.

        Args:
            statement: what to insert it into.
            descriptor: an open file of this process.
            deadline: on the monotonic clock; after it nothing is inserted.
            log_id: the log whose next leaf must be ``first``, for a conditional insert.
            first: see ``log_id``.

        Raises:
            StatementFailed: nothing was inserted: the condition does not hold, the time is over, or the engine says no.
        """
        if not self._lock.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            raise _too_late()
        try:
            if statement.position is not None:
                following = self._following(statement.table, statement.position, log_id, max(first - 1, 0))
                if following != first:
                    raise StatementFailed(
                        NOT_NEXT,
                        f"Code: {NOT_NEXT}. DB::Exception: another writer owns this log, its next leaf is another. "
                        "(FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)",
                    )
            self._insert(statement, descriptor, deadline)
        except Error as error:
            raise statement_failed(error) from error
        finally:
            self._lock.release()

    def _insert(self, statement: InsertStatement, descriptor: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise _too_late()
        columns = ", ".join(f"`{name}`" for name in statement.columns)
        settings = INSERT_SETTINGS if statement.position is None else EMBEDDED_EVENT_SETTINGS
        self._client.command(
            f"INSERT INTO {statement.table} ({columns}) FROM INFILE '/proc/self/fd/{descriptor:d}'\n"
            f"SETTINGS {settings_clause(settings)}, "
            f"max_execution_time = {left:.3f}, timeout_overflow_mode = 'throw'\nFORMAT Arrow"
        )

    def _following(self, table: str, position: str, log_id: str, last: int) -> int:
        """The next position of a log that has one from ``last`` on; 0 for one that has not."""
        found = self._client.command(
            f"SELECT if(count() = 0, 0, max({position}) + 1) FROM {table} "  # noqa: S608 - both are names of ours
            f"WHERE log_id = {{log_id:String}} AND {position} >= {{last:UInt64}}",
            parameters={"log_id": log_id, "last": last},
        )
        return int(str(found))

    def _columns(self, table: str) -> dict[str, str]:
        found = self._client.query(
            "SELECT name, type FROM system.columns WHERE database || '.' || table = {table:String}",
            parameters={"table": table},
        )
        return {str(name): str(kind) for name, kind in found.result_rows}

    def close(self) -> None:
        """Let go of the client."""
        self._client.close()


def _too_late() -> StatementFailed:
    return StatementFailed(
        _TIMEOUT_EXCEEDED,
        f"Code: {_TIMEOUT_EXCEEDED}. DB::Exception: Timeout exceeded: this insert could not begin in its time. "
        "(TIMEOUT_EXCEEDED)",
    )
