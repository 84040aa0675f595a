"""One request to the collector, and what its answer means.

Only an OTLP answer acknowledges: status 200 with an ``ExportTraceServiceResponse`` that rejects nothing (OTLP
specification 1.10, "OTLP/HTTP Response"). The page of a proxy, however 200 it is, does not.
"""

from __future__ import annotations

import datetime
import email.utils
import encodings.idna
import gzip
import http.client
import logging
import math
import os
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from .. import __version__
from .settings import InstrumentationSettings
from .spool_reader import Record

__all__ = ["Answer", "Client", "Verdict", "build_request"]

# Imported before any thread resolves a name: an import that a fork interrupts can never be completed in the child.
assert encodings.idna

_log = logging.getLogger(__name__)
_RETRY_STATUS: Final = frozenset({401, 403, 404, 405, 407, 408, 415, 421, 423, 425, 426, 429, 431, 451})
"""4xx that speak of credentials, routes or load, not of the spans: the records wait until somebody puts that right."""
_CREDENTIAL: Final = "the collector does not accept the token: correct AUDITSPAN_TOKEN or AUDITSPAN_TOKEN_FILE"
_WHAT_TO_CORRECT: Final[dict[int, str]] = {
    401: _CREDENTIAL,
    403: _CREDENTIAL,
    404: "AUDITSPAN_ENDPOINT does not lead to a collector of OTLP over HTTP",
    405: "AUDITSPAN_ENDPOINT does not lead to a collector of OTLP over HTTP",
}
_LONGEST_RETRY_AFTER: Final = 300.0
_LARGEST_ANSWER: Final = 1024 * 1024
_PROTOBUF: Final = "application/x-protobuf"


class Verdict(Enum):
    """What became of the spans of a request."""

    ACKNOWLEDGED = auto()
    REJECTED = auto()
    """Some or all are refused for good; which, only smaller requests can tell."""
    TOO_LARGE = auto()
    RETRY = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict; for RETRY when to come again in seconds, where the collector says so; and why, for people."""

    verdict: Verdict
    retry_after: float | None = None
    detail: str = ""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(tag: int, body: bytes) -> bytes:
    return bytes((tag,)) + _varint(len(body)) + body


def build_request(resource: bytes, scope: bytes, records: Iterable[Record]) -> bytes:
    """An ``ExportTraceServiceRequest`` around encoded messages, none of which is touched."""
    spans = b"".join(_field(0x12, record.span) for record in records)
    return _field(0x0A, _field(0x0A, resource) + _field(0x12, _field(0x0A, scope) + spans))


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 section 10.2.3): a number or a date."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
        except (ValueError, OverflowError):  # no date, or none that a calendar has
            return None
        seconds = (moment - datetime.datetime.now(tz=moment.tzinfo)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER) if math.isfinite(seconds) else None


def read_answer(status: int, content_type: str, retry_after: str | None, body: bytes) -> Answer:
    """What an HTTP answer says about the spans that were sent."""
    if status == 200:
        if body and _PROTOBUF not in content_type:
            return Answer(Verdict.RETRY, None, f"status 200, but {content_type or 'no type'} instead of an OTLP answer")
        try:
            rejected = ExportTraceServiceResponse.FromString(body).partial_success
        except DecodeError:
            return Answer(Verdict.RETRY, None, "status 200 with a body that is no OTLP answer")
        if rejected.rejected_spans > 0:
            return Answer(Verdict.REJECTED, None, f"{rejected.rejected_spans} spans rejected")
        return Answer(Verdict.ACKNOWLEDGED)
    if status == 413:
        return Answer(Verdict.TOO_LARGE, None, "status 413")
    if 400 <= status < 500 and status not in _RETRY_STATUS:
        return Answer(Verdict.REJECTED, None, f"status {status}")
    correct = _WHAT_TO_CORRECT.get(status)
    return Answer(Verdict.RETRY, _retry_after(retry_after), f"status {status}" + (f": {correct}" if correct else ""))


class Client:
    """A keep-alive connection to the collector; for one thread."""

    def __init__(self, settings: InstrumentationSettings) -> None:
        parts = urlsplit(settings.endpoint)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._path = f"{parts.path.rstrip('/')}/v1/traces"
        self._timeout = settings.request_timeout
        self._connection: http.client.HTTPConnection | None = None
        self._headers = {
            "Content-Type": _PROTOBUF,
            "Content-Encoding": "gzip",
            "User-Agent": f"auditspan/{__version__}",
        }
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token}"

    def post(self, body: bytes) -> Answer:
        """Send one request. Never raises for trouble of the network: that is RETRY."""
        packed = gzip.compress(body, compresslevel=1, mtime=0)
        reused = self._connection is not None
        try:
            return self._post(packed)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            if not reused:
                return Answer(Verdict.RETRY, None, type(error).__name__)
        except (OSError, http.client.HTTPException) as error:
            return Answer(Verdict.RETRY, None, type(error).__name__)
        # The collector had closed an idle connection; a fresh one decides.
        try:
            return self._post(packed)
        except (OSError, http.client.HTTPException) as error:
            return Answer(Verdict.RETRY, None, type(error).__name__)

    def _post(self, packed: bytes) -> Answer:
        connection = self._connection or self._connect()
        try:
            connection.request("POST", self._path, packed, self._headers)
            response = connection.getresponse()
            body = response.read(_LARGEST_ANSWER)
        except BaseException:  # whatever it was, the connection stands in the middle of an exchange
            self.close()
            raise
        if response.will_close or not response.isclosed():
            self.close()
        return read_answer(
            response.status, response.getheader("Content-Type", "").lower(), response.getheader("Retry-After"), body
        )

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        connection.connect()
        self._connection = connection
        return connection

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def forget(self) -> None:
        """In a forked child: drop the inherited socket without a word to the peer, who still talks to the parent."""
        connection, self._connection = self._connection, None
        inherited: socket.socket | None = connection.sock if connection is not None else None
        if inherited is not None:
            descriptor = inherited.detach()
            if descriptor >= 0:
                os.close(descriptor)
