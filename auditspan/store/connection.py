"""Arrow in and out of ClickHouse through clickhouse-connect: what a store needs, and the embedded engine (chDB).

A server (`auditspan.store.http_connection`) differs in three places only: where an insert reads its rows from, how rows
are streamed, and who keeps two writers apart.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Protocol, Self

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import Error

from auditspan.store.contract import StoreUnavailable
from auditspan.store.handover import Handover
from auditspan.store.insert_statement import EMBEDDED_EVENT_SETTINGS, INSERT_SETTINGS, settings_clause
from auditspan.store.paging import behind_nothing
from auditspan.store.pipe import query_pipe

__all__ = ["Connection", "EmbeddedConnection"]

_BLOCK_ROWS: Final = 16_384
_BLOCK_BYTES: Final = 16 * 2**20
# Of a stream: no block is larger, so a reader's memory does not grow with the result.
_STREAM_SETTINGS: Final = f"max_block_size = {_BLOCK_ROWS}, preferred_block_size_bytes = {_BLOCK_BYTES}"
_PAGE_ROWS: Final = 16 * _BLOCK_ROWS
_NARROW_PAGE_ROWS: Final = 16 * _PAGE_ROWS
_INSERT_SETTINGS: Final = settings_clause(INSERT_SETTINGS)
_EVENT_SETTINGS: Final = settings_clause(EMBEDDED_EVENT_SETTINGS)

Parameters = Mapping[str, Any]


class Connection(Protocol):
    """One client, which runs one call at a time; every failure of it is `StoreUnavailable`."""

    def command(self, sql: str, parameters: Parameters | None = None) -> Any:
        """Run a statement; its only value, if it has one."""

    def query(self, sql: str, parameters: Parameters | None = None) -> pa.Table:
        """All rows of a SELECT."""

    def stream(self, sql: str, parameters: Parameters | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a SELECT, block by block."""

    def pages(
        self, sql: str, parameters: Parameters, begin: int, end: int, *, narrow: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a SELECT over ``[{begin:UInt64}, {end:UInt64})`` of a column that it orders by.

        ``narrow``: they have few bytes each, so that many of them may be held at once.
        """

    def insert(self, table: str, rows: pa.Table) -> None:
        """Insert rows as one block."""

    def append(self, table: str, rows: pa.Table, *, log_id: str, column: str, first: int) -> None:
        """Insert rows of a log as one block, once, if ``first`` follows the greatest ``column`` of the log.

        A server checks it in the inserting statement itself; embedded, the caller has checked it and holds the lock.
        """

    def close(self) -> None:
        """Let go of the client."""


def _unavailable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"ClickHouse refused or could not be reached: {str(error).splitlines()[0][:500] if str(error) else error!r}",
        remedy="If it persists, look at disk space, memory and the ClickHouse log.",
    )


def _one_block(rows: pa.Table) -> pa.Table:
    """The same rows as one record batch: ClickHouse reads one batch as one block."""
    return rows.unify_dictionaries().combine_chunks()


class EmbeddedConnection:
    """ClickHouse in this process, on a directory that belongs to this process alone."""

    def __init__(self, path: Path, settings: Mapping[str, Any] | None = None) -> None:
        self._path = path
        self._settings = dict(settings or {})
        self._handovers: dict[str, Handover] = {}
        try:
            self._client = clickhouse_connect.get_client(interface="chdb", path=str(path), settings=self._settings)
        except Error as error:
            raise StoreUnavailable(
                f"The embedded ClickHouse in {path} cannot be opened: {str(error)[:500]}",
                remedy="Only one process can have it open: stop the other one, or ask it through its SQL endpoint.",
            ) from error

    def command(self, sql: str, parameters: Parameters | None = None) -> Any:
        """Run a statement; its only value, if it has one."""
        try:
            return self._client.command(sql, parameters=dict(parameters or {}))
        except Error as error:
            raise _unavailable(error) from error

    def query(self, sql: str, parameters: Parameters | None = None) -> pa.Table:
        """All rows of a SELECT."""
        try:
            return self._client.query_arrow(sql, parameters=dict(parameters or {}))
        except (Error, pa.ArrowInvalid) as error:
            # What the engine wrote before it met bytes that it cannot read ends early, and is no Arrow file.
            raise _unavailable(error) from error

    def stream(self, sql: str, parameters: Parameters | None = None) -> Generator[pa.RecordBatch, None, None]:
        """The rows of a SELECT, block by block."""

        def execute(into: str) -> None:
            self.command(f"{sql}\n{into}\nSETTINGS {_STREAM_SETTINGS}\nFORMAT ArrowStream", parameters)

        with query_pipe(execute, self._cancel) as pipe:
            try:
                with pa.ipc.open_stream(pipe.source) as batches:
                    yield from batches
            except pa.ArrowInvalid as error:
                # What the engine wrote ends early when the query failed; its own error says more.
                raise (pipe.failure() or _unavailable(error)) from error
            failure = pipe.failure()
            if failure:
                raise failure

    def pages(
        self, sql: str, parameters: Parameters, begin: int, end: int, *, narrow: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a SELECT over ``[begin, end)``, stream by stream.

        One stream over a long log reads all of its parts at once, each with buffers for every column: 3 GB were seen.
        """
        rows = _NARROW_PAGE_ROWS if narrow else _PAGE_ROWS
        while begin < end:
            upto, found = min(begin + rows, end), False
            with closing(self.stream(sql, {**parameters, "begin": begin, "end": upto})) as blocks:
                for block in blocks:
                    found = found or block.num_rows > 0
                    yield block
            begin = upto if found else behind_nothing(self.query, sql, parameters, upto, end, rows)

    def _cancel(self, name: str) -> None:
        """Stop a stream's query, from a client of its own because this one is busy with it."""
        with EmbeddedConnection(self._path, self._settings) as other:
            other.command("KILL QUERY WHERE position(query, {name:String}) > 0", {"name": name})

    def insert(self, table: str, rows: pa.Table) -> None:
        """Insert rows as one block."""
        self._insert(table, rows, _INSERT_SETTINGS)

    def append(self, table: str, rows: pa.Table, *, log_id: str, column: str, first: int) -> None:
        """Insert rows of a log as one block; the caller has checked ``first`` and holds the lock."""
        self._insert(table, rows, _EVENT_SETTINGS)

    def _insert(self, table: str, rows: pa.Table, settings: str) -> None:
        # One for each table: what fits a batch of leaves would be large for the few rows of another.
        handover = self._handovers.get(table)
        if handover is None:
            handover = self._handovers[table] = Handover(table.rpartition(".")[2])
        handover.write(_one_block(rows))
        columns = ", ".join(f"`{name}`" for name in rows.column_names)
        source = f"INFILE '{handover.path}'"
        self.command(f"INSERT INTO {table} ({columns}) FROM {source}\nSETTINGS {settings}\nFORMAT ArrowStream")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the client; the engine goes with the last one."""
        self._client.close()
        for handover in self._handovers.values():
            handover.close()
