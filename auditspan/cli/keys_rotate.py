"""``auditspan keys rotate``: a new signing key, vouched for by the old one and sealed in the control log."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from auditspan.cli.output import JsonOption, console, print_json, reports_errors
from auditspan.data_directory import SERVICE, DataDirectory, DataDirectoryBusy
from auditspan.errors import AuditSpanError
from auditspan.ledger.rotating import KeyFiles, begin_rotation, finish_rotation
from auditspan.ledger.signing_key import key_id
from auditspan.ledger.trust import load_trust

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from auditspan.config import Settings

__all__ = ["rotate", "rotation_route"]

_PATH: Final = "/keys/rotate"
_PURPOSE: Final = "auditspan keys rotate"
_LARGEST_REQUEST: Final = 65_536
_PATIENCE: Final = 10.0
"""Seconds for a service that starts to open its control socket, and for one that runs to sign with the new key."""
_HOUR: Final = 3600


@reports_errors
def rotate(
    data: Annotated[Path, typer.Option("--data", help="Data directory with the deployment's keys.", file_okay=False)],
    overlap_hours: Annotated[
        float, typer.Option(help="How long what the old key signs stays valid: until every process has the new one.")
    ] = 24.0,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new signing key and go over to it, while the service runs or before its next start.

    Both keys sign that the new one follows the old one, and the control log seals it as audit.key.rotated. The new key
    takes the place of DIR/keys/signing.pem, the old one stays beside it as retired-….pem, to be destroyed after the
    overlap. DIR/trust.json names both: give it to whoever verifies. What was sealed before stays valid.

    Interrupted, it goes on where it ended when it is run again. On many machines run it on one, then copy keys/ and
    trust.json to the others before the overlap ends: processes take them up while they run.

    Exit status: 0 the key is rotated; 1 it is not, or not everywhere yet, and the message says what to do.

    \b
    auditspan keys rotate --data ./data
    auditspan keys rotate --data ./data --overlap-hours 1 --json
    """
    from auditspan.cli.config import settings_of
    from auditspan.cli.evidence_sealing import acting_user
    from auditspan.cli.reading import existing

    directory, settings = existing(data), settings_of(data, config)
    files = KeyFiles(directory.signing_key, directory.trust)
    deployment = load_trust(directory.trust).deployment
    with _Sealing(directory, settings) as sealing:
        body = begin_rotation(files, deployment, time.time_ns(), overlap_hours * _HOUR)
        offset = sealing.append(acting_user(), body)
        rotation = finish_rotation(files, body)
        in_use = sealing.wait_until_used(key_id(rotation.new))
    said = {
        "from": key_id(rotation.old),
        "to": key_id(rotation.new),
        "at": body["statement"]["at"],
        "retired_at": body["statement"]["retired_at"],
        "journaled": offset,
        "in_use": in_use,
        "retired_key": files.retired(rotation),
    }
    if as_json:
        print_json(said)
        return
    used = "it signs from now on" if in_use else "it signs once the deployment's service has sealed the rotation"
    console.print(
        f"The signing key is now {said['to'][:16]}: {used}.\n"
        f"Give {directory.trust} to whoever verifies. Copy keys/ and trust.json to every other machine before the "
        f"overlap ends, and destroy {said['retired_key']} after it.",
        soft_wrap=True,
    )


class _Sealing:
    """How a rotation gets into the control log: by the running service, or here."""

    def __init__(self, directory: DataDirectory, settings: Settings) -> None:
        self._directory = directory
        self._settings = settings
        self._stack = ExitStack()
        self._running = False
        self._append: Callable[[str, Mapping[str, Any]], int]

    def __enter__(self) -> _Sealing:
        from auditspan.config import EMBEDDED

        if self._settings.store.url != EMBEDDED:
            self._append = self._journal_here
            return self
        try:
            self._stack.enter_context(self._directory.lock(_PURPOSE))
        except DataDirectoryBusy as busy:
            if busy.purpose != SERVICE:
                raise
            self._running = True
            self._append = self._ask_service
            return self
        if not (self._directory.store.is_dir() and self._directory.journal.is_file()):
            self._stack.close()
            raise AuditSpanError(
                f"{self._directory.root} has sealed nothing yet: its key vouches for nothing that could be rotated.",
                remedy=f"Start a service once, with: auditspan up --data {self._directory.root}",
            )
        self._append = self._journal_here
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def append(self, actor: str, body: Mapping[str, Any]) -> int:
        """Journal it; its offset."""
        return self._append(actor, body)

    def wait_until_used(self, key: str) -> bool:
        """Whether the service signs with it, for which it is given some seconds."""
        from auditspan.cli.control_socket import ask

        deadline = time.monotonic() + _PATIENCE
        while self._running and time.monotonic() < deadline:
            try:
                if ask(self._directory.control_socket, "GET", "/status").get("signing_key") == key:
                    return True
            except AuditSpanError:
                return False  # it ends: the next start signs with it
            time.sleep(0.1)
        return False

    def _ask_service(self, actor: str, body: Mapping[str, Any]) -> int:
        from auditspan.cli.control_socket import ask

        deadline = time.monotonic() + _PATIENCE
        while not self._directory.control_socket.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        said = ask(self._directory.control_socket, "POST", _PATH, {"actor": actor, "body": dict(body)})
        return int(said["offset"])

    def _journal_here(self, actor: str, body: Mapping[str, Any]) -> int:
        from auditspan.cli.journal_writing import journal_to_write
        from auditspan.processors.control import opened_logs
        from auditspan.processors.control_entries import ControlLog
        from auditspan.processors.signing_keys import check_statement, signing_keys
        from auditspan.semconv import EventClass
        from auditspan.store.opening import open_store

        directory, settings = self._directory, self._settings
        with ExitStack() as stack:
            store = stack.enter_context(closing(open_store(directory, settings)))
            journal = stack.enter_context(journal_to_write(directory, settings))
            control_log = opened_logs(journal, store)[0].log_id
            trust = load_trust(directory.trust)
            check_statement(body, signing_keys(journal, store, control_log, trust.deployment, trust.keys))
            return ControlLog(journal).append(EventClass.KEY_ROTATED, actor, dict(body))


def rotation_route(append: Callable[[str, Mapping[str, Any]], int]) -> Route:
    """``POST /keys/rotate`` of the control socket: ``append(actor, body)`` checks a statement and journals it."""
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def answer(request: Request) -> JSONResponse:
        said = await request.body()
        if len(said) > _LARGEST_REQUEST:
            return JSONResponse({"message": "The request is too large."}, 413)
        try:
            document = json.loads(said)
            offset = await asyncio.to_thread(append, str(document["actor"]), document["body"])
        except (ValueError, KeyError, TypeError) as error:
            return JSONResponse({"message": f"The request is not understood: {type(error).__name__}."}, 400)
        except AuditSpanError as error:
            return JSONResponse({"message": error.message, "remedy": error.remedy}, 409)
        return JSONResponse({"offset": offset})

    return Route(_PATH, answer, methods=["POST"])
