"""ClickHouse's HTTP protocol, read-only, in front of the embedded store.

For clickhouse-connect's ordinary client, Grafana and curl. Inserts are left out on purpose.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from auditspan.store.raw import StatementFailed

from .clickhouse_http import authentication_failure, credentials, failure, read_query, result
from .sql_guard import Refused
from .sql_pool import Connect, QueryPool
from .sql_settings import SqlLimits, client_settings

__all__ = ["SqlLimits", "sql_app"]


def sql_app(connect: Connect, token: str, limits: SqlLimits | None = None) -> Starlette:
    """An ASGI application that answers ``GET /``, ``POST /`` and ``GET /ping``.

    Args:
        connect: opens a reading client with the settings it is given, such as ``ClickHouseStore.raw_reader``.
        token: the password that lets any user name in.
        limits: what a query may cost.
    """
    bounds = limits or SqlLimits()
    pool = QueryPool(connect, bounds)

    async def answer(request: Request) -> Response:
        if not credentials(request).have(token):
            return authentication_failure("the password is the read token.")
        try:
            query = await read_query(request, bounds.statement_bytes)
            if not query.sql.strip():
                return PlainTextResponse("Ok.\n")
            settings = client_settings(query.settings, bounds)
            body, format_name = await pool.run(query.sql, query.default_format, settings, query.parameters)
        except Refused as refusal:
            return failure(refusal.code, refusal.message, refusal.name)
        except StatementFailed as error:
            return failure(error.code, error.message)
        except ClientDisconnect:
            return Response(status_code=499)
        return await result(request, body, format_name)

    async def ping(_request: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(pool.close)

    return Starlette(
        routes=[Route("/", answer, methods=["GET", "POST"]), Route("/ping", ping)],
        lifespan=lifespan,
    )
