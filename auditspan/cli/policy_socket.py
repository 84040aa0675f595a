"""An officer's change on its way to the running service, and the answer on its way back."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from auditspan.cli.control_socket import ask
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from auditspan.policy.clearing import Clearing
    from auditspan.processors.activation import Activated, Change

__all__ = ["LARGEST_FILES", "Refused", "activation_route", "ask_to_activate"]

LARGEST_FILES: Final = 64 << 20
"""Bytes of all files of one activation."""
_LARGEST_REQUEST: Final = 2 * LARGEST_FILES
_PATH: Final = "/policy/activate"
_PATIENCE: Final = 120.0
_ANSWER: Final = ("before", "body", "offset", "sealed", "in_use")

Activate = Callable[[str, "Callable[[str], Change]", bool], "Activated"]
"""``activate(token, change_of, dry_run)``: ``change_of(officer)`` is the change of the officer with that token."""


class Refused(AuditSpanError):
    """The running service refused the change; what was in force stays."""


def activation_route(activate: Activate) -> Route:
    """``POST /policy/activate`` of the control socket."""
    # Here, so that the commands that only ask load no server.
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def answer(request: Request) -> JSONResponse:
        said = bytearray()
        async for piece in request.stream():
            said += piece
            if len(said) > _LARGEST_REQUEST:
                return JSONResponse({"message": "The request is too large."}, 413)
        # In a thread: events are taken in by this very loop.
        status, document = await asyncio.to_thread(_answer, activate, bytes(said))
        return JSONResponse(document, status)

    return Route(_PATH, answer, methods=["POST"])


def _answer(activate: Activate, said: bytes) -> tuple[int, Mapping[str, Any]]:
    from auditspan.processors.activation import Change

    try:
        document = json.loads(said)
        token, dry_run = str(document["token"]), bool(document["dry_run"])
        files = {str(name): base64.b64decode(text, validate=True) for name, text in document["files"].items()}
        reason, adopted = str(document["reason"]), document["adopted"]
        cleared = _clearing(document.get("cleared"))
        withdrawn = [str(name) for name in document["withdrawn"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # Its type alone: what was sent holds a token.
        return 400, {"message": f"The request is not understood: {type(error).__name__}."}

    def change_of(officer: str) -> Change:
        return Change(officer, reason, files, withdrawn, None if adopted is None else str(adopted), cleared)

    try:
        done = activate(token, change_of, dry_run)
    except AuditSpanError as error:
        return 409, {"error": type(error).__name__, "message": error.message, "remedy": error.remedy}
    return 200, {name: getattr(done, name) for name in _ANSWER}


def _clearing(document: Mapping[str, Any] | None) -> Clearing | None:
    """A clearing as the request has it.

    Raises:
        TypeError, ValueError: it is none.
    """
    from auditspan.policy.clearing import ACTS, Clearing

    if document is None:
        return None
    if not all(isinstance(value, str) for key, value in document.items() if (key, value) != ("country", None)):
        raise TypeError("a clearing is made of texts")
    clearing = Clearing(**document)
    if clearing.act not in ACTS:
        raise ValueError("there is no such act")
    return clearing


def ask_to_activate(socket: Path, token: str, change: Change, *, dry_run: bool) -> Activated:
    """Have the service behind ``socket`` do it. Who the officer is says the token, not ``change``.

    Raises:
        Refused: it does not.
        AuditSpanError: it does not answer.
    """
    from auditspan.processors.activation import Activated

    said = ask(
        socket,
        "POST",
        _PATH,
        {
            "token": token,
            "reason": change.reason,
            "files": {name: base64.b64encode(content).decode() for name, content in change.files.items()},
            "withdrawn": list(change.withdrawn),
            "adopted": change.adopted,
            "cleared": None if change.cleared is None else asdict(change.cleared),
            "dry_run": dry_run,
        },
        refused=Refused,
        patience=_PATIENCE,
    )
    return Activated(**{name: said[name] for name in _ANSWER})
