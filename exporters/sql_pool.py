"""Reading clients that work beside the writer, a few at a time."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

from auditspan.store.pipe import QueryEnded
from auditspan.store.raw import EscapedText, RawReader

from .sql_guard import Refused, Statement, admit, refused_functions
from .sql_settings import SqlLimits

__all__ = ["Connect", "QueryPool", "ResultStream"]

Connect = Callable[[Mapping[str, str]], RawReader]
"""Opens a reading client that keeps these ClickHouse settings for its whole life."""

_TOO_MANY: Final = 202
"""ClickHouse's TOO_MANY_SIMULTANEOUS_QUERIES."""
_CHUNKS_WAITING: Final = 4
_KNOWN_STATEMENTS: Final = 256
_LONGEST_KNOWN: Final = 16 * 1024


class QueryPool:
    """Runs statements on clients of their own, so that no query delays the writer, and refuses more than a few."""

    def __init__(self, connect: Connect, limits: SqlLimits) -> None:
        self._connect = connect
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.concurrent, thread_name_prefix="sql")
        self._idle: queue.SimpleQueue[RawReader] = queue.SimpleQueue()
        self._admitted = 0
        self._refused: frozenset[str] | None = None
        self._known: dict[str, Statement] = {}

    async def run(
        self, sql: str, default_format: str, settings: Mapping[str, str], parameters: Mapping[str, EscapedText]
    ) -> tuple[bytes, str]:
        """The result and the name of its format.

        Raises:
            Refused: the statement may not run, or too many are waiting.
            StatementFailed: the engine says no.
        """
        self._admit()
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, self._run, sql, default_format, settings, parameters
        )
        # A client that goes away does not end its query: its place stays taken until the engine is done.
        work.add_done_callback(self._finished)
        return await asyncio.shield(work)

    async def stream(self, sql: str, default_format: str, parameters: Mapping[str, EscapedText]) -> ResultStream:
        """The result while the engine writes it, in memory that does not grow with it; it has begun without a fault.

        Raises:
            Refused: the statement may not run, or too many are waiting.
            StatementFailed: the engine says no.
        """
        self._admit()
        loop = asyncio.get_running_loop()
        stream = ResultStream(loop)
        work = loop.run_in_executor(self._threads, self._feed, stream, sql, default_format, parameters)
        work.add_done_callback(self._finished)
        await stream.begin()
        return stream

    def _admit(self) -> None:
        if self._admitted >= self._limits.concurrent + self._limits.waiting:
            raise Refused("Too many queries are waiting; try again later.", _TOO_MANY, "TOO_MANY_SIMULTANEOUS_QUERIES")
        self._admitted += 1

    def _finished(self, work: asyncio.Future[tuple[bytes, str]] | asyncio.Future[None]) -> None:
        self._admitted -= 1
        if not work.cancelled():
            work.exception()

    def _run(
        self, sql: str, default_format: str, settings: Mapping[str, str], parameters: Mapping[str, EscapedText]
    ) -> tuple[bytes, str]:
        reader = self._take()
        try:
            statement = self._statement(sql, reader)
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

    def _feed(self, stream: ResultStream, sql: str, default_format: str, parameters: Mapping[str, EscapedText]) -> None:
        try:
            reader = self._take()
            try:
                statement = self._statement(sql, reader)
                stream.format_name = statement.format or default_format
                with closing(reader.chunks(statement.text, stream.format_name, parameters)) as chunks:
                    for chunk in chunks:
                        if not stream.put(chunk):
                            break
            finally:
                self._idle.put(reader)
        except BaseException as error:  # a reader that hears of no end would wait for ever
            # Nobody waits for this thread: whoever reads the stream gets it, as an error that ends no more than his
            # query.
            stream.put(error if isinstance(error, Exception) else QueryEnded(type(error).__name__))
        else:
            stream.put(None)

    def _statement(self, sql: str, reader: RawReader) -> Statement:
        """The statement to run for ``sql``; the product asks the same ones over and over."""
        if self._refused is None:
            self._refused = refused_functions(reader.run)
        known = self._known.get(sql)
        if known is None:
            known = admit(sql, reader.run, self._refused)
            if len(sql) <= _LONGEST_KNOWN:
                if len(self._known) >= _KNOWN_STATEMENTS:
                    self._known.clear()
                self._known[sql] = known
        return known

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


class ResultStream:
    """Chunks of one result on their way from the query's thread to the event loop, a few at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.format_name = ""
        self._loop = loop
        self._chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(_CHUNKS_WAITING)
        self._first: bytes | None = None
        self._abandoned = threading.Event()

    def put(self, chunk: bytes | Exception | None) -> bool:
        """From the query's thread: hand over a chunk, or how it ended. False when nobody reads any more."""
        if not self._abandoned.is_set():
            asyncio.run_coroutine_threadsafe(self._chunks.put(chunk), self._loop).result()
        return not self._abandoned.is_set()

    async def begin(self) -> None:
        """Wait for the first chunk.

        Raises:
            Exception: what the query raised.
        """
        try:
            self._first = await self._next()
        except BaseException:  # a request cancelled here would leave its query running for nobody
            self.abandon()
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks; after the last one what the query raised, if it did."""
        try:
            chunk = self._first
            while chunk is not None:
                yield chunk
                chunk = await self._next()
        finally:
            self.abandon()

    async def _next(self) -> bytes | None:
        chunk = await self._chunks.get()
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def abandon(self) -> None:
        """Let the query's thread end: it stops the query with its next chunk."""
        self._abandoned.set()
        while not self._chunks.empty():
            self._chunks.get_nowait()
