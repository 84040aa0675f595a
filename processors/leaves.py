"""Event leaves of a batch: their headers, and the typed columns beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.ledger.hashing import Digests, equal_width
from auditspan.ledger.header import event_headers
from auditspan.ledger.typed_columns import from_decoded, from_header_input, from_headers
from auditspan.otlp.classify import QUARANTINE, Classified, fault, fault_lists, map_dictionary
from auditspan.semconv import EventClass, class_is_determined
from auditspan.store.schema import EVENTS

from .identity import Verdict
from .payloads import facts_hashes, payload_hashes

__all__ = ["OUTCOMES", "EntryColumns", "Judged", "determinations", "event_leaves", "log_leaves"]

OUTCOMES: Final = ("no_license_required", "exception", "review", "license_required", "prohibited")
"""Determinations from least to most restrictive (evidence format, section 6)."""
_REVIEW: Final = OUTCOMES.index("review")

Bools = npt.NDArray[np.bool_]

# No fault of content, or one that the format exempts.
_HARMLESS: Final = fault("time.end_before_start")
_PREFIXES: Final = ("license.", "provenance.", "evidence.", "case.", "export.")


@dataclass(frozen=True, slots=True, eq=False)
class EntryColumns:
    """What each span inherits from its journal entry, row for row."""

    offset: npt.NDArray[np.int64]
    ordinal: npt.NDArray[np.int32]
    arrival: npt.NDArray[np.int64]
    emitter: pa.DictionaryArray
    authentication: pa.DictionaryArray
    encoding: pa.DictionaryArray


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What determination says of each span, row for row; null where a class is not determined."""

    facts: pa.DictionaryArray
    governing: pa.Array
    flagged: pa.Array
    destination: pa.Array
    eccn: pa.Array
    rule_ids: pa.Array
    citations: pa.Array
    why: pa.Array
    missing_facts: pa.Array


def determinations(
    classified: Classified, faults: npt.NDArray[np.uint32], verdicts: npt.NDArray[np.int8], governing: pa.Array
) -> pa.DictionaryArray:
    """The header's ``determination``: what governs, raised to at least ``review`` where a fault demands it."""
    determined = _class_mask(classified.claimed, class_is_determined)
    demanding = determined | _class_mask(classified.claimed, lambda name: name.startswith(_PREFIXES))
    content = faults & ~(_HARMLESS | fault("identity.conflict"))
    # A suspected duplicate of a class that is not judged has nothing to review.
    content[~determined] &= ~fault("duplicate_suspect")
    review = (
        (demanding & (content != 0))
        | ((faults & (QUARANTINE | fault("class.unknown"))) != 0)
        | (verdicts == Verdict.CONFLICT)
    )
    ranks = pa.array([OUTCOMES.index(name) for name in _words(governing).dictionary.to_pylist()], pa.int32())
    rank = ranks.take(_words(governing).indices).fill_null(-1).to_numpy(zero_copy_only=False)
    rank = np.where(review, np.maximum(rank, _REVIEW), rank).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(rank, mask=rank < 0), pa.array(OUTCOMES))


def event_leaves(
    spans: pa.Table,
    entries: EntryColumns,
    classified: Classified,
    verdicts: npt.NDArray[np.int8],
    judged: Judged,
    payloads: pa.Array,
    salts: Digests,
    *,
    log_id: str,
    epoch: int,
) -> pa.Table:
    """Leaves in the schema `EVENTS` without ``leaf_index`` and ``sealing_month``, in order of position.

    All arguments are row for row, without the suppressed rows.
    """
    rows = len(spans)
    faults = classified.faults.copy()
    faults[verdicts == Verdict.DUPLICATE_SUSPECT] |= fault("duplicate_suspect")
    faults[verdicts == Verdict.CONFLICT] |= fault("identity.conflict")
    fields: dict[str, pa.Array] = {
        "log_id": _constant(log_id, rows),
        "class": _class(classified.claimed, verdicts),
        "record_id": classified.record_id,
        "emitter": entries.emitter,
        "authentication": entries.authentication,
        "encoding": entries.encoding,
        "stream": classified.stream,
        "sequence": pa.array(classified.sequence, mask=~classified.in_stream),
        "event_time": pa.array(classified.event_time),
        "arrival_time": pa.array(entries.arrival),
        "time_basis": classified.time_basis,
        "action": classified.action,
        "outcome": classified.outcome,
        "asset": classified.asset,
        "eccn": judged.eccn,
        "destination": judged.destination,
        "determination": determinations(classified, faults, verdicts, judged.governing),
        "flagged": judged.flagged.fill_null(False),
        "rule_ids": _without_nulls(judged.rule_ids),
        "faults": fault_lists(faults),
        "facts_hash": facts_hashes(salts, judged.facts),
        "reference_epoch": pa.array(np.full(rows, epoch, np.int64)),
        "offset": pa.array(entries.offset),
        "ordinal": pa.array(entries.ordinal),
        "payload_hash": payload_hashes(salts, payloads),
        "payload_length": pc.binary_length(payloads),
    }
    described = pa.table(fields)
    headers = event_headers(described)
    columns = {
        "header": headers,
        "payload": payloads,
        "salt": equal_width(salts),
        "facts": judged.facts,
        **_columns(from_header_input(described)),
        **_columns(from_decoded(spans)),
        "citations": judged.citations,
        "why": judged.why,
        "missing_facts": judged.missing_facts,
    }
    return _as_events(columns)


def log_leaves(leaves: Sequence[bytes]) -> pa.Table:
    """The log's own leaves in the same schema."""
    headers = pa.array(leaves, pa.binary())
    return _as_events({"header": headers, **_columns(from_headers(headers))})


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _as_events(columns: dict[str, Any]) -> pa.Table:
    rows = len(columns["header"])
    fields = [field for field in EVENTS if field.name not in ("leaf_index", "sealing_month")]
    return pa.table(
        [_cast(columns[f.name], f.type) if f.name in columns else pa.nulls(rows, f.type) for f in fields],
        schema=pa.schema(fields),
    )


def _cast(column: Any, kind: pa.DataType) -> Any:
    if column.type == kind:
        return column
    if pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(kind):
        return column.cast(column.type.value_type).cast(kind)
    return column.cast(kind)


def _class(claimed: pa.DictionaryArray, verdicts: npt.NDArray[np.int8]) -> pa.DictionaryArray:
    conflict = verdicts == Verdict.CONFLICT
    if not conflict.any():
        return claimed
    names = pa.concat_arrays([claimed.dictionary, pa.array([str(EventClass.CONFLICT)])])
    indices = claimed.indices.to_numpy(zero_copy_only=False).copy()
    indices[conflict] = len(names) - 1
    return pa.DictionaryArray.from_arrays(pa.array(indices), names)


def _class_mask(claimed: pa.DictionaryArray, holds: Any) -> Bools:
    made: Bools = map_dictionary(claimed, holds, pa.bool_()).to_numpy(zero_copy_only=False)
    return made


def _constant(value: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))


def _words(values: pa.Array) -> pa.DictionaryArray:
    return values if pa.types.is_dictionary(values.type) else values.dictionary_encode()


def _without_nulls(lists: pa.Array) -> pa.Array:
    """Lists as a dictionary of lists, empty where there was none."""
    if not pa.types.is_dictionary(lists.type):
        there = lists.is_valid()
        place = pa.array(np.arange(len(lists), dtype=np.int32))
        lists = pa.DictionaryArray.from_arrays(pc.if_else(there, place, None), lists)
    if not lists.null_count:
        return lists
    words = pa.concat_arrays([lists.dictionary, pa.array([[]], lists.dictionary.type)])
    return pa.DictionaryArray.from_arrays(lists.indices.fill_null(len(words) - 1), words)
