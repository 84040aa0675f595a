"""One HTTP request and its response as they pass by: recorded before the client sees the first and the last byte.

The application's messages go on unchanged and in order. Only the moment changes: ``http.response.start`` waits for the
first piece of the body, because only that tells a response of one piece (one record, with its outcome) from a streamed
one (a start record before the first byte, an outcome before the last).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from ...semconv import Outcome
from ..guard import guarded, note_fault
from ..recorder import AuditRefused
from .access import Access, Scope
from .peek import ResponsePeek, peek_whole
from .records import AccessRecords

__all__ = ["HttpExchange", "Message", "Receive", "Send"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_PEEKED: Final = ("application/json", "application/problem+json", "text/event-stream", "application/x-ndjson")
_STREAMS: Final = ("text/event-stream", "application/x-ndjson", "application/grpc", "multipart/x-mixed-replace")
"""Types whose start goes out at once: a client may wait for it long before the first event."""

_NO_BODY: Final = frozenset({204, 304})

_REFUSAL: Final = json.dumps(
    {
        "error": {
            "message": "Refused: the audit record that this service must keep of every request cannot be made durable. "
            "Nothing is wrong with the request; try again later.",
            "type": "service_unavailable",
            "code": "audit_unavailable",
        }
    }
).encode()


class _Withdrawn(OSError):
    """What the application's ``send`` raises after a refusal, as the ASGI specification does after a disconnect."""


class HttpExchange:
    """Passes messages between server and application, and has them recorded."""

    def __init__(self, access: Access, records: AccessRecords, scope: Scope, receive: Receive, send: Send) -> None:
        self._access = access
        self._records = records
        self._server_receive = receive
        self._server_send = send
        self._head = scope.get("method") == "HEAD"
        self._turn = asyncio.Lock()
        self._held: Message | None = None
        self._response_begun = False
        self._complete = False
        self._refused = False
        self._disconnected = False
        self._request_open = access.has_body
        self._expected: int | None = None
        self._pieces = 0
        self._event_stream = False
        self._peek: ResponsePeek | None = None

    async def run(self, application: Application, scope: Scope) -> None:
        """Run the application; what it raises is raised unchanged, after it is recorded."""
        try:
            await application(scope, self._receive, self._send)
        except BaseException as error:  # being cancelled is an outcome too
            if self._refused and isinstance(error, Exception):
                # The application fell over the refusal, which is counted; the client has its answer.
                return
            await self._ended(error)
            raise
        await self._ended(None)

    async def _receive(self) -> Message:
        if self._refused:
            return {"type": "http.disconnect"}
        if self._held is not None and self._request_open:
            # The client may be waiting for the start of the response before it sends the rest of the request.
            async with self._turn:
                if self._held is not None and not self._refused:
                    await self._begin()
        message = await self._server_receive()
        guarded("serving.request", None, self._see_request, message)
        return message

    def _see_request(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.request":
            more = bool(message.get("more_body", False))
            self._request_open = more
            self._access.request.feed(message.get("body", b""), more=more)
        elif kind == "http.disconnect":
            self._request_open = False
            self._disconnected = True

    async def _send(self, message: Message) -> None:
        if self._complete:
            await self._server_send(message)
            return
        async with self._turn:
            if self._refused:
                raise _Withdrawn
            kind = message["type"]
            if kind == "http.response.start" and self._held is None and not self._response_begun:
                await self._start(message)
            elif kind == "http.response.body":
                more = bool(message.get("more_body", False))
                await self._pass(message, last=guarded("serving.response", not more, self._see_body, message, more))
            elif kind == "http.response.pathsend":
                guarded("serving.response", None, self._see_file, message)
                await self._pass(message, last=True)
            elif kind == "http.response.zerocopysend":
                guarded("serving.response", None, self._see_file_part, message)
                await self._pass(message, last=not message.get("more_body", False))
            else:
                # Trailers, push, early hints, a second start: nothing of ours, but the client may see it.
                await self._pass(message, last=False)

    async def _start(self, message: Message) -> None:
        self._held = message
        if guarded("serving.response", False, self._see_start, message):
            await self._begin()

    def _see_start(self, message: Message) -> bool:
        """Learn from the start of the response; whether it begins a stream for sure."""
        self._access.status = int(message["status"])
        content_type, encoded = b"", False
        for name, value in message.get("headers", ()):
            lowered = bytes(name).lower()
            if lowered == b"content-type":
                content_type = bytes(value).lower()
            elif lowered == b"content-length":
                self._expected = int(value)
            elif lowered == b"content-encoding":
                encoded = bytes(value).strip().lower() not in {b"", b"identity"}
        kind = content_type.partition(b";")[0].strip().decode("latin-1")
        if self._head or self._access.status in _NO_BODY:
            self._expected = 0
        if kind in _PEEKED and not encoded:
            self._peek = ResponsePeek()
        self._event_stream = kind == "text/event-stream"
        return kind.startswith(_STREAMS) and self._expected is None

    def _see_body(self, message: Message, more: bool) -> bool:
        """Learn from a piece of the body; whether it is the last one that the client will see."""
        piece = message.get("body", b"")
        access = self._access
        self._pieces += 1
        access.response_size += len(piece)
        last = not more or (self._expected is not None and access.response_size >= self._expected)
        if self._peek is not None and not self._head:
            if last and self._pieces == 1:
                access.response_model, access.usage = peek_whole(piece)
                self._peek = None
            else:
                self._peek.feed(piece)
                if not access.response_model:
                    access.response_model = self._peek.model()
                last = last or (self._event_stream and self._peek.done_event)
        return last

    def _see_file(self, message: Message) -> None:
        self._access.response_size += os.stat(message["path"]).st_size  # noqa: PTH116

    def _see_file_part(self, message: Message) -> None:
        self._access.response_size += int(message.get("count") or 0)

    async def _pass(self, message: Message, *, last: bool) -> None:
        """Forward a message, after what must be recorded before it."""
        if last:
            await self._finish()
        elif not self._response_begun:
            await self._begin()
        await self._server_send(message)

    async def _begin(self) -> None:
        """Record the start of a streamed response, then let its first byte go."""
        self._access.streaming = True
        try:
            await self._records.start()
        except AuditRefused as refusal:
            await self._refuse(refusal)
        await self._release()

    async def _finish(self) -> None:
        """Record the outcome of a response that is about to be complete, then let go what is held."""
        access = self._access
        if access.streaming is None:
            access.streaming = False
        if self._peek is not None:
            guarded("serving.usage", None, self._see_usage, self._peek)
        error = sys.exception()
        if error is not None and access.outcome_of_status() is Outcome.FAILURE:
            # The framework is answering from within an `except`: this is what it answers to.
            access.note_error(error)
        outcome = Outcome.INTERRUPTED if self._disconnected else access.outcome_of_status()
        try:
            await self._records.end(outcome)
        except AuditRefused as refusal:
            await self._refuse(refusal)
        await self._release()
        self._complete = True

    def _see_usage(self, peek: ResponsePeek) -> None:
        self._access.response_model = self._access.response_model or peek.model()
        self._access.usage = peek.usage()

    async def _release(self) -> None:
        self._response_begun = True
        held, self._held = self._held, None
        if held is not None:
            await self._server_send(held)

    async def _refuse(self, refusal: AuditRefused) -> None:
        """Answer 503 in the application's place.

        Raises:
            _Withdrawn: always, so that the application stops working for a client that gets nothing of it.
        """
        self._refused = True
        self._held = None
        note_fault("serving.refused", refusal)
        await refuse(self._server_send)
        raise _Withdrawn from refusal

    async def _ended(self, error: BaseException | None) -> None:
        """The application is done; when its response is not, the record says so, and the server gets what was held."""
        if self._complete or self._refused:
            return
        if error is not None:
            self._access.note_error(error)
        elif not self._disconnected:
            self._access.error_type = "incomplete_response"
        cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt | SystemExit)
        if not self._response_begun and (self._held is None or cancelled):
            self._access.status = None
        if self._peek is not None:
            guarded("serving.usage", None, self._see_usage, self._peek)
        outcome = Outcome.INTERRUPTED if cancelled or self._disconnected else Outcome.FAILURE
        try:
            if cancelled:
                self._records.end_now(outcome)
            else:
                await self._records.end(outcome)
        except AuditRefused as refusal:
            note_fault("serving.refused", refusal)
            return
        finally:
            self._complete = True
        if self._held is not None and not cancelled:
            await self._release()


async def refuse(send: Send) -> None:
    """Send the answer of a service that must not act because it cannot record."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_REFUSAL)).encode()),
        (b"retry-after", b"1"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})
