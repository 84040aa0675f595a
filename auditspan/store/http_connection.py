"""ClickHouse over HTTP: a real server, a cluster, or `auditspan store serve`. The client is the same.

What an insert's answer is worth: 200 with an empty body says that the rows are durable. Everything else says nothing,
as the answer may have been lost after the rows came in. So the caller reads back (`ClickHouseStore.append_batch`), and
the batch that it then sends again can come in only once: docs/decisions/0003-conditional-insert.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, cast
from urllib.parse import urlencode

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import DatabaseError, Error, ProgrammingError
from clickhouse_connect.driver.httpclient import HttpClient
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from auditspan.store.arrow_body import ArrowBody, BodyCompression
from auditspan.store.contract import Overtaken, StoreUnavailable
from auditspan.store.insert_statement import (
    INSERT_SETTINGS,
    NOT_NEXT,
    conditional_insert,
    conditions,
    deduplication_token,
    input_source,
    plain_insert,
)
from auditspan.store.paging import behind_nothing

__all__ = ["HttpConnection"]

# What fails is raised, and the command says it: without a handler the client's own warning would stand before it.
logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())

_EVENTS: Final = "auditspan.events"
_PAGE_ROWS: Final = 16_384
_NARROW_PAGE_ROWS: Final = 65_536
"""Every page costs 2 ms of CPU, however little is on it: what is read back of a batch fits one."""
_TOO_MUCH: Final = frozenset({241, 396})
"""ClickHouse's MEMORY_LIMIT_EXCEEDED and TOO_MANY_ROWS_OR_BYTES."""
_FAILURES: Final = (Error, HTTPError, pa.ArrowException, OSError)
"""What a call raises when the server refuses, goes away, or breaks off: also an Arrow stream that ends in an error."""
_EXCEPTION_CODE: Final = "X-ClickHouse-Exception-Code"
_LONGEST_ERROR: Final = 64 * 1024

# On replicas a read must see every insert that was acknowledged, or the next leaf is not the next one.
_REPLICATED_SETTINGS: Final = {
    "insert_quorum": "auto",
    "insert_quorum_parallel": "0",
    "select_sequential_consistency": "1",
}

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Table:
    types: Mapping[str, str]
    replicated: bool


class HttpConnection:
    """A client of a ClickHouse server, which runs one call at a time; every failure is `StoreUnavailable`.

    Args:
        insert_seconds: bound of an insert on the server. One that its client has given up ends by then, so it cannot
            come in long after another writer has taken over.
        answer_seconds: how long the answer may come after the server must have given the insert up.
        compression: of the rows of an insert.
        options: of ``clickhouse_connect.get_client``.

    Raises:
        StoreUnavailable: the server cannot be reached, or refuses.
    """

    def __init__(
        self,
        *,
        insert_seconds: int = 30,
        answer_seconds: float = 15.0,
        compression: BodyCompression = "none",
        **options: Any,
    ) -> None:
        self._insert_seconds = insert_seconds
        self._answer_seconds = answer_seconds
        self._compression: BodyCompression = compression
        self._tables: dict[str, _Table] = {}
        self._sent: tuple[str, int, int] | None = None
        try:
            client = clickhouse_connect.get_client(
                # Connections of its own, which close with it.
                dedicated_pool=True,
                # A session is locked while a query runs in it, also one that nobody waits for any more.
                autogenerate_session_id=False,
                # Thousands of identities are parameters of one query, and too long for a URL.
                form_encode_query_params=True,
                **options,
            )
        except _FAILURES as error:
            raise _unavailable(error) from error
        assert isinstance(client, HttpClient)
        self._client = client
        self._replicated(_EVENTS)

    def command(self, sql: str, parameters: Parameters | None = None) -> Any:
        """Run a statement; its only value, if it has one."""
        try:
            return self._client.command(sql, parameters=dict(parameters or {}))
        except _FAILURES as error:
            raise _unavailable(error) from error

    def query(self, sql: str, parameters: Parameters | None = None) -> pa.Table:
        """All rows of a SELECT."""
        try:
            return self._client.query_arrow(sql, parameters=dict(parameters or {}))
        except _FAILURES as error:
            raise _unavailable(error) from error

    def stream(self, sql: str, parameters: Parameters | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a SELECT, block by block."""
        try:
            # Blocks of the server's own size: a read-only endpoint lets nobody choose.
            answer = self._client.raw_stream(sql, dict(parameters or {}), fmt="ArrowStream")
            with closing(answer):
                with pa.ipc.open_stream(answer) as blocks:
                    yield from blocks
                # A query that fails half-way ends its stream in good order: that it failed stands behind it.
                said = _rest(answer)
                if said:
                    raise DatabaseError(said)
        except _FAILURES as error:
            raise _unavailable(error) from error

    def pages(
        self, sql: str, parameters: Parameters, begin: int, end: int, *, narrow: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a SELECT over ``[begin, end)``, page by page: a read-only endpoint bounds every result."""
        rows = _NARROW_PAGE_ROWS if narrow else _PAGE_ROWS
        while begin < end:
            upto = min(begin + rows, end)
            try:
                page = self.query(sql, {**parameters, "begin": begin, "end": upto})
            except StoreUnavailable as error:
                if getattr(error.__cause__, "code", None) not in _TOO_MUCH or rows == 1:
                    raise
                rows = max(rows // 4, 1)
                continue
            yield from page.to_batches()
            begin = upto if page.num_rows else behind_nothing(self.query, sql, parameters, upto, end, _PAGE_ROWS)

    def insert(self, table: str, rows: pa.Table) -> None:
        """Insert rows as one block."""
        self._send(plain_insert(table, rows.column_names), rows, {}, {})

    def append(self, table: str, rows: pa.Table, *, log_id: str, column: str, first: int) -> None:
        """Insert rows of a log as one block, once, if ``first`` follows the log's greatest ``column``.

        Raises:
            Overtaken: it does not: the rows are there, or others.
            StoreUnavailable: it is not known whether the rows got in.
        """
        described = self._table(table, rows.column_names)
        statement = conditional_insert(
            table, rows.column_names, input_source(rows.column_names, described.types), column
        )
        attempt = self._attempt(log_id, first, described)
        settings = {
            "insert_deduplicate": "1",
            "insert_deduplication_token": deduplication_token(log_id, first, attempt),
            **(_REPLICATED_SETTINGS if described.replicated else {}),
        }
        self._send(statement, rows, settings, conditions(log_id, first))
        self._sent = (log_id, first, attempt)

    def _attempt(self, log_id: str, first: int, table: _Table) -> int:
        """How often the server took this batch and the caller, which read back, found it absent.

        A MergeTree table writes a token down before the part has its name: killed in between, it takes every later
        batch of this token, says that it is written, and drops it. Another token is safe by then: whoever holds the
        first one is dropped as well. A replicated table writes both in one step of Keeper.
        """
        if table.replicated or self._sent is None or self._sent[:2] != (log_id, first):
            return 0
        return self._sent[2] + 1

    def _table(self, name: str, columns: Sequence[str]) -> _Table:
        known = self._tables.get(name)
        if known is None or not set(columns) <= set(known.types):
            found = self.query(
                "SELECT name, type FROM system.columns WHERE database || '.' || table = {table:String}", {"table": name}
            )
            types = dict(zip(found["name"].to_pylist(), found["type"].to_pylist(), strict=True))
            missing = sorted(set(columns) - set(types))
            if missing:
                raise StoreUnavailable(
                    f"The store's table {name} has no column {', '.join(missing)}.",
                    remedy="Its schema is older than this version: start the new version's `auditspan store serve`, or "
                    "apply deploy/clickhouse as the owner of the schema.",
                )
            known = self._tables[name] = _Table(types, self._replicated(name))
        return known

    def _replicated(self, table: str) -> bool:
        """Whether the table has replicas; then the reads of this client see what any of them acknowledged."""
        engine = self.query(
            "SELECT engine FROM system.tables WHERE database || '.' || name = {table:String}", {"table": table}
        )
        replicated = any(kind.startswith(("Replicated", "Shared")) for kind in engine["engine"].to_pylist())
        if replicated:
            # A reader may set nothing; what it reads is not sealed upon.
            with suppress(ProgrammingError):
                self._client.set_client_setting("select_sequential_consistency", "1")
        return replicated

    def _send(self, statement: str, rows: pa.Table, settings: Mapping[str, str], parameters: Mapping[str, str]) -> None:
        """Send an insert once; return when it is durable.

        Not by the client's own `raw_insert`: that one throws away the body of an answer, where an exception may stand
        behind a status of 200, and sends again by itself what the server may have taken already.
        """
        head, body = statement.encode(), ArrowBody(rows, self._compression)
        query = {
            **self._client.params,
            **INSERT_SETTINGS,
            "max_execution_time": str(self._insert_seconds),
            "timeout_overflow_mode": "throw",
            **settings,
            **{f"param_{name}": value for name, value in parameters.items()},
        }
        headers = {
            **self._client.headers,
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(head) + body.size),
        }
        connect = self._client.timeout.connect_timeout
        try:
            answer = self._client.http.request(
                "POST",
                f"{self._client.url}/?{urlencode(query)}",
                body=cast("Iterable[bytes]", chain((head,), body)),  # a socket takes any buffer
                headers=headers,
                retries=False,
                redirect=False,
                timeout=Timeout(connect=connect, read=self._insert_seconds + self._answer_seconds),
            )
        except (HTTPError, OSError) as error:
            raise _unavailable(error) from error
        said = answer.data.decode(errors="replace").strip()
        code = answer.headers.get(_EXCEPTION_CODE)
        if answer.status == 200 and not said and not code:
            return
        refusal = DatabaseError(
            f"HTTP {answer.status}: {said or 'no explanation'}", code=int(code) if code and code.isdigit() else None
        )
        raise (_overtaken if _is_not_next(refusal.code, said) else _unavailable)(refusal) from refusal

    def close(self) -> None:
        """Let go of the client and its connections."""
        self._client.close()


def _rest(answer: Any) -> str:
    """What stands behind the last row: nothing, or why the query failed, before a connection that breaks off."""
    rest = b""
    try:
        while len(rest) < _LONGEST_ERROR and (piece := answer.read1(_LONGEST_ERROR)):
            rest += piece
    except HTTPError:
        if not rest:
            raise
    return rest.decode(errors="replace").strip()


def _is_not_next(code: int | None, said: str) -> bool:
    return code == NOT_NEXT or said.startswith(f"Code: {NOT_NEXT}.")


def _overtaken(error: Exception) -> Overtaken:
    return Overtaken(
        "ClickHouse has other leaves of this log than this insert was made for.",
        remedy="It is tried again after a look at what stands there.",
    )


def _unavailable(error: Exception) -> StoreUnavailable:
    said = str(error).splitlines()[0][:500] if str(error) else repr(error)
    return StoreUnavailable(
        f"ClickHouse refused or could not be reached: {said}",
        remedy="If it persists, look at disk space, memory and the ClickHouse log.",
    )
