"""Sealed leaves as records of export requests: what the join reads of their payloads, in columns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from auditspan import semconv
from auditspan.ledger.header import LONGEST_TEXT
from auditspan.ledger.payload_attributes import payload_attributes

__all__ = ["LEAVES", "RECORDS", "REQUEST_KEY", "bounded", "request_records"]

REQUEST_KEY: Final = semconv.REQUEST_ID
"""A payload without this text names no request."""

LONGEST_CONDITIONS: Final = 2_000
"""Characters of an approval's conditions that are kept beside it; the payload has all."""

_TIME: Final = pa.timestamp("ns", tz="UTC")

LEAVES: Final = (
    "log_id", "leaf_index", "record_id", "class", "emitter", "actor_id", "outcome", "event_time", "arrival_time",
    "time_basis", "reference_epoch", "target_id", "payload",
)  # fmt: skip
"""Columns of leaves that `request_records` takes; times as nanoseconds since 1970."""

_TEXTS: Final = {
    "request_id": semconv.REQUEST_ID,
    "intent_id": semconv.AUDIT_INTENT_ID,
    "artifact_digest": semconv.ARTIFACT_DIGEST,
    "model": semconv.MODEL_NAME,
    "accelerator_model": semconv.ACCELERATOR_MODEL,
    "destination": semconv.DESTINATION_COUNTRY,
    "consignee": semconv.CONSIGNEE,
    "end_user": semconv.END_USER,
    "final_recipient": semconv.FINAL_RECIPIENT,
    "license": semconv.LICENSE,
    "approval": semconv.APPROVAL_OUTCOME,
    "authority": semconv.APPROVING_AUTHORITY,
    "valid_until": semconv.APPROVAL_VALID_UNTIL,
    "conditions": semconv.APPROVAL_CONDITIONS,
}
_FROM_LEAF: Final = ("record_id", "class", "emitter", "actor_id", "outcome", "target_id")

RECORDS: Final = pa.schema(
    [
        pa.field("log_id", pa.string(), nullable=False),
        pa.field("leaf_index", pa.uint64(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in _FROM_LEAF),
        pa.field("arrival_time", _TIME, nullable=False),
        pa.field("began", _TIME, nullable=False),
        pa.field("reference_epoch", pa.int64(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in _TEXTS),
        pa.field("quantity", pa.int64()),
    ]
)
"""Rows of the table ``auditspan.request_records``. A text that was not said is empty; one of more than 256 bytes stands
as ``sha256:<hex>``, so that two of them still compare."""


def request_records(leaves: pa.Table) -> pa.Table:
    """The records (schema `RECORDS`) that ``leaves`` (columns `LEAVES`) hold, row for row.

    Attributes are read as the log reads its own (evidence format, section 4): the first of a name counts, and one of
    another type is as if it were absent.
    """
    known: dict[str, str] = dict.fromkeys(_TEXTS.values(), "string") | {semconv.QUANTITY: "int"}
    said = payload_attributes(leaves["payload"], known)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "log_id": leaves["log_id"].cast(pa.string()),
        "leaf_index": leaves["leaf_index"],
        "arrival_time": _instants(leaves["arrival_time"]),
        "began": _instants(_began(leaves)),
        "reference_epoch": leaves["reference_epoch"],
        "quantity": said[semconv.QUANTITY],
    }
    columns |= {name: _each(leaves[name].combine_chunks(), bounded) for name in _FROM_LEAF}
    columns |= {name: _each(said[key], bounded) for name, key in _TEXTS.items() if name != "conditions"}
    columns["conditions"] = _each(said[semconv.APPROVAL_CONDITIONS], _shortened)
    return pa.table([columns[field.name] for field in RECORDS], schema=RECORDS)


def bounded(text: str) -> str:
    """``text`` without space around it, or what stands for it where it is longer than 256 bytes."""
    text = text.strip()
    encoded = text.encode()
    return text if len(encoded) <= LONGEST_TEXT else f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_CONDITIONS else f"{text[: LONGEST_CONDITIONS - 1]}…"


def _began(leaves: pa.Table) -> pa.ChunkedArray:
    """An emitter may say that its action began before the record arrived, as far as its clock is believed at all."""
    earlier = pc.min_element_wise(leaves["event_time"], leaves["arrival_time"])
    return pc.if_else(pc.equal(leaves["time_basis"].cast(pa.string()), "event"), earlier, leaves["arrival_time"])


def _instants(nanoseconds: pa.ChunkedArray) -> pa.ChunkedArray:
    return nanoseconds.cast(pa.int64()).cast(pa.timestamp("ns")).cast(_TIME)


def _each(column: pa.Array, change: Callable[[str], str]) -> pa.Array:
    """``change`` of every distinct text, empty for none."""
    words = column if isinstance(column, pa.DictionaryArray) else column.cast(pa.string()).dictionary_encode()
    changed = pa.array([change(text or "") for text in words.dictionary.to_pylist()], pa.string())
    return changed.take(words.indices).fill_null("")
