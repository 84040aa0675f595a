"""Reading clients that work beside the writer, a few at a time."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from auditspan.store.raw import EscapedText, RawReader

from .sql_guard import Refused, admit, refused_functions
from .sql_settings import SqlLimits

__all__ = ["Connect", "QueryPool"]

Connect = Callable[[Mapping[str, str]], RawReader]
"""Opens a reading client that keeps these ClickHouse settings for its whole life."""

_TOO_MANY: int = 202
"""ClickHouse's TOO_MANY_SIMULTANEOUS_QUERIES."""


class QueryPool:
    """Runs statements on clients of their own, so that no query delays the writer, and refuses more than a few."""

    def __init__(self, connect: Connect, limits: SqlLimits) -> None:
        self._connect = connect
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.concurrent, thread_name_prefix="sql")
        self._idle: queue.SimpleQueue[RawReader] = queue.SimpleQueue()
        self._admitted = 0
        self._refused: frozenset[str] | None = None

    async def run(
        self, sql: str, default_format: str, settings: Mapping[str, str], parameters: Mapping[str, EscapedText]
    ) -> tuple[bytes, str]:
        """The result and the name of its format.

        Raises:
            Refused: the statement may not run, or too many are waiting.
            StatementFailed: the engine says no.
        """
        if self._admitted >= self._limits.concurrent + self._limits.waiting:
            raise Refused("Too many queries are waiting; try again later.", _TOO_MANY, "TOO_MANY_SIMULTANEOUS_QUERIES")
        self._admitted += 1
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, self._run, sql, default_format, settings, parameters
        )
        # A client that goes away does not end its query: its place stays taken until the engine is done.
        work.add_done_callback(self._finished)
        return await asyncio.shield(work)

    def _finished(self, work: asyncio.Future[tuple[bytes, str]]) -> None:
        self._admitted -= 1
        if not work.cancelled():
            work.exception()

    def _run(
        self, sql: str, default_format: str, settings: Mapping[str, str], parameters: Mapping[str, EscapedText]
    ) -> tuple[bytes, str]:
        reader = self._take()
        try:
            if self._refused is None:
                self._refused = refused_functions(reader.run)
            statement = admit(sql, reader.run, self._refused)
            format_name = statement.format or default_format
            largest = self._limits.result_bytes
            if not settings:
                return reader.result(statement.text, format_name, parameters, largest), format_name
            # A reading client cannot change its settings, so a query with others gets a client for itself.
            own = self._connect({**self._limits.settings(), **settings})
            try:
                return own.result(statement.text, format_name, parameters, largest), format_name
            finally:
                own.close()
        finally:
            self._idle.put(reader)

    def _take(self) -> RawReader:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._connect(self._limits.settings())

    def close(self) -> None:
        """Wait for the running queries and let go of the clients."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get_nowait().close()
