"""Asking for a decision: the service on loopback by the standard library, or this very process."""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from ... import __version__, decide
from ...errors import AuditSpanError
from ..settings import InstrumentationSettings
from .question import encoded
from .settings import DecideWith

__all__ = ["Answer", "Failure", "NoDecision", "ask"]

Failure = Literal["missing", "stale", "broken", "timeout", "unreachable", "denied", "rejected", "busy", "fault"]
"""Why there is no decision: ``export_control.decision.failure``."""

_LARGEST_ANSWER: Final = 1024 * 1024
_SNAPSHOT: Final[dict[object, Failure]] = {"missing": "missing", "broken": "broken"}
"""By the reason of a ``SnapshotUnavailable``."""
_PROBLEMS: Final[dict[str, Failure]] = {"snapshot-missing": "missing", "snapshot-broken": "broken"}
"""By the last part of a problem's type."""
_STATUS: Final[dict[int, Failure]] = {401: "denied", 403: "denied", 404: "unreachable", 408: "timeout", 503: "busy"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision, as far as enforcement needs it; see ``auditspan.policy.decision.Decision``."""

    governing: str
    flagged: bool
    rule_ids: tuple[str, ...]
    citations: tuple[str, ...]
    why: str
    remedy: str
    license: str | None
    epoch: int
    age: float | None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Answer:
        """The answer that JSON says.

        Raises:
            NoDecision: it is none.
        """
        try:
            age, license_ = said["age_seconds"], said["license"]
            return cls(
                governing=_text(said["governing"]),
                flagged=said["flagged"] is True,
                rule_ids=tuple(map(_text, said["rule_ids"])),
                citations=tuple(map(_text, said["citations"])),
                why=_text(said["why"]),
                remedy=_text(said["remedy"]),
                license=None if license_ is None else _text(license_),
                epoch=int(said["epoch"]["number"]),
                age=None if age is None else float(age),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NoDecision("fault", "the answer is no decision") from error


class NoDecision(Exception):
    """There is none; ``failure`` says why, ``detail`` says it to people."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure: Failure = failure
        self.detail = detail


def ask(settings: InstrumentationSettings, asked: dict[str, object]) -> Answer:
    """The decision on ``asked``.

    Raises:
        NoDecision: none could be had, or not in time.
    """
    if settings.enforcement.decide_with is DecideWith.PROCESS:
        return _in_process(settings, asked)
    status, body = _post(settings, encoded(asked))
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if status == 200 and isinstance(said, dict):
        return Answer.of(said)
    problem = str(said.get("type", "")).rpartition("/")[2] if isinstance(said, dict) else ""
    failure = _PROBLEMS.get(problem) or _STATUS.get(status) or ("rejected" if 400 <= status < 500 else "fault")
    detail = said.get("detail") if isinstance(said, dict) else None
    raise NoDecision(failure, f"status {status}" + (f": {str(detail)[:500]}" if detail else ""))


def _in_process(settings: InstrumentationSettings, asked: dict[str, object]) -> Answer:
    try:
        return Answer.of(decide(asked, data=settings.enforcement.data_directory or None).to_json())
    except AuditSpanError as error:
        # A snapshot that is not there says so itself; the rest is a question that is none, or no pipeline to ask.
        said = getattr(error, "reason", None)
        failure = _SNAPSHOT.get(said, "unreachable" if type(error) is AuditSpanError else "rejected")
        raise NoDecision(failure, str(error)) from error


def _post(settings: InstrumentationSettings, body: bytes) -> tuple[int, bytes]:
    """Status and body of the service's answer.

    A socket and not a connection of ``http.client``: that would wait for so long at every step, not in all.
    """
    parts = urlsplit(settings.enforcement.endpoint or settings.endpoint)
    secure = parts.scheme == "https"
    deadline = time.monotonic() + settings.enforcement.timeout
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    head = [
        f"POST {parts.path.rstrip('/')}/v1/decide HTTP/1.1",
        f"Host: {f'[{host}]' if ':' in host else host}:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"User-Agent: auditspan/{__version__}",
        "Connection: close",
    ]
    if settings.token:
        head.append(f"Authorization: Bearer {settings.token}")
    request = "\r\n".join([*head, "", ""]).encode() + body
    try:
        with _connected(host, port, deadline) as plain:
            connection = plain
            if secure:
                connection = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
            with connection:
                connection.settimeout(_left(deadline))
                connection.sendall(request)
                raw = _received(connection, deadline)
        response = http.client.HTTPResponse(_Answered(raw))  # type: ignore[arg-type]
        response.begin()
        return response.status, response.read(_LARGEST_ANSWER)
    except TimeoutError as error:
        raise NoDecision("timeout", f"no answer within {settings.enforcement.timeout:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise NoDecision("unreachable", f"the service cannot be asked ({type(error).__name__})") from error


def _connected(host: str, port: int, deadline: float) -> socket.socket:
    """A connection to the first address of ``host`` that takes one, all of them together before ``deadline``.

    Not ``socket.create_connection``, which gives each address the whole time. One that does not answer leaves the
    others their share.
    """
    refused: OSError | None = None
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(deadline) / (len(addresses) - position))
            connection.connect(address)
            connection.settimeout(_left(deadline))
        except OSError as error:
            connection.close()
            refused = error
        else:
            return connection
    raise refused or OSError(f"{host} has no address")


def _received(connection: socket.socket, deadline: float) -> bytes:
    raw = bytearray()
    while len(raw) <= _LARGEST_ANSWER:
        connection.settimeout(_left(deadline))
        part = connection.recv(65_536)
        if not part:
            break
        raw += part
    return bytes(raw)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Answered:
    """What ``HTTPResponse`` asks of a socket, over bytes that are there."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, mode: str) -> io.BytesIO:
        """The bytes as a file."""
        return io.BytesIO(self._raw)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
