"""The embedded store as a service: ClickHouse's HTTP protocol with a reader and a writer.

A reader may what `sql_endpoint` lets through. The writer may read without a bound of the result, and insert as the
product does, into the tables of sealed events, tree nodes, checkpoints and anchors. Nobody may change or remove
anything, nor alter the schema: the service itself brings it to its version when it starts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from auditspan.store.insert_statement import InsertStatement
from auditspan.store.raw import StatementFailed
from auditspan.store.raw_writer import RawWriter

from .clickhouse_http import authentication_failure, credentials, failure, read_query, result, result_headers
from .insert_body import InsertFiles, received_insert
from .sql_guard import Refused
from .sql_pool import Connect, QueryPool, ResultStream
from .sql_settings import SqlLimits, client_settings

__all__ = ["READER", "WRITER", "StoreLimits", "Tokens", "store_app"]

_log = logging.getLogger(__name__)

WRITER: Final = "writer"
READER: Final = "reader"
"""Users of the service. Any other name is a reader as well."""

_TOO_MANY: Final = 202
_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """The passwords of the two users."""

    writer: str
    reader: str


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What may be asked of the store: by a reader, by the writer's queries, by inserts. Bytes and seconds."""

    reader: SqlLimits = field(default_factory=SqlLimits)
    writer: SqlLimits = field(
        default_factory=lambda: SqlLimits(
            memory_bytes=2**30,
            seconds=600,
            # Processors that start read their state all at once.
            waiting=256,
            result_rows=0,
            result_bytes=0,
            temporary_bytes=8 * 2**30,
            statement_bytes=8 * 2**20,
        )
    )
    insert_bytes: int = 256 * 2**20
    insert_seconds: int = 60
    inserts: int = 4
    """Bodies in memory at once; one of them is inserted at a time."""


def store_app(connect: Connect, writer: RawWriter, tokens: Tokens, limits: StoreLimits | None = None) -> Starlette:
    """An ASGI application: ``GET /``, ``POST /``; ``GET /ping``: the process answers; ``GET /readyz``: the store does.

    Args:
        connect: opens a reading client with the settings it is given, such as ``ClickHouseStore.raw_reader``.
        writer: inserts; closed with the application.
        tokens: the users' passwords.
        limits: what may be asked.
    """
    bounds = limits or StoreLimits()
    reading = QueryPool(connect, bounds.reader)
    writers_reading = QueryPool(connect, bounds.writer)
    inserts = _Inserts(writer, bounds)

    async def answer(request: Request) -> Response:
        said = credentials(request)
        is_writer = said.user == WRITER
        if not said.have(tokens.writer if is_writer else tokens.reader):
            return authentication_failure(
                "the password of the user writer is the write token, of every other user the read token."
            )
        try:
            if request.headers.get("content-type") == "application/octet-stream":
                if not is_writer:
                    raise Refused("Only the user writer may insert.")
                await inserts.run(request)
                return PlainTextResponse("", headers={"X-ClickHouse-Summary": "{}"})
            return await (_write_side if is_writer else _read_side)(request)
        except Refused as refusal:
            return failure(refusal.code, refusal.message, refusal.name)
        except StatementFailed as error:
            return failure(error.code, error.message)
        except ClientDisconnect:
            return Response(status_code=499)

    async def _read_side(request: Request) -> Response:
        query = await read_query(request, bounds.reader.statement_bytes)
        if not query.sql.strip():
            return PlainTextResponse("Ok.\n")
        settings = client_settings(query.settings, bounds.reader)
        body, format_name = await reading.run(query.sql, query.default_format, settings, query.parameters)
        return await result(request, body, format_name)

    async def _write_side(request: Request) -> Response:
        query = await read_query(request, bounds.writer.statement_bytes)
        if not query.sql.strip():
            return PlainTextResponse("Ok.\n")
        # Its settings are the product's own; what it asks of formats is heard by nobody, and told so.
        client_settings(query.settings, bounds.writer)
        return _Streamed(await writers_reading.stream(query.sql, query.default_format, query.parameters))

    async def ping(_request: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def readyz(_request: Request) -> Response:
        reasons = await _reasons(reading)
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        for close in (inserts.close, reading.close, writers_reading.close):
            await asyncio.to_thread(close)

    return Starlette(
        routes=[
            Route("/", answer, methods=["GET", "POST"]),
            Route("/ping", ping),
            Route("/readyz", readyz),
        ],
        lifespan=lifespan,
    )


async def _reasons(pool: QueryPool) -> Sequence[str]:
    """Why the store does not answer; none when it does."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await pool.run("SELECT max(version) FROM auditspan.migrations", "TSV", {}, {})
    except TimeoutError:
        return [f"the store did not answer in {_PATIENCE:g} s"]
    except (Refused, StatementFailed) as error:
        return [error.message]
    return []


class _Inserts:
    """Takes a few bodies in at once and inserts one after the other."""

    def __init__(self, writer: RawWriter, limits: StoreLimits) -> None:
        self._writer = writer
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="insert")
        self._files = InsertFiles()
        self._taken = 0

    async def run(self, request: Request) -> None:
        """Insert the body of ``request``; durable when it returns.

        Raises:
            Refused: it may not be inserted, or not now.
            StatementFailed: the engine says no, or the condition does not hold.
            ClientDisconnect: the body is not whole.
        """
        if self._taken >= self._limits.inserts:
            raise Refused("Too many inserts at once; try again later.", _TOO_MANY, "TOO_MANY_SIMULTANEOUS_QUERIES")
        deadline = time.monotonic() + _seconds(request, self._limits.insert_seconds)
        self._taken += 1
        try:
            async with received_insert(request, self._files, self._limits.insert_bytes, deadline) as received:
                statement = self._writer.recognise(received.statement)
                if statement is None:
                    raise Refused("The writer may insert as AuditSpan of this version does, and in no other way.")
                log_id, first = _condition(request, statement)
                work = asyncio.get_running_loop().run_in_executor(
                    self._thread,
                    partial(self._writer.insert, statement, received.descriptor, deadline, log_id=log_id, first=first),
                )
                await _to_its_end(work)
        finally:
            self._taken -= 1

    def close(self) -> None:
        """Wait for the inserts that are under way and let go of the client."""
        self._thread.shutdown(wait=True)
        self._writer.close()
        self._files.close()


async def _to_its_end(work: asyncio.Future[None]) -> None:
    """Wait for ``work``, also when told to end meanwhile: its descriptor must stay open."""
    told: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            told = error
        except StatementFailed:
            break
    if told is not None:
        raise told
    work.result()


def _condition(request: Request, statement: InsertStatement) -> tuple[str, int]:
    if statement.position is None:
        return "", 0
    log_id, first = request.query_params.get("param_log_id", ""), request.query_params.get("param_first", "")
    if not log_id or not (first.isascii() and first.isdigit()):
        raise Refused("A conditional insert has the parameters log_id and first.", 456, "UNKNOWN_QUERY_PARAMETER")
    return log_id, int(first)


def _seconds(request: Request, most: int) -> int:
    asked = request.query_params.get("max_execution_time", "")
    return min(int(asked), most) if asked.isascii() and asked.isdigit() and int(asked) > 0 else most


class _Streamed(StreamingResponse):
    """A result of any size. One that fails half-way ends with the error's text and without an end."""

    def __init__(self, stream: ResultStream) -> None:
        self._stream = stream
        super().__init__(aiter(stream), headers=result_headers(stream.format_name))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.abandon()

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self.body_iterator:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except StatementFailed as error:
            # As ClickHouse does: the status is sent already, so the connection breaks off, and no client takes the part
            # for the whole.
            _log.warning("A query of the writer broke off: %s", error.message.splitlines()[0][:500])
            await send({"type": "http.response.body", "body": f"\n{error.message}\n".encode(), "more_body": True})
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
