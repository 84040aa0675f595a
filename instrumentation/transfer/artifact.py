"""What a record of a transfer says about the artifact: name, size, digest, way, and where it goes."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ... import semconv
from ...errors import AuditSpanError
from ..encode import AttributeValue

__all__ = [
    "COPY_SOURCE",
    "Direction",
    "TransferSettings",
    "body_size",
    "copy_source",
    "declared_digest",
    "place",
    "s3_uri",
]

Direction = str

COPY_SOURCE: Final = "aws.s3.copy_source"
"""Where a copy comes from; an attribute of OpenTelemetry's semantic conventions."""


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """Settings of the transfer hooks.

    By default every object is taken for a model artifact: weights have no name or type of their own, and a copy under
    another key must not be a way around the record. A deployment that moves many other objects narrows it to its own
    buckets and keys.
    """

    included: re.Pattern[str] | None = None
    """When given, only transfers whose ``s3://bucket/key`` matches are recorded."""

    own_region: str | None = None
    """Region in which this process runs: where a download ends."""

    def records(self, uri: str) -> bool:
        """Whether transfers of this artifact are recorded."""
        return self.included is None or self.included.search(uri) is not None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> TransferSettings:
        """Read ``AUDITSPAN_TRANSFER_INCLUDE`` (a regular expression) and where this process runs.

        The latter is ``cloud.region`` in ``OTEL_RESOURCE_ATTRIBUTES``, which cloud resource detectors and charts set.

        Raises:
            AuditSpanError: the pattern is no regular expression.
        """
        values = os.environ if environment is None else environment
        pattern = values.get("AUDITSPAN_TRANSFER_INCLUDE", "").strip()
        try:
            included = re.compile(pattern) if pattern else None
        except re.error:
            raise AuditSpanError(
                "AUDITSPAN_TRANSFER_INCLUDE is no regular expression.",
                remedy="Set it to a pattern that the artifacts to record match, such as `^s3://models/`.",
            ) from None
        own = None
        for item in values.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
            name, _, value = item.partition("=")
            if name.strip() == semconv.CLOUD_REGION:
                own = value.strip() or None
        return cls(included, own)


def s3_uri(bucket: object, key: object) -> str:
    """``s3://bucket/key``."""
    return f"s3://{bucket}/{key}"


def place(direction: Direction, client_region: AttributeValue, settings: TransferSettings) -> AttributeValue:
    """``cloud.region``: where the bytes end up, so that the log can tell the country.

    For a download that is where this process runs, and not the bucket's region: unless it is stated, it is unknown, and
    unknown leads to review.
    """
    return settings.own_region if direction == "download" else client_region


def declared_digest(parameters: Mapping[str, Any]) -> str | None:
    """The SHA-256 that the caller states for the whole object (``ChecksumSHA256``, base64), as ``sha256:<hex>``.

    None is computed here: reading a model twice costs minutes.
    """
    stated = parameters.get("ChecksumSHA256")
    if not isinstance(stated, str):
        return None
    try:
        digest = base64.b64decode(stated, validate=True)
    except binascii.Error:
        return None
    return f"sha256:{digest.hex()}" if len(digest) == 32 else None


def body_size(body: Any) -> int | None:
    """Bytes of an upload's source, where that costs nothing: a path, bytes, or a file on disk from where it stands."""
    if isinstance(body, bytes | bytearray | memoryview):
        return memoryview(body).nbytes
    if isinstance(body, str | os.PathLike):
        return os.stat(body).st_size  # noqa: PTH116
    try:
        return int(os.fstat(body.fileno()).st_size) - int(body.tell())
    except (AttributeError, OSError, ValueError):
        return None


def copy_source(source: object) -> str | None:
    """The source of a copy as a URI, from botocore's text or mapping form."""
    if isinstance(source, Mapping):
        return s3_uri(source.get("Bucket"), source.get("Key"))
    if isinstance(source, str) and source:
        return f"s3://{source.lstrip('/').partition('?')[0]}"
    return None
