"""ClickHouse's HTTP protocol, read-only, in front of the embedded store.

For clickhouse-connect's ordinary client, Grafana and curl: https://clickhouse.com/docs/interfaces/http. What the real
server does with sessions, progress headers and inserts is left out on purpose.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import email.parser
import email.policy
import gzip
import hmac
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import lz4.frame  # type: ignore[import-untyped]
import zstandard
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from auditspan.store.raw import EscapedText, StatementFailed

from .sql_guard import Refused
from .sql_pool import Connect, QueryPool
from .sql_settings import SqlLimits, client_settings

__all__ = ["SqlLimits", "sql_app"]

_AUTHENTICATION_FAILED: Final = 516
_FORMAT_NAME: Final = re.compile(r"[A-Za-z0-9]{1,64}")
_PARAMETER_NAME: Final = re.compile(r"param_([A-Za-z_][A-Za-z0-9_]*)")
_DATABASES: Final = frozenset({"", "default", "auditspan", "__default__"})
_OWN: Final = frozenset({"database", "default_format", "password", "query", "role", "user"})
_SMALLEST_COMPRESSED: Final = 1024

_COMPRESSORS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "zstd": lambda body: zstandard.ZstdCompressor(level=1).compress(body),
    "lz4": lz4.frame.compress,
    "gzip": lambda body: gzip.compress(body, 1, mtime=0),
}
_CONTENT_TYPES: Final = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
}
_STATUS: Final = {36: 400, 46: 404, 47: 404, 60: 404, 62: 400, 73: 400, 81: 404, 164: 403, 202: 503}
"""HTTP status of ClickHouse error codes where it is not 500 (``exceptionCodeToHTTPStatus``)."""


@dataclass(slots=True)
class _Query:
    sql: str = ""
    default_format: str = "TabSeparated"
    settings: list[tuple[str, str]] = field(default_factory=list)
    parameters: dict[str, EscapedText] = field(default_factory=dict)


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
        if not _authenticated(request, token):
            return _failure(
                _AUTHENTICATION_FAILED,
                "Authentication failed: the password is the read token.",
                "AUTHENTICATION_FAILED",
                401,
            )
        try:
            query = await _read(request, bounds.statement_bytes)
            if not query.sql.strip():
                return PlainTextResponse("Ok.\n")
            settings = client_settings(query.settings, bounds)
            body, format_name = await pool.run(query.sql, query.default_format, settings, query.parameters)
        except Refused as refusal:
            return _failure(refusal.code, refusal.message, refusal.name)
        except StatementFailed as failure:
            return _failure(failure.code, failure.message)
        except ClientDisconnect:
            return Response(status_code=499)
        return await _result(request, body, format_name)

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


def _authenticated(request: Request, token: str) -> bool:
    """Whether the request has the token, in any of the places where ClickHouse takes a password."""
    offered = [request.headers.get("x-clickhouse-key"), request.query_params.get("password")]
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            offered.append(base64.b64decode(credentials, validate=True).decode().partition(":")[2])
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() == "bearer":
        offered.append(credentials)
    return any(hmac.compare_digest(password.encode(), token.encode()) for password in offered if password is not None)


async def _read(request: Request, largest: int) -> _Query:
    """The query in URL, headers and body, the body appended to what the URL has of the statement."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > largest:
            raise Refused(f"A query may have {largest} bytes here.", 62, "SYNTAX_ERROR")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused("Compressed queries are not supported here.", 48, "NOT_IMPLEMENTED")
    pairs = list(request.query_params.multi_items())
    content_type = request.headers.get("content-type", "")
    text = ""
    if content_type.lower().startswith("multipart/form-data"):
        pairs += _form(content_type, bytes(body))
    else:
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise Refused("A statement must be UTF-8.", 62, "SYNTAX_ERROR") from error
    query = _Query(default_format=request.headers.get("x-clickhouse-format", "TabSeparated"))
    database = request.headers.get("x-clickhouse-database", "")
    for name, value in pairs:
        parameter = _PARAMETER_NAME.fullmatch(name)
        if parameter:
            query.parameters[parameter[1]] = EscapedText(value)
        elif name == "query":
            query.sql += value
        elif name == "default_format":
            query.default_format = value
        elif name == "database":
            database = value
        elif name not in _OWN:
            query.settings.append((name, value))
    query.sql = "\n".join(part for part in (query.sql, text) if part)
    if database not in _DATABASES:
        raise Refused(
            f"Database {database} does not exist here; the one there is is auditspan.", 81, "UNKNOWN_DATABASE"
        )
    if not _FORMAT_NAME.fullmatch(query.default_format):
        raise Refused("default_format must be the name of a format.", 73, "UNKNOWN_FORMAT")
    return query


def _form(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """The fields of a ``multipart/form-data`` body, which the client uses for long parameters."""
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
    )
    fields = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            fields.append((name, payload.decode(errors="replace")))
    return fields


async def _result(request: Request, body: bytes, format_name: str) -> Response:
    headers = {
        "X-ClickHouse-Format": format_name,
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Query-Id": str(uuid.uuid4()),
        "X-ClickHouse-Summary": json.dumps({"result_bytes": str(len(body))}),
        "Vary": "Accept-Encoding",
    }
    accepted = {part.partition(";")[0].strip() for part in request.headers.get("accept-encoding", "").split(",")}
    if len(body) >= _SMALLEST_COMPRESSED:
        for name, compress in _COMPRESSORS.items():
            if name in accepted:
                body = await asyncio.to_thread(compress, body)
                headers["Content-Encoding"] = name
                break
    return Response(body, media_type=_CONTENT_TYPES.get(format_name, "application/octet-stream"), headers=headers)


def _failure(code: int, message: str, name: str = "", status: int | None = None) -> Response:
    """An error in ClickHouse's own form."""
    text = message if message.startswith("Code: ") else f"Code: {code}. DB::Exception: {message} ({name})"
    headers = {"X-ClickHouse-Exception-Code": str(code)}
    status = status or _STATUS.get(code, 500)
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="AuditSpan read token"'
    if status == 503:
        headers["Retry-After"] = "1"
    return PlainTextResponse(f"{text}\n", status_code=status, headers=headers)
