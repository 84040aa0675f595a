"""Transfers that ``s3transfer`` manages: one pair of records each, however many API calls on however many threads.

``TransferManager.upload``, ``download`` and ``copy`` are what boto3's ``upload_file`` and its kin come down to;
``CRTTransferManager`` takes their place on hosts where ``awscrt`` moves the bytes outside botocore.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from ... import semconv
from ...semconv import EventClass, Outcome
from ..aws_client import caller_attributes, error_attributes, outcome_of_error
from ..encode import AttributeValue
from ..guard import guarded, recognised
from ..hooked_action import HookedAction
from ..recorder import Recorder
from .artifact import COPY_SOURCE, TransferSettings, body_size, copy_source, declared_digest, place, s3_uri

__all__ = ["PARAMETERS", "ManagedTransfers"]

PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "upload": ("fileobj", "bucket", "key", "extra_args", "subscribers"),
    "download": ("bucket", "key", "fileobj", "extra_args", "subscribers"),
    "copy": ("copy_source", "bucket", "key", "extra_args", "subscribers", "source_client"),
}
"""Parameters of the managers' methods, in order."""

_CLASS: Final = EventClass.MODEL_TRANSFER

_at_work: ContextVar[bool] = ContextVar("auditspan_s3transfer_at_work", default=False)


class ManagedTransfers:
    """Hooks of the transfer managers, and the knowledge of which API calls are theirs."""

    def __init__(self, settings: TransferSettings, recorder: Recorder | None = None) -> None:
        self._settings = settings
        self._recorder = recorder
        self._active: Counter[str] = Counter()
        self._lock = threading.Lock()

    def covers(self, uri: str) -> bool:
        """Whether an API call made here and now belongs to a managed transfer, which has its own records."""
        return _at_work.get() and uri in self._active

    def task(self, wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        """Around ``Task.__call__``: marks the thread while it works for a manager."""
        with _working():
            return wrapped(*args, **kwargs)

    def submit(self, wrapped: Callable[..., Any], manager: Any, args: Any, kwargs: Any) -> Any:
        """Around ``TransferManager.upload``, ``download`` and ``copy``."""
        return self._run(wrapped, lambda: caller_attributes(manager.client), args, kwargs)

    def submit_crt(self, wrapped: Callable[..., Any], manager: Any, args: Any, kwargs: Any) -> Any:
        """Around ``CRTTransferManager.upload`` and ``download``, which prepare requests with a client of their own."""
        with _working():
            return self._run(wrapped, lambda: _crt_caller(manager), args, kwargs)

    def _run(
        self, wrapped: Callable[..., Any], caller: Callable[[], dict[str, AttributeValue]], args: Any, kwargs: Any
    ) -> Any:
        found = recognised("s3transfer.arguments", _CLASS, self._recorder, None, self._find, wrapped, args, kwargs)
        if found is None:
            return wrapped(*args, **kwargs)
        direction, uri, bound = found
        transfer = HookedAction(_CLASS, self._attributes(direction, uri, caller, bound), recorder=self._recorder)
        transfer.begin()
        with self._lock:
            self._active[uri] += 1
        ended = False

        def done(outcome: Outcome, more: dict[str, AttributeValue]) -> None:
            nonlocal ended
            with self._lock:
                if ended:
                    # Told of by the manager, before its method raised all the same.
                    return
                ended = True
                self._active[uri] -= 1
                if not self._active[uri]:
                    del self._active[uri]
            transfer.end(outcome, more)

        try:
            # First in the list: a subscriber of the caller's may run for long, or use the artifact.
            return wrapped(**{**bound, "subscribers": [_OnDone(done), *(bound.get("subscribers") or ())]})
        except BaseException as error:  # being interrupted is an outcome too
            done(outcome_of_error(error), error_attributes(error))
            raise

    def _find(self, wrapped: Callable[..., Any], args: Any, kwargs: Any) -> tuple[str, str, dict[str, Any]] | None:
        """Direction, artifact and arguments of a transfer that is recorded."""
        direction = wrapped.__name__
        bound = _bind(direction, args, kwargs)
        if bound is None:
            return None
        uri = s3_uri(bound["bucket"], bound["key"])
        return (direction, uri, bound) if self._settings.records(uri) else None

    def _attributes(
        self, direction: str, uri: str, caller: Callable[[], dict[str, AttributeValue]], bound: Mapping[str, Any]
    ) -> dict[str, AttributeValue]:
        unknown: dict[str, AttributeValue] = {semconv.AUDIT_ACTOR_ID: "unknown"}
        known = guarded("s3transfer.client", unknown, caller)
        return {
            **known,
            semconv.CLOUD_REGION: place(direction, known.get(semconv.CLOUD_REGION), self._settings),
            semconv.AUDIT_ACTION: direction,
            semconv.AUDIT_TARGET_ID: uri,
            semconv.AUDIT_TARGET_TYPE: "model.artifact",
            semconv.TRANSFER_DIRECTION: direction,
            COPY_SOURCE: guarded("s3transfer.source", None, copy_source, bound.get("copy_source")),
            semconv.ARTIFACT_SIZE: guarded("s3transfer.size", None, _size_before, direction, bound),
            semconv.ARTIFACT_DIGEST: guarded("s3transfer.digest", None, declared_digest, bound.get("extra_args") or {}),
        }


class _OnDone:
    """A subscriber, in the shape that ``s3transfer`` asks for, that hears of the end of a transfer."""

    def __init__(self, done: Callable[[Outcome, dict[str, AttributeValue]], None]) -> None:
        self._done = done
        self._told = False

    def on_queued(self, future: Any, **kwargs: Any) -> None:
        """Nothing: the intent is written."""

    def on_progress(self, future: Any, bytes_transferred: int, **kwargs: Any) -> None:
        """Nothing: a record is for the transfer, not for its parts."""

    def on_done(self, future: Any, **kwargs: Any) -> None:
        """Write the outcome. The result is there: reading it does not wait."""
        if self._told:
            return
        self._told = True
        error = guarded("s3transfer.result", None, _error_of, future, kwargs)
        size = guarded("s3transfer.size", None, lambda: getattr(future.meta, "size", None))
        more: dict[str, AttributeValue] = {} if size is None else {semconv.ARTIFACT_SIZE: size}
        if error is None:
            self._done(Outcome.SUCCESS, more)
        else:
            self._done(outcome_of_error(error), {**more, **error_attributes(error)})


def _crt_caller(manager: Any) -> dict[str, AttributeValue]:
    """The caller behind a ``CRTTransferManager``.

    Its serializing client signs nothing: the credentials are those that boto3 gave to the process's one native client,
    or those of the session when the manager was made by hand.
    """
    serializer = manager._s3_args_creator._request_serializer
    shared = getattr(sys.modules.get("boto3.crt"), "CRT_S3_CLIENT", None)
    if shared is not None and shared.crt_client is manager._crt_s3_client:
        credentials = shared.cred_provider._resolved_credentials
    else:
        credentials = serializer._session.get_credentials()
    return caller_attributes(serializer._client, credentials)


def _error_of(future: Any, given: Mapping[str, Any]) -> BaseException | None:
    """What a transfer failed with: the CRT manager passes it on, the other keeps it in the future."""
    if "error" in given:
        error = given["error"]
        return error if isinstance(error, BaseException) else None
    try:
        future.result()
    except BaseException as error:  # s3transfer keeps whatever ended the transfer, interrupts included
        return error
    return None


def _bind(name: str, args: Any, kwargs: Any) -> dict[str, Any] | None:
    """Arguments by name; None for a call that the method itself will not accept."""
    names = PARAMETERS[name]
    bound = dict(zip(names, args, strict=False)) | kwargs
    fits = len(args) <= len(names) and not set(names[: len(args)]) & set(kwargs) and set(kwargs) <= set(names)
    return bound if fits and set(names[:3]) <= set(bound) else None


def _size_before(direction: str, bound: Mapping[str, Any]) -> int | None:
    return body_size(bound["fileobj"]) if direction == "upload" else None


@contextmanager
def _working() -> Iterator[None]:
    token = _at_work.set(True)
    try:
        yield
    finally:
        _at_work.reset(token)
