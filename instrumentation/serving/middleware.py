"""The ASGI middleware: ``model.access`` for every request that is one, nothing for the rest."""

from __future__ import annotations

from typing import Final

from ...semconv import EventClass
from ..guard import note_fault, recognised
from ..recorder import AuditRefused, Recorder, get_recorder
from .access import Access, Scope
from .exchange import Application, HttpExchange, Receive, Send, refuse
from .records import AccessRecords
from .settings import ServingSettings
from .websocket import WebSocketExchange

__all__ = ["MARK", "AuditMiddleware"]

MARK: Final = "auditspan.access"
"""Key in the scope of a request that is being recorded, so that the outermost middleware does it, once."""

_CLASS: Final = EventClass.MODEL_ACCESS.value


class AuditMiddleware:
    """Records every access to the ASGI application inside it.

    It is applied by ``opentelemetry-instrument``; where that cannot be, add it by hand as the outermost middleware:
    ``app.add_middleware(AuditMiddleware)``, or, for vLLM, with the option
    ``--middleware auditspan.instrumentation.serving.asgi.AuditMiddleware``.

    Args:
        app: the application.
        recorder: where records go; the process's recorder when None.
        settings: which requests are recorded; from the environment when None.
    """

    def __init__(
        self, app: Application, *, recorder: Recorder | None = None, settings: ServingSettings | None = None
    ) -> None:
        self.app = app
        self._recorder = recorder
        self._settings = settings or ServingSettings.from_environment()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; messages and exceptions pass unchanged."""
        exchange: HttpExchange | WebSocketExchange | _Refusal | None
        try:
            exchange = recognised("serving.begin", _CLASS, self._recorder, None, self._begin, scope, receive, send)
        except AuditRefused:
            exchange = _Refusal(send, websocket=scope["type"] == "websocket")
        if exchange is None:
            await self.app(scope, receive, send)
            return
        await exchange.run(self.app, scope)

    def _begin(self, scope: Scope, receive: Receive, send: Send) -> HttpExchange | WebSocketExchange | _Refusal | None:
        kind = scope["type"]
        if kind not in {"http", "websocket"} or MARK in scope:
            return None
        method = scope.get("method", "") if kind == "http" else "websocket"
        if not self._settings.routes.records(method, scope["path"], scope.get("root_path", "")):
            return None
        recorder = self._recorder or get_recorder()
        if not recorder.enabled:
            return None
        # In place, not in a copy: servers and their middleware read back from the scope what was put into it.
        scope[MARK] = True
        if recorder.losing and recorder.refuses(_CLASS):
            return _Refusal(send, websocket=kind == "websocket")
        access = Access(scope, recorder.settings, self._settings.forwarded_header)
        records = AccessRecords(recorder, access)
        if kind == "websocket":
            return WebSocketExchange(access, records, receive, send)
        return HttpExchange(access, records, scope, receive, send)


class _Refusal:
    """Stands in for an exchange whose record is known to be lost: the application is not called at all."""

    def __init__(self, send: Send, *, websocket: bool) -> None:
        self._send = send
        self._websocket = websocket

    async def run(self, application: Application, scope: Scope) -> None:
        # Not a loss of its own: the application is not called.
        note_fault("serving.refused", AuditRefused("Records are being lost."))
        if self._websocket:
            await self._send({"type": "websocket.close", "code": 1013})
        else:
            await refuse(self._send)
