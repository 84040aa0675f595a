"""Journal entries to a table of spans, column by column (evidence format, sections 2, 4, 5 and appendix A).

Two passes: the first cuts requests into the bytes of ``Resource``, ``InstrumentationScope`` and ``Span``, which are the
payload; the second reads them. No message is walked in Python unless its bytes are out of the ordinary
(`auditspan.otlp.projection`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan import semconv
from auditspan.journal.contract import Entry, EntryKind
from auditspan.otlp.attributes import AttributeLists, AttributeTable, Selected
from auditspan.otlp.projection import REQUEST, RESOURCE, SCOPE, SPAN, projection

__all__ = ["SPANS", "Quarantine", "decode", "decode_parts"]

_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_BYTES: Final = pa.dictionary(pa.int32(), pa.binary())
_ARROW: Final = {"string": _TEXT, "int": pa.int64(), "boolean": pa.bool_()}

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]


class Quarantine:
    """Codes of spans that cannot be read as records; the first that applies counts (evidence format, section 5)."""

    REQUEST_UNDECODABLE: Final = "request.undecodable"
    REQUEST_NON_CANONICAL: Final = "request.non_canonical"
    SPAN_UNDECODABLE: Final = "span.undecodable"
    SPAN_INVALID_ID: Final = "span.invalid_id"


_CODES: Final = pa.array(
    [
        Quarantine.REQUEST_UNDECODABLE,
        Quarantine.REQUEST_NON_CANONICAL,
        Quarantine.SPAN_UNDECODABLE,
        Quarantine.SPAN_INVALID_ID,
    ]
)
_UNDECODABLE_REQUEST, _NON_CANONICAL, _UNDECODABLE, _INVALID_ID, _SOUND = range(5)

_LARGEST_ARRAY: Final = 2**31 - 1
"""Bytes that the values of one Arrow binary array may have together."""

_OWN_FIELDS: Final = (
    pa.field("trace_id", pa.binary()),
    pa.field("span_id", pa.binary()),
    pa.field("span_name", _TEXT),
    pa.field("start_time", pa.uint64()),
    pa.field("end_time", pa.uint64()),
    pa.field("attribute_count", pa.int32()),
    pa.field("duplicate_key", pa.bool_()),
    pa.field("wrong_type", pa.bool_()),
    pa.field("quarantine", _TEXT),
)
_ATTRIBUTES: Final = {**semconv.READ_FROM_SPAN, **semconv.READ_FROM_RESOURCE}

DECLARED: Final = "declared"
"""Column of the attributes that are read for the determination alone (`semconv.READ_FOR_FACTS`), serialized: a run of
``KeyValue`` messages as they came, null where there is none."""

SPANS: Final = pa.schema(
    [
        pa.field("entry", pa.int32(), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("resource", _BYTES, nullable=False),
        pa.field("scope", _BYTES, nullable=False),
        pa.field("span", pa.binary(), nullable=False),
        *_OWN_FIELDS,
        *(pa.field(name, _ARROW[type_]) for name, type_ in _ATTRIBUTES.items()),
        pa.field(DECLARED, pa.dictionary(pa.int32(), pa.binary())),
    ]
)
"""One row per position. ``resource`` and ``scope`` are shared by many rows, so each is held once. Times are nanoseconds
since 1970, 0 where absent. An attribute is null where it is absent or of another type. In a quarantined row everything
read is null, the count zero and the two faults false."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """The bytes of ``Resource``, ``InstrumentationScope`` and ``Span``, row for row, and what the first pass found."""

    entry: Rows
    ordinal: Rows
    resource: pa.DictionaryArray
    scope: pa.DictionaryArray
    span: pa.Array
    code: Codes


def decode(entries: Sequence[Entry]) -> pa.Table:
    """The spans of ``entries`` (kinds ``otlp`` and ``undecodable``), one row per position, in order; schema `SPANS`.

    Nothing is raised for what a body holds: a request or span that cannot be read has a code in ``quarantine``, and its
    neighbours are untouched. For a request that cannot be cut into spans there is one row, with the whole body as
    ``span``. Where ``resource`` or ``scope`` occurs more than once, the row has all occurrences, one after the other.

    Raises:
        ValueError: the bodies are together 2 GiB or more, which one Arrow array cannot hold.
    """
    if not entries:
        return SPANS.empty_table()
    parts = _cut(entries)
    columns = decode_parts(parts.resource, parts.scope, parts.span, code=parts.code)
    return pa.table(
        [
            pa.array(parts.entry.astype(np.int32)),
            pa.array(parts.ordinal.astype(np.int32)),
            parts.resource,
            parts.scope,
            parts.span,
            *columns.columns,
        ],
        schema=SPANS,
    )


def decode_parts(
    resource: pa.DictionaryArray,
    scope: pa.DictionaryArray,
    span: pa.Array,
    *,
    code: Codes | None = None,
    attributes: Collection[str] = (*_ATTRIBUTES, DECLARED),
) -> pa.Table:
    """What the log reads from the three messages of payloads: the columns of `SPANS` from ``trace_id`` on.

    Args:
        resource: dictionary of the bytes of ``Resource`` messages.
        scope: dictionary of the bytes of ``InstrumentationScope`` messages.
        span: the bytes of ``Span`` messages.
        code: what is known of the rows already, as index of the quarantine codes.
        attributes: names of the attributes wanted, `DECLARED` among them; ``wrong_type`` looks at these alone.
    """
    code = np.full(len(span), _SOUND, dtype=np.int8) if code is None else code
    spans, bad_span = projection(SPAN).read(span)
    resources, bad_resource = projection(RESOURCE).read(resource.dictionary)
    scopes, bad_scope = projection(SCOPE).read(scope.dictionary)
    resource_of = _indices(resource)

    events, links = spans.column("events"), spans.column("links")
    of_span = AttributeLists.of(spans.column("attributes"))
    of_events = AttributeLists.of(events.values.field("attributes"), events.offsets)
    of_links = AttributeLists.of(links.values.field("attributes"), links.offsets)
    of_resource = AttributeLists.of(resources.column("attributes"))
    of_scope = AttributeLists.of(scopes.column("attributes"))
    table = AttributeTable.of(of_span, of_events, of_links, of_resource, of_scope)
    for lists in (of_span, of_events, of_links):
        bad_span |= table.rows_with_bad(lists)
    bad_resource |= table.rows_with_bad(of_resource)
    bad_scope |= table.rows_with_bad(of_scope)

    undecodable = bad_span | bad_resource[resource_of] | bad_scope[_indices(scope)]
    invalid = ~(_is_id(spans.column("trace_id"), 16) & _is_id(spans.column("span_id"), 8))
    found = np.where(undecodable, _UNDECODABLE, np.where(invalid, _INVALID_ID, _SOUND))
    code = np.minimum(code, found.astype(np.int8))
    from_span = table.select(of_span, _only(semconv.READ_FROM_SPAN, attributes))
    from_resource = table.select(of_resource, _only(semconv.READ_FROM_RESOURCE, attributes)).take(resource_of)
    declared = table.gathered(of_span, semconv.READ_FOR_FACTS) if DECLARED in attributes else None
    return _table(spans, from_span, from_resource, declared, code)


def _table(
    spans: pa.RecordBatch, of_span: Selected, of_resource: Selected, declared: pa.Array | None, code: Codes
) -> pa.Table:
    sound = code == _SOUND
    keep = None if sound.all() else pa.array(sound)

    def visible(column: pa.Array) -> pa.Array:
        return column if keep is None else pc.if_else(keep, column, pa.scalar(None, column.type))

    attributes = of_span.columns | of_resource.columns
    for name in of_span.columns.keys() & of_resource.columns.keys():
        attributes[name] = _coalesce(of_span.columns[name], of_resource.columns[name])
    if declared is not None:
        attributes[DECLARED] = declared
    count = np.diff(spans.column("attributes").offsets.to_numpy())
    own = [
        visible(spans.column("trace_id")),
        visible(spans.column("span_id")),
        visible(spans.column("name").fill_null("").dictionary_encode()),
        visible(spans.column("start_time_unix_nano").fill_null(0)),
        visible(spans.column("end_time_unix_nano").fill_null(0)),
        pa.array(np.where(sound, count, 0).astype(np.int32)),
        pa.array((of_span.duplicate_key | of_resource.duplicate_key) & sound),
        pa.array((of_span.wrong_type | of_resource.wrong_type) & sound),
        pa.DictionaryArray.from_arrays(pa.array(code.astype(np.int32), mask=sound), _CODES),
    ]
    fields = [*_OWN_FIELDS, *(SPANS.field(name) for name in attributes)]
    return pa.table([*own, *map(visible, attributes.values())], schema=pa.schema(fields))


def _cut(entries: Sequence[Entry]) -> _Parts:
    otlp = np.fromiter((entry.kind == EntryKind.OTLP for entry in entries), dtype=bool, count=len(entries))
    bodies = [entry.body if entry.kind == EntryKind.OTLP else b"" for entry in entries]
    if (total := sum(map(len, bodies))) > _LARGEST_ARRAY:
        raise ValueError(f"{total} bytes are too many to decode at once: give fewer entries")
    batch, undecodable = projection(REQUEST).read(pa.array(bodies, pa.binary()))
    requests = batch.column("resource_spans")
    resource_spans = requests.values
    scope_spans = resource_spans.field("scope_spans")
    spans = scope_spans.values.field("spans")

    scope_of_span = _owners(spans.offsets)
    resource_of_span = _owners(scope_spans.offsets)[scope_of_span]
    entry = _owners(requests.offsets)[resource_of_span]
    first = np.searchsorted(entry, np.arange(len(entries)))
    resource, resource_is_repeated = _joined(resource_spans.field("resource"))
    scope, scope_is_repeated = _joined(scope_spans.values.field("scope"))
    repeated = resource_is_repeated[resource_of_span] | scope_is_repeated[scope_of_span]
    parts = _Parts(
        entry,
        np.arange(len(entry)) - first[entry],
        _rows_of(resource, resource_of_span),
        _rows_of(scope, scope_of_span),
        spans.values,
        np.where(repeated, _NON_CANONICAL, _SOUND).astype(np.int8),
    )
    whole = np.flatnonzero(undecodable | ~otlp)
    return _with_whole_bodies(parts, entries, whole) if len(whole) else parts


def _with_whole_bodies(parts: _Parts, entries: Sequence[Entry], whole: Rows) -> _Parts:
    """``parts`` with one more row for each of the entries ``whole``, in the order of positions."""
    nothing = pa.array([b""] * len(whole), pa.binary())
    bodies = pa.array([entries[row].body for row in whole.tolist()], pa.binary())
    entry = np.concatenate([parts.entry, whole])
    order = np.argsort(entry, kind="stable")

    def merged(column: pa.Array, more: pa.Array) -> pa.Array:
        return pa.concat_arrays([column, more]).take(pa.array(order))

    return _Parts(
        entry[order],
        np.concatenate([parts.ordinal, np.zeros(len(whole), dtype=np.int64)])[order],
        merged(parts.resource.dictionary_decode(), nothing).dictionary_encode(),
        merged(parts.scope.dictionary_decode(), nothing).dictionary_encode(),
        merged(parts.span, bodies),
        np.concatenate([parts.code, np.full(len(whole), _UNDECODABLE_REQUEST, dtype=np.int8)])[order],
    )


def _joined(occurrences: pa.ListArray) -> tuple[pa.DictionaryArray, Mask]:
    """A field that should occur at most once: all occurrences joined, empty for none; and where there are several."""
    counts = np.diff(occurrences.offsets.to_numpy())
    if (counts == 1).all():
        values = occurrences.values
    else:
        values = pa.array([b"".join(found) for found in occurrences.to_pylist()], pa.binary())
    return values.dictionary_encode(), counts > 1


def _only(types: dict[str, semconv.Type], names: Collection[str]) -> dict[str, semconv.Type]:
    return {name: type_ for name, type_ in types.items() if name in names}


def _rows_of(column: pa.DictionaryArray, rows: Rows) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(column.indices.take(pa.array(rows)), column.dictionary)


def _owners(offsets: pa.Array) -> Rows:
    """For each element of a list column, the row it belongs to."""
    counts = np.diff(offsets.to_numpy())
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _indices(column: pa.DictionaryArray) -> npt.NDArray[np.int32]:
    indices: npt.NDArray[np.int32] = column.indices.to_numpy()
    return indices


def _is_id(column: pa.Array, width: int) -> Mask:
    filled = column.fill_null(b"")
    right = pc.and_(pc.equal(pc.binary_length(filled), width), pc.not_equal(filled, b"\0" * width))
    mask: Mask = right.to_numpy(zero_copy_only=False)
    return mask


def _coalesce(first: pa.Array, second: pa.Array) -> pa.Array:
    if first.null_count == 0 or second.null_count == len(second):
        return first
    return pc.coalesce(first.dictionary_decode(), second.dictionary_decode()).dictionary_encode()
