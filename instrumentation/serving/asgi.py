"""The instrumentor of ASGI servers: every application served is recorded, whatever its framework.

``uvicorn.config.Config.load`` makes the application that uvicorn serves, on every way there is: command line,
``uvicorn.run``, ``--factory``, ``--workers``, gunicorn's uvicorn worker, servers that embed it. The hook goes around the
result, so it sees the peer itself, before uvicorn's own proxy middleware has put a header in its place.
``starlette.applications.Starlette.__call__`` covers Starlette and FastAPI under any other server. Where both meet, the
outermost records and the other steps aside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from typing import Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.instrumentation.utils import unwrap

from .middleware import AuditMiddleware
from .settings import ServingSettings

__all__ = ["AsgiAuditInstrumentor", "AuditMiddleware"]

_UVICORN: Final = "uvicorn.config"
_STARLETTE: Final = "starlette.applications"


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
        hooks = {_UVICORN: self._hook_uvicorn, _STARLETTE: self._hook_starlette}
        for name, hook in hooks.items():
            if not self._registered:
                # Called at once when the module is there already, else when it is first imported.
                wrapt.register_post_import_hook(hook, name)
            elif name in sys.modules:
                hook(sys.modules[name])
        self._registered = True

    def _uninstrument(self, **kwargs: Any) -> None:
        self._active = False
        for module, owner, name in ((_UVICORN, "Config", "load"), (_STARLETTE, "Starlette", "__call__")):
            if module in sys.modules:
                unwrap(getattr(sys.modules[module], owner), name)

    def _hook_uvicorn(self, module: Any) -> None:
        if self._active:
            wrapt.wrap_function_wrapper(module, "Config.load", self._load)

    def _hook_starlette(self, module: Any) -> None:
        if self._active:
            wrapt.wrap_function_wrapper(module, "Starlette.__call__", self._call)

    def _load(self, wrapped: Callable[..., Any], config: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        config.loaded_app = AuditMiddleware(config.loaded_app, recorder=self._recorder, settings=self._settings)
        return result

    def _call(self, wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        return AuditMiddleware(wrapped, recorder=self._recorder, settings=self._settings)(*args, **kwargs)
