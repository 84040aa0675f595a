"""ClickHouse's HTTP protocol: what requests say and what answers look like, https://clickhouse.com/docs/interfaces/http.

What the real server does with sessions and progress headers is left out on purpose.
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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import lz4.frame  # type: ignore[import-untyped]
import zstandard
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from auditspan.store.raw import EscapedText

from .sql_guard import Refused

__all__ = [
    "Credentials",
    "Query",
    "authentication_failure",
    "credentials",
    "failure",
    "read_query",
    "result",
    "result_headers",
]

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
class Query:
    """A statement with its parameters and the settings that the client asks for."""

    sql: str = ""
    default_format: str = "TabSeparated"
    settings: list[tuple[str, str]] = field(default_factory=list)
    parameters: dict[str, EscapedText] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a request says that it is: a user's name, and everything that it offers as password."""

    user: str
    offered: tuple[str, ...]

    def have(self, token: str) -> bool:
        """Whether ``token`` is among what was offered."""
        return any(hmac.compare_digest(password.encode(), token.encode()) for password in self.offered)


def credentials(request: Request) -> Credentials:
    """User and password from any of the places where ClickHouse takes them."""
    user = request.headers.get("x-clickhouse-user") or request.query_params.get("user") or ""
    offered = [request.headers.get("x-clickhouse-key"), request.query_params.get("password")]
    scheme, _, said = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(said, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return Credentials(user, ())
        user = user or name
        offered.append(password)
    elif scheme.lower() == "bearer":
        offered.append(said)
    return Credentials(user, tuple(password for password in offered if password is not None))


def authentication_failure(message: str) -> Response:
    """The answer to a wrong password."""
    return failure(_AUTHENTICATION_FAILED, f"Authentication failed: {message}", "AUTHENTICATION_FAILED", 401)


async def read_query(request: Request, largest: int) -> Query:
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
    query = Query(default_format=request.headers.get("x-clickhouse-format", "TabSeparated"))
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


def result_headers(format_name: str) -> dict[str, str]:
    """What every result says about itself."""
    return {
        "X-ClickHouse-Format": format_name,
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Query-Id": str(uuid.uuid4()),
        "Content-Type": _CONTENT_TYPES.get(format_name, "application/octet-stream"),
    }


async def result(request: Request, body: bytes, format_name: str) -> Response:
    """A whole result, compressed where the client takes that."""
    headers = {
        **result_headers(format_name),
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
    return Response(body, headers=headers)


def failure(code: int, message: str, name: str = "", status: int | None = None) -> Response:
    """An error in ClickHouse's own form."""
    text = message if message.startswith("Code: ") else f"Code: {code}. DB::Exception: {message} ({name})"
    headers = {"X-ClickHouse-Exception-Code": str(code)}
    status = status or _STATUS.get(code, 500)
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="AuditSpan token"'
    if status == 503:
        headers["Retry-After"] = "1"
    return PlainTextResponse(f"{text}\n", status_code=status, headers=headers)
