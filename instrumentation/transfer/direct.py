"""S3 calls that move an object without a transfer manager, and the signing of URLs that let others move it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from ... import semconv
from ...semconv import EventClass, Outcome
from ..aws_client import caller_attributes, error_attributes, outcome_of_error
from ..encode import AttributeValue
from ..guard import guarded, note_loss, recognised
from ..hooked_action import HookedAction
from ..recorder import Recorder
from .artifact import COPY_SOURCE, TransferSettings, body_size, copy_source, declared_digest, place, s3_uri
from .managed import ManagedTransfers

__all__ = ["DirectTransfers"]

_CLASS: Final = EventClass.MODEL_TRANSFER
_DIRECTIONS: Final = {
    "PutObject": "upload",
    "GetObject": "download",
    "CopyObject": "copy",
    "CreateMultipartUpload": "upload",
    "CompleteMultipartUpload": "upload",
}
_GRANTS: Final = {
    "get_object": "GetObject",
    "put_object": "PutObject",
    "upload_part": "UploadPart",
    "copy_object": "CopyObject",
}
_OPEN_UPLOADS: Final = 1024
"""Multipart uploads begun here that are waited for; beyond it the oldest stay without outcome."""


class DirectTransfers:
    """Hooks of ``BaseClient._make_api_call`` for S3, and of the functions that sign URLs."""

    def __init__(self, settings: TransferSettings, managed: ManagedTransfers, recorder: Recorder | None = None) -> None:
        self._settings = settings
        self._managed = managed
        self._recorder = recorder
        self._uploads: OrderedDict[str, HookedAction] = OrderedDict()
        self._lock = threading.Lock()

    def call(self, wrapped: Callable[..., Any], client: Any, args: Any, kwargs: Any) -> Any:
        """Around ``BaseClient._make_api_call``."""
        found = recognised("s3.operation", _CLASS, self._recorder, None, self._find, client, args, kwargs)
        if found is None:
            return wrapped(*args, **kwargs)
        operation, parameters, uri = found
        if operation == "AbortMultipartUpload":
            response = wrapped(*args, **kwargs)
            self._end_upload(parameters.get("UploadId"), Outcome.INTERRUPTED, {})
            return response
        begun = self._upload(parameters.get("UploadId")) if operation == "CompleteMultipartUpload" else None
        transfer = begun or self._begin(client, operation, parameters, uri)
        try:
            response = wrapped(*args, **kwargs)
        except BaseException as error:  # being interrupted is an outcome too
            if begun is None:
                transfer.end(outcome_of_error(error), error_attributes(error))
            # A completion that failed may be tried again: the upload is still there.
            raise
        if operation == "CreateMultipartUpload":
            try:
                self._remember(response, transfer)
            except Exception as error:  # the upload goes on; that it ended, nobody will know to record
                note_loss("s3.upload", error, self._recorder)
        elif begun is not None:
            self._end_upload(parameters.get("UploadId"), Outcome.SUCCESS, {})
        else:
            transfer.end(Outcome.SUCCESS, guarded("s3.response", {}, _given, operation, response))
        return response

    def presign_url(self, wrapped: Callable[..., Any], client: Any, args: Any, kwargs: Any) -> Any:
        """Around ``generate_presigned_url``: no call is made, giving the URL away *is* the transfer.

        The URL is a credential: it is in no record, and the caller gets it only once the record is there.
        """
        url = wrapped(*args, **kwargs)
        method = args[0] if args else kwargs.get("ClientMethod")
        parameters = (args[1] if len(args) > 1 else kwargs.get("Params")) or {}
        self._granted(client, _GRANTS.get(str(method)), parameters)
        return url

    def presign_post(self, wrapped: Callable[..., Any], client: Any, args: Any, kwargs: Any) -> Any:
        """Around ``generate_presigned_post``, as ``presign_url``."""
        form = wrapped(*args, **kwargs)
        named = dict(zip(("Bucket", "Key"), args, strict=False)) | kwargs
        self._granted(client, "PostObject", named)
        return form

    def _granted(self, client: Any, operation: str | None, parameters: Mapping[str, Any]) -> None:
        grant = recognised("s3.grant", _CLASS, self._recorder, None, self._grant, client, operation, parameters)
        if grant is not None:
            grant.only(Outcome.SUCCESS)

    def _grant(self, client: Any, operation: str | None, parameters: Mapping[str, Any]) -> HookedAction | None:
        """The grant to record, when it is one that is recorded."""
        if operation is None or client.meta.service_model.service_name != "s3":
            return None
        uri = s3_uri(parameters.get("Bucket"), parameters.get("Key"))
        if not self._settings.records(uri):
            return None
        caller = caller_attributes(client)
        if operation == "GetObject":
            # Whoever holds the URL can read, from anywhere: the destination is not known.
            caller.pop(semconv.CLOUD_REGION)
        attributes: dict[str, AttributeValue] = {
            **caller,
            semconv.AUDIT_ACTION: f"presign {operation}",
            semconv.AUDIT_TARGET_ID: uri,
            semconv.AUDIT_TARGET_TYPE: "model.artifact",
            semconv.TRANSFER_DIRECTION: "grant",
            semconv.RPC_METHOD: f"s3/{operation}",
        }
        return HookedAction(_CLASS, attributes, recorder=self._recorder)

    def _find(self, client: Any, args: Any, kwargs: Any) -> tuple[str, Mapping[str, Any], str] | None:
        """Operation, parameters and artifact of a call that is recorded."""
        if client.meta.service_model.service_name != "s3":
            return None
        operation = args[0] if args else kwargs.get("operation_name")
        if operation not in _DIRECTIONS and operation != "AbortMultipartUpload":
            return None
        parameters = args[1] if len(args) > 1 else kwargs.get("api_params", {})
        uri = s3_uri(parameters.get("Bucket"), parameters.get("Key"))
        if not self._settings.records(uri) or self._managed.covers(uri):
            return None
        return operation, parameters, uri

    def _begin(self, client: Any, operation: str, parameters: Mapping[str, Any], uri: str) -> HookedAction:
        direction = _DIRECTIONS[operation]
        caller = caller_attributes(client)
        stated = guarded("s3.size", None, _size_before, operation, parameters)
        attributes: dict[str, AttributeValue] = {
            **caller,
            semconv.CLOUD_REGION: place(direction, caller.get(semconv.CLOUD_REGION), self._settings),
            semconv.AUDIT_ACTION: operation,
            semconv.AUDIT_TARGET_ID: uri,
            semconv.AUDIT_TARGET_TYPE: "model.artifact",
            semconv.TRANSFER_DIRECTION: direction,
            semconv.RPC_METHOD: f"s3/{operation}",
            COPY_SOURCE: guarded("s3.source", None, copy_source, parameters.get("CopySource")),
            semconv.ARTIFACT_SIZE: stated,
            semconv.ARTIFACT_DIGEST: guarded("s3.digest", None, declared_digest, parameters),
        }
        transfer = HookedAction(_CLASS, attributes, recorder=self._recorder)
        transfer.begin()
        return transfer

    def _remember(self, response: Mapping[str, Any], transfer: HookedAction) -> None:
        with self._lock:
            self._uploads[str(response["UploadId"])] = transfer
            while len(self._uploads) > _OPEN_UPLOADS:
                self._uploads.popitem(last=False)

    def _upload(self, upload: object) -> HookedAction | None:
        with self._lock:
            return self._uploads.get(str(upload))

    def _end_upload(self, upload: object, outcome: Outcome, more: dict[str, AttributeValue]) -> None:
        with self._lock:
            transfer = self._uploads.pop(str(upload), None)
        if transfer is not None:
            transfer.end(outcome, more)


def _size_before(operation: str, parameters: Mapping[str, Any]) -> int | None:
    if operation != "PutObject":
        return None
    stated = parameters.get("ContentLength")
    return stated if isinstance(stated, int) else body_size(parameters.get("Body", b""))


def _given(operation: str, response: Mapping[str, Any]) -> dict[str, AttributeValue]:
    if operation != "GetObject":
        return {}
    size = response.get("ContentLength")
    return {semconv.ARTIFACT_SIZE: size if isinstance(size, int) else None}
