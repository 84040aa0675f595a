"""One WebSocket connection as it passes by: one access, recorded before it is accepted and when it ends."""

from __future__ import annotations

from typing import Final

from ...semconv import Outcome
from ..guard import guarded, note_fault
from ..recorder import AuditRefused
from .access import Access, Scope
from .exchange import Application, Message, Receive, Send
from .records import AccessRecords

__all__ = ["WebSocketExchange"]

_ORDERLY: Final = frozenset({1000, 1001, 1005})
_TRY_AGAIN_LATER: Final = 1013


class WebSocketExchange:
    """Passes a connection's messages on unchanged, and has the connection recorded."""

    def __init__(self, access: Access, records: AccessRecords, receive: Receive, send: Send) -> None:
        self._access = access
        self._records = records
        self._server_receive = receive
        self._server_send = send
        self._accepted = False
        self._refused = False

    async def run(self, application: Application, scope: Scope) -> None:
        """Run the application; what it raises is raised unchanged, after it is recorded."""
        try:
            await application(scope, self._receive, self._send)
        except BaseException as error:  # being cancelled is an outcome too
            if self._refused and isinstance(error, Exception):
                # The application fell over the refusal, which is counted; the client has its answer.
                return
            self._access.note_error(error)
            cancelled = not isinstance(error, Exception)
            guarded("serving.websocket", None, self._end_now, Outcome.INTERRUPTED if cancelled else Outcome.FAILURE)
            raise
        if not self._refused:
            guarded("serving.websocket", None, self._end_now, Outcome.SUCCESS if self._accepted else Outcome.FAILURE)

    def _end_now(self, outcome: Outcome) -> None:
        """Record the end. What costs the record is counted there; no more than a refusal comes from it."""
        self._records.end_now(outcome)

    async def _receive(self) -> Message:
        message = await self._server_receive()
        if message["type"] == "websocket.receive":
            guarded("serving.request", None, self._see_request, message)
        elif message["type"] == "websocket.disconnect":
            orderly = message.get("code", 1005) in _ORDERLY
            guarded("serving.websocket", None, self._end_now, Outcome.SUCCESS if orderly else Outcome.INTERRUPTED)
        return message

    def _see_request(self, message: Message) -> None:
        self._access.request.size += _size(message)

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._refused:
            raise OSError("the connection was refused")
        try:
            if kind == "websocket.accept":
                self._accepted = True
                self._access.streaming = True
                await self._records.start()
            elif kind == "websocket.send":
                self._access.response_size += guarded("serving.response", 0, _size, message)
            elif kind == "websocket.close":
                if not self._accepted:
                    self._access.status = 403
                await self._records.end(Outcome.SUCCESS if self._accepted else Outcome.DENIED)
            elif kind == "websocket.http.response.start":
                self._access.status = guarded("serving.response", None, _status, message)
                await self._records.end(self._access.outcome_of_status())
        except AuditRefused as refusal:
            self._refused = True
            note_fault("serving.refused", refusal)
            await self._server_send({"type": "websocket.close", "code": _TRY_AGAIN_LATER})
            raise OSError("the connection was refused") from refusal
        await self._server_send(message)


def _size(message: Message) -> int:
    text = message.get("text")
    return len(text.encode("utf-8", "surrogatepass")) if text is not None else len(message.get("bytes") or b"")


def _status(message: Message) -> int:
    return int(message["status"])
