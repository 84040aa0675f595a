"""Class, time basis, stream identity and faults of decoded spans (``docs/evidence-format.md`` sections 4 and 5).

A processor makes headers of them, a verifier compares headers with them. Pure functions on columns. Faults travel as
bit masks, since few combinations occur, and become lists at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.canonical import LARGEST_INTEGER
from auditspan.semconv import (
    AUDIT_ACTION,
    AUDIT_EVENT_CLASS,
    AUDIT_OUTCOME,
    AUDIT_RECORD_ID,
    AUDIT_SEQUENCE_NUMBER,
    AUDIT_SOURCE_ID,
    AUDIT_TARGET_ID,
    EventClass,
    class_may_be_emitted,
)

__all__ = [
    "FAULTS",
    "QUARANTINE",
    "READ",
    "Classified",
    "classify",
    "dictionary",
    "fault",
    "fault_lists",
    "fault_masks",
    "map_dictionary",
]

EARLIEST: Final = 7 * 86_400 * 10**9
"""Nanoseconds that an event may be older than its arrival and still choose its own law."""
LATEST: Final = 5 * 60 * 10**9
"""Nanoseconds that an event's clock may be ahead of the collector's."""
MOST_ATTRIBUTES: Final = 1024
LONGEST_STREAM: Final = 128

READ: Final = (
    AUDIT_EVENT_CLASS,
    AUDIT_RECORD_ID,
    AUDIT_ACTION,
    AUDIT_OUTCOME,
    AUDIT_TARGET_ID,
    AUDIT_SOURCE_ID,
    AUDIT_SEQUENCE_NUMBER,
)
"""Attributes that `classify` looks at."""

FAULTS: Final = (
    "attribute.duplicate_key",
    "attribute.limit",
    "attribute.wrong_type",
    "class.unknown",
    "duplicate_suspect",
    "identity.conflict",
    "request.non_canonical",
    "request.undecodable",
    "span.invalid_id",
    "span.undecodable",
    "time.end_before_start",
    "time.missing",
    "time.outside_window",
)
"""Every code, sorted: the bit of a fault is its place."""

_BIT: Final = {code: np.uint32(1 << place) for place, code in enumerate(FAULTS)}
QUARANTINE: Final = np.uint32(
    sum(1 << place for place, code in enumerate(FAULTS) if code.startswith(("request.", "span.")))
)
"""Mask of the quarantine codes."""

_NO_FAULT: Final = np.uint32(1 << 31)

Masks = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]

_TEXT: Final = pa.dictionary(pa.int32(), pa.string())


def fault(code: str) -> np.uint32:
    """The bit of a fault code."""
    return _BIT[code]


def fault_lists(masks: Masks) -> pa.DictionaryArray:
    """Masks as sorted lists of codes: a dictionary of lists."""
    distinct, place = np.unique(masks, return_inverse=True)
    lists = [[code for code in FAULTS if mask & _BIT[code]] for mask in distinct]
    return pa.DictionaryArray.from_arrays(pa.array(place.astype(np.int32)), pa.array(lists, pa.list_(pa.string())))


def fault_masks(lists: pa.ListArray) -> Masks:
    """Lists of codes as masks; a code that is none of `FAULTS` has a bit that no fault has."""
    masks = np.zeros(len(lists), np.uint32)
    codes = lists.flatten().dictionary_encode()
    if len(codes):
        bits = np.array([_BIT.get(str(code), _NO_FAULT) for code in codes.dictionary.to_pylist()], np.uint32)
        parents = pc.list_parent_indices(lists).to_numpy()
        np.bitwise_or.at(masks, parents, bits[codes.indices.to_numpy()])
    return masks


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """What the header says of each span, row for row. ``claimed`` is the class before identity has spoken.

    ``event_time`` is unsigned: a span may claim any 64 bits.
    """

    claimed: pa.DictionaryArray
    quarantined: Bools
    faults: Masks
    event_time: npt.NDArray[np.uint64]
    time_basis: pa.DictionaryArray
    in_stream: Bools
    stream: pa.DictionaryArray
    sequence: npt.NDArray[np.int64]
    record_id: pa.Array
    action: pa.Array
    outcome: pa.Array
    asset: pa.Array


def classify(
    spans: pa.Table, arrival: npt.NDArray[np.int64], log_id: str, offsets: npt.NDArray[np.int64]
) -> Classified:
    """Classify the rows of a `SPANS` table; ``arrival`` (ns) and ``offsets`` are those of each row's entry."""
    rows = len(spans)
    faults = np.zeros(rows, np.uint32)
    quarantine = dictionary(spans["quarantine"])
    quarantined = _mask(quarantine.is_valid())
    if quarantined.any():
        faults |= _quarantine_masks(quarantine)
    sound = ~quarantined
    faults[_mask(spans["duplicate_key"]) & sound] |= _BIT["attribute.duplicate_key"]
    faults[_mask(spans["wrong_type"]) & sound] |= _BIT["attribute.wrong_type"]
    attributes = spans["attribute_count"].fill_null(0).to_numpy()
    faults[(attributes > MOST_ATTRIBUTES) & sound] |= _BIT["attribute.limit"]
    claimed = _classes(dictionary(spans[AUDIT_EVENT_CLASS]), faults, quarantined)
    event_time, time_basis = _times(spans, arrival, faults, quarantined)
    stream, sequence, in_stream = _streams(spans, sound)
    return Classified(
        claimed=claimed,
        quarantined=quarantined,
        faults=faults,
        event_time=event_time,
        time_basis=time_basis,
        in_stream=in_stream,
        stream=stream,
        sequence=sequence,
        record_id=_record_ids(spans, quarantined, log_id, offsets),
        action=_unless(quarantined, dictionary(spans[AUDIT_ACTION])),
        outcome=_unless(quarantined, dictionary(spans[AUDIT_OUTCOME])),
        asset=_unless(quarantined, dictionary(spans[AUDIT_TARGET_ID])),
    )


def dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """A column as one dictionary-encoded array of text."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], _TEXT)
    return array.cast(_TEXT)


def map_dictionary(array: pa.DictionaryArray, change: Callable[[str], Any], kind: pa.DataType) -> pa.Array:
    """``change`` of every value, called once for each distinct one; null where ``array`` is."""
    return pa.array([change(value) for value in array.dictionary.to_pylist()], kind).take(array.indices)


def _mask(values: pa.Array | pa.ChunkedArray) -> Bools:
    made: Bools = values.fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return made


def _quarantine_masks(quarantine: pa.DictionaryArray) -> Masks:
    masks = map_dictionary(quarantine, lambda code: int(_BIT[code]), pa.uint32())
    made: Masks = masks.fill_null(0).to_numpy(zero_copy_only=False)
    return made


def _unless(condition: Bools, values: pa.Array) -> pa.Array:
    """``values``, null where ``condition``."""
    if not condition.any():
        return values
    nulls = pa.nulls(len(values), values.indices.type)
    return pa.DictionaryArray.from_arrays(pc.if_else(pa.array(condition), nulls, values.indices), values.dictionary)


def _classes(sent: pa.DictionaryArray, faults: Masks, quarantined: Bools) -> pa.DictionaryArray:
    names = sent.dictionary.to_pylist()
    allowed = [name for name in names if class_may_be_emitted(name)]
    values = [str(EventClass.OTHER), str(EventClass.QUARANTINED), *allowed]
    places = {name: place for place, name in enumerate(allowed, start=2)}
    table = np.array([*(places.get(name, 0) for name in names), 0], np.int32)
    # A null points behind the last name.
    indices = sent.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    codes = table[indices]
    unknown = (codes == 0) & (indices < len(names)) & ~quarantined
    faults[unknown] |= _BIT["class.unknown"]
    codes[quarantined] = 1
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(values, pa.string()))


def _times(
    spans: pa.Table, arrival: npt.NDArray[np.int64], faults: Masks, quarantined: Bools
) -> tuple[npt.NDArray[np.uint64], pa.DictionaryArray]:
    start = spans["start_time"].fill_null(0).to_numpy()
    end = spans["end_time"].fill_null(0).to_numpy()
    arrived = arrival.astype(np.uint64)
    event = np.where(start != 0, start, end)
    missing = (event == 0) & ~quarantined
    event = np.where((event == 0) | quarantined, arrived, event)
    # Without underflow: an event is early by `arrived - event` only where it is early at all.
    early = (event < arrived) & (arrived - event > np.uint64(EARLIEST))
    late = (event > arrived) & (event - arrived > np.uint64(LATEST))
    outside = (early | late) & ~quarantined
    backwards = (start != 0) & (end != 0) & (end < start) & ~quarantined
    faults[missing] |= _BIT["time.missing"]
    faults[outside] |= _BIT["time.outside_window"]
    faults[backwards] |= _BIT["time.end_before_start"]
    basis = np.zeros(len(spans), np.int32)
    basis[outside] = 1
    basis[missing | quarantined] = 2
    return event, pa.DictionaryArray.from_arrays(pa.array(basis), pa.array(["event", "both", "arrival"]))


def _streams(spans: pa.Table, sound: Bools) -> tuple[pa.DictionaryArray, npt.NDArray[np.int64], Bools]:
    stream = dictionary(spans[AUDIT_SOURCE_ID])
    fits = map_dictionary(stream, lambda name: 1 <= len(name.encode()) <= LONGEST_STREAM, pa.bool_())
    numbers = spans[AUDIT_SEQUENCE_NUMBER].combine_chunks()
    sequence = numbers.fill_null(-1).to_numpy(zero_copy_only=False)
    in_stream = _mask(fits) & (sequence >= 0) & (sequence <= LARGEST_INTEGER) & sound
    return _unless(~in_stream, stream), np.where(in_stream, sequence, 0), in_stream


def _record_ids(spans: pa.Table, quarantined: Bools, log_id: str, offsets: npt.NDArray[np.int64]) -> pa.Array:
    sent = spans[AUDIT_RECORD_ID]
    if pa.types.is_dictionary(sent.type):
        sent = sent.cast(pa.string())
    ids = sent.combine_chunks()
    absent = np.flatnonzero(_mask(ids.is_null()) | quarantined)
    if not len(absent):
        return ids
    chosen = pa.array(absent)
    traces, spans_, ordinals = (spans[name].take(chosen).to_pylist() for name in ("trace_id", "span_id", "ordinal"))
    made = [
        f"position:{log_id}:{offset}:{ordinal}" if bad else f"{trace.hex()}:{span.hex()}"
        for bad, offset, ordinal, trace, span in zip(
            quarantined[absent].tolist(), offsets[absent].tolist(), ordinals, traces, spans_, strict=True
        )
    ]
    mask = np.zeros(len(spans), np.bool_)
    mask[absent] = True
    return pc.replace_with_mask(ids, pa.array(mask), pa.array(made, pa.string()))
