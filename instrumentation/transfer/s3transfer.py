"""The instrumentor of S3: ``model.transfer`` for managed transfers, direct calls and signed URLs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from .artifact import TransferSettings
from .direct import DirectTransfers
from .managed import ManagedTransfers

__all__ = ["S3TransferAuditInstrumentor"]

Hook = Callable[[Callable[..., Any], Any, Any, Any], Any]

_PLACES: Final = (
    ("s3transfer.manager", "TransferManager.upload", "managed.submit"),
    ("s3transfer.manager", "TransferManager.download", "managed.submit"),
    ("s3transfer.manager", "TransferManager.copy", "managed.submit"),
    ("s3transfer.crt", "CRTTransferManager.upload", "managed.submit_crt"),
    ("s3transfer.crt", "CRTTransferManager.download", "managed.submit_crt"),
    ("s3transfer.tasks", "Task.__call__", "managed.task"),
    ("botocore.client", "BaseClient._make_api_call", "direct.call"),
    ("botocore.signers", "generate_presigned_url", "direct.presign_url"),
    ("botocore.signers", "generate_presigned_post", "direct.presign_post"),
)
"""Module, name in it, and the hook that goes around it."""


class S3TransferAuditInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Records transfers of model artifacts through S3: an intent before, the outcome after, once per transfer.

    botocore and s3transfer are not imported for it. Keyword arguments of ``instrument``: ``recorder`` and ``settings``.
    """

    _active = False
    _registered = False

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: the libraries are hooked when they are imported, so that a process without them carries nothing."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        recorder = kwargs.get("recorder")
        settings = kwargs.get("settings") or TransferSettings.from_environment()
        managed = ManagedTransfers(settings, recorder)
        direct = DirectTransfers(settings, managed, recorder)
        self._hooks: dict[str, Hook] = {
            "managed.submit": managed.submit,
            "managed.submit_crt": managed.submit_crt,
            "managed.task": managed.task,
            "direct.call": direct.call,
            "direct.presign_url": direct.presign_url,
            "direct.presign_post": direct.presign_post,
        }
        self._active = True
        if not self._registered:
            self._registered = True
            for name in dict.fromkeys(module for module, _, _ in _PLACES):
                # Called at once when the module is there already, else when it is first imported.
                wrapt.register_post_import_hook(self._wrap, name)

    def _uninstrument(self, **kwargs: Any) -> None:
        # Wrappers stay and pass on: another instrumentor's may lie around them.
        self._active = False

    def _wrap(self, module: Any) -> None:
        for name, path, hook in _PLACES:
            if name == module.__name__:
                wrapt.wrap_function_wrapper(module, path, functools.partial(self._around, hook))

    def _around(self, hook: str, wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        if not self._active:
            return wrapped(*args, **kwargs)
        return self._hooks[hook](wrapped, instance, args, kwargs)
