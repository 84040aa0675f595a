"""What the columns of a package mean, written into its Parquet files (evidence format, section 14)."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from auditspan import semconv

__all__ = ["described"]

_NANOSECONDS: Final = "nanoseconds since 1970-01-01T00:00:00Z"

_FROM_ATTRIBUTE: Final = {
    "class": semconv.AUDIT_EVENT_CLASS,
    "record_id": semconv.AUDIT_RECORD_ID,
    "stream": semconv.AUDIT_SOURCE_ID,
    "sequence": semconv.AUDIT_SEQUENCE_NUMBER,
    "action": semconv.AUDIT_ACTION,
    "outcome": semconv.AUDIT_OUTCOME,
    "asset": semconv.AUDIT_TARGET_ID,
    "actor_id": semconv.AUDIT_ACTOR_ID,
    "actor_type": semconv.AUDIT_ACTOR_TYPE,
    "target_id": semconv.AUDIT_TARGET_ID,
    "target_type": semconv.AUDIT_TARGET_TYPE,
    "client_address": semconv.CLIENT_ADDRESS,
    "service_name": semconv.SERVICE_NAME,
}
"""Columns that hold an attribute, under its meaning in the semantic conventions."""

_MEANING: Final = {
    "leaf_index": "Place of the leaf in its log, from 0.",
    "header": "The leaf, byte for byte: canonical JSON (RFC 8785).",
    "payload": "What the sender sent: lengths and bytes of the OTLP messages Resource, InstrumentationScope and Span.",
    "salt": "32 bytes that the hashes of payload and facts begin with.",
    "facts": "Facts document of the determination: canonical JSON.",
    "log_id": "Id of the log.",
    "emitter": "Whose credential the event was sent with.",
    "event_time": "When the sender says that it happened.",
    "arrival_time": "When the collector took it.",
    "time_basis": "Which of the two times is judged: event, arrival or both.",
    "eccn": "Export Control Classification Number of the item.",
    "destination_country": "ISO 3166-1 alpha-2 code of the country that drives the determination.",
    "determination": "no_license_required, exception, review, license_required or prohibited.",
    "flagged": "Whether somebody must look at it.",
    "rule_ids": "Rules that govern the determination, sorted.",
    "faults": "What was wrong with the event as it was sent, sorted.",
    "reference_epoch": "Number of the reference epoch that it was judged under.",
    "trace_id": "Trace id, in hexadecimal.",
    "span_id": "Span id, in hexadecimal.",
    "span_name": "Name of the span.",
}
_UNITS: Final = {"event_time": _NANOSECONDS, "arrival_time": _NANOSECONDS}


def described(schema: pa.Schema) -> pa.Schema:
    """The schema with what its columns mean, in which units, and by which version of the semantic conventions.

    A verifier looks at none of it.
    """
    versions = {"auditspan.evidence_format": "1", "auditspan.semantic_conventions": semconv.SCHEMA_VERSION}
    return pa.schema([field.with_metadata(_metadata(field.name)) for field in schema], metadata=versions)


def _metadata(name: str) -> dict[str, str]:
    attribute = _FROM_ATTRIBUTE.get(name)
    said = {"description": _MEANING[name] if attribute is None else semconv.ATTRIBUTES[attribute].meaning}
    if attribute is not None:
        said["attribute"] = attribute
    if name in _UNITS:
        said["unit"] = _UNITS[name]
    return said
