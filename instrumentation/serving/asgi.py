"""The instrumentor of ASGI servers: every application served is recorded, whatever its framework.

``uvicorn.config.Config.load`` makes the application that uvicorn serves, on every way there is: command line,
``uvicorn.run``, ``--factory``, ``--workers``, gunicorn's uvicorn worker, servers that embed it. The hook goes around
the result, so it sees the peer itself, before uvicorn's own proxy middleware has put a header in its place.
``starlette.applications.Starlette.__call__`` covers Starlette and FastAPI under any other server. Where both meet, the
outermost records and the other steps aside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from ..guard import guarded
from ..recorder import get_recorder
from .middleware import AuditMiddleware
from .settings import ServingSettings

__all__ = ["AsgiAuditInstrumentor", "AuditMiddleware"]


class AsgiAuditInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Wraps what ASGI servers serve in ``AuditMiddleware``. Servers and frameworks are not imported for it.

    Keyword arguments of ``instrument``: ``recorder`` and ``settings``, as for ``AuditMiddleware``.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: a server is hooked when it is imported, so that a process without one carries nothing."""
        return ()

    _active = False
    _registered = False

    def _instrument(self, **kwargs: Any) -> None:
        self._settings = kwargs.get("settings") or ServingSettings.from_environment()
        self._recorder = kwargs.get("recorder")
        self._active = True
        if not self._registered:
            self._registered = True
            # Called at once when the module is there already, else when it is first imported.
            wrapt.register_post_import_hook(self._hook_uvicorn, "uvicorn.config")
            wrapt.register_post_import_hook(self._hook_uvicorn_server, "uvicorn.server")
            wrapt.register_post_import_hook(self._hook_starlette, "starlette.applications")

    def _uninstrument(self, **kwargs: Any) -> None:
        # Wrappers stay and pass on: another instrumentor's may lie around them.
        self._active = False

    def _hook_uvicorn(self, module: Any) -> None:
        wrapt.wrap_function_wrapper(module, "Config.load", self._load)

    def _hook_uvicorn_server(self, module: Any) -> None:
        wrapt.wrap_function_wrapper(module, "Server.shutdown", self._shutdown)

    def _hook_starlette(self, module: Any) -> None:
        wrapt.wrap_function_wrapper(module, "Starlette.__call__", self._call)

    def _load(self, wrapped: Callable[..., Any], config: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        if self._active:
            config.loaded_app = AuditMiddleware(config.loaded_app, recorder=self._recorder, settings=self._settings)
        return result

    async def _shutdown(self, wrapped: Callable[..., Any], server: Any, args: Any, kwargs: Any) -> Any:
        """End the stream with the server: uvicorn then dies of the signal that ended it, and no exit handler runs."""
        result = await wrapped(*args, **kwargs)
        if self._active:
            # What a fault here leaves unshipped is in the spool, for the next process: no record is lost.
            await asyncio.to_thread(guarded, "serving.shutdown", None, self._close)
        return result

    def _close(self) -> None:
        (self._recorder or get_recorder()).close()

    def _call(self, wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        if not self._active:
            return wrapped(*args, **kwargs)
        return AuditMiddleware(wrapped, recorder=self._recorder, settings=self._settings)(*args, **kwargs)
