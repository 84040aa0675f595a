"""The service's control socket: what commands ask of a running service, on a Unix socket that only its owner can reach.

The journal has one writer. A command that must add to the control log while the service runs asks the service.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditspan.errors import AuditSpanError
from auditspan.semconv import EventClass

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import BaseRoute

__all__ = ["ask", "control_app"]

_LARGEST_REQUEST = 65_536

Append = Callable[[str, str, Any], int]
"""``append(class, actor, body)`` journals a control entry and gives its offset."""


def control_app(append: Append, status: Callable[[], Mapping[str, Any]], more: Sequence[BaseRoute] = ()) -> Starlette:
    """The application behind the socket: ``GET /status``, what commands have sealed, and ``more``."""
    # Here, so that the commands that only ask load no server.
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def say_status(_: Request) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(status))

    def sealing(name: EventClass) -> Callable[[Request], Awaitable[JSONResponse]]:
        async def seal(request: Request) -> JSONResponse:
            said = await request.body()
            if len(said) > _LARGEST_REQUEST:
                return JSONResponse({"message": "The request is too large."}, 413)
            try:
                document = json.loads(said)
                offset = await asyncio.to_thread(append, name, document["actor"], document["body"])
            except (ValueError, KeyError, TypeError) as error:
                return JSONResponse({"message": f"The request is not understood: {error!r}."}, 400)
            except AuditSpanError as error:
                return JSONResponse({"message": str(error)}, 503)
            return JSONResponse({"offset": offset})

        return seal

    return Starlette(
        routes=[
            Route("/status", say_status),
            Route("/evidence/requested", sealing(EventClass.EVIDENCE_REQUESTED), methods=["POST"]),
            Route("/evidence/exported", sealing(EventClass.EVIDENCE_EXPORTED), methods=["POST"]),
            Route("/screening/rescreened", sealing(EventClass.SCREENING_RESCREENED), methods=["POST"]),
            *more,
        ]
    )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, patience: float) -> None:
        super().__init__("localhost", timeout=patience)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(
    path: Path,
    method: str,
    target: str,
    body: Mapping[str, Any] | None = None,
    *,
    refused: type[AuditSpanError] = AuditSpanError,
    patience: float = 30.0,
) -> Any:
    """Ask the service behind the socket ``path``; the JSON it answers within ``patience`` seconds.

    Raises:
        AuditSpanError: nobody answers, or the answer is an error: then it is a ``refused``.
    """
    connection = _UnixConnection(path, patience)
    try:
        connection.request(method, target, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise AuditSpanError(
            f"The service does not answer on {path}: {error}.",
            remedy="See whether it runs, and run this as the user it runs as.",
        ) from error
    finally:
        connection.close()
    if answer.status != 200:
        raise refused(
            f"The service refused: {document.get('message', answer.status)}", remedy=str(document.get("remedy", ""))
        )
    return document
