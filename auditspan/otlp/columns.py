"""Journal entries to a table of spans (``docs/evidence-format.md`` sections 2, 4, 5 and appendix A), column by column.

Two passes: the first cuts requests into the bytes of ``Resource``, ``InstrumentationScope`` and ``Span``, which are the payload;
the second reads them. No message is walked in Python unless its bytes are out of the ordinary (`auditspan.otlp.projection`).
"""

from __future__ import annotations

from collections.abc import Sequence
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
_ARROW: Final = {"string": _TEXT, "int": pa.int64(), "boolean": pa.bool_()}

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Quarantine:
    """Codes of spans that cannot be read as audit records (evidence format, section 5), the first that applies counts."""

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

_FIELDS: Final = [
    pa.field("trace_id", pa.binary()),
    pa.field("span_id", pa.binary()),
    pa.field("span_name", _TEXT),
    pa.field("start_time", pa.uint64()),
    pa.field("end_time", pa.uint64()),
    pa.field("attribute_count", pa.int32()),
    pa.field("duplicate_key", pa.bool_()),
    pa.field("wrong_type", pa.bool_()),
    pa.field("quarantine", _TEXT),
    *(pa.field(name, _ARROW[type_]) for name, type_ in semconv.READ_FROM_SPAN.items()),
    *(
        pa.field(name, _ARROW[type_])
        for name, type_ in semconv.READ_FROM_RESOURCE.items()
        if name not in semconv.READ_FROM_SPAN
    ),
]

SPANS: Final = pa.schema(
    [
        pa.field("entry", pa.int32(), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("resource", pa.binary(), nullable=False),
        pa.field("scope", pa.binary(), nullable=False),
        pa.field("span", pa.binary(), nullable=False),
        *_FIELDS,
    ]
)
"""One row per position. Times are nanoseconds since 1970, 0 where absent; an attribute is null where absent or of the wrong
type; in a quarantined row everything read is null, the counts and flags zero."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """The bytes of ``Resource``, ``InstrumentationScope`` and ``Span``, row for row, and what pass one found."""

    entry: Rows
    ordinal: Rows
    resource: pa.DictionaryArray
    scope: pa.DictionaryArray
    span: pa.Array
    code: npt.NDArray[np.int8]


def decode(entries: Sequence[Entry]) -> pa.Table:
    """The spans of ``entries`` (kinds ``otlp`` and ``undecodable``), one row per position, in order; schema `SPANS`.

    Nothing is raised for what a body holds: a request or span that cannot be read has a code in ``quarantine``, and its
    neighbours are untouched. For a request that cannot be cut into spans there is one row with the whole body as ``span``.
    Where ``resource`` or ``scope`` occurs more than once, the row has all occurrences, one after the other.
    """
    if not entries:
        return SPANS.empty_table()
    parts = _cut(entries)
    columns = decode_parts(parts.resource, parts.scope, parts.span, parts.code)
    return pa.table(
        [
            pa.array(parts.entry.astype(np.int32)),
            pa.array(parts.ordinal.astype(np.int32)),
            parts.resource.dictionary_decode(),
            parts.scope.dictionary_decode(),
            parts.span,
            *columns.columns,
        ],
        schema=SPANS,
    )


def decode_parts(
    resource: pa.DictionaryArray, scope: pa.DictionaryArray, span: pa.Array, code: npt.NDArray[np.int8] | None = None
) -> pa.Table:
    """What the log reads from the three messages of a payload: the columns of `SPANS` from ``trace_id`` on.

    ``resource`` and ``scope`` are dictionaries of binary, ``span`` is binary. ``code`` is what is known of the rows already (an index
    of the quarantine codes).
    """
    code = np.full(len(span), _SOUND, dtype=np.int8) if code is None else code.copy()
    spans, bad_span = projection(SPAN).read(span)
    resources, bad_resource = projection(RESOURCE).read(resource.dictionary)
    scopes, bad_scope = projection(SCOPE).read(scope.dictionary)
    resource_of, scope_of = _indices(resource), _indices(scope)

    events, links = spans.column("events"), spans.column("links")
    table = AttributeTable.of(
        span_lists := AttributeLists.of(spans.column("attributes")),
        event_lists := AttributeLists.of(events.values.field("attributes"), events.offsets),
        link_lists := AttributeLists.of(links.values.field("attributes"), links.offsets),
        resource_lists := AttributeLists.of(resources.column("attributes")),
        scope_lists := AttributeLists.of(scopes.column("attributes")),
    )
    bad_span |= table.rows_with_bad(span_lists) | table.rows_with_bad(event_lists) | table.rows_with_bad(link_lists)
    bad_resource |= table.rows_with_bad(resource_lists)
    bad_scope |= table.rows_with_bad(scope_lists)
    undecodable = bad_span | bad_resource[resource_of] | bad_scope[scope_of]
    trace_id, span_id = spans.column("trace_id"), spans.column("span_id")
    invalid = ~(_is_id(trace_id, 16) & _is_id(span_id, 8))
    code = np.minimum(code, np.where(undecodable, _UNDECODABLE, np.where(invalid, _INVALID_ID, _SOUND)).astype(np.int8))

    sound = code == _SOUND
    of_span = table.select(span_lists, semconv.READ_FROM_SPAN)
    of_resource = table.select(resource_lists, semconv.READ_FROM_RESOURCE).take(resource_of)
    return pa.table(_columns(spans, of_span, of_resource, code, sound), schema=pa.schema(_FIELDS))


def _columns(
    spans: pa.RecordBatch, of_span: Selected, of_resource: Selected, code: npt.NDArray[np.int8], sound: Mask
) -> list[pa.Array]:
    read = dict(of_resource.columns)
    for name, column in of_span.columns.items():
        read[name] = _coalesce(column, read[name]) if name in read else column
    keep = None if sound.all() else pa.array(sound)

    def visible(column: pa.Array) -> pa.Array:
        return column if keep is None else pc.if_else(keep, column, pa.scalar(None, column.type))

    counts = np.diff(spans.column("attributes").offsets.to_numpy())
    return [
        visible(spans.column("trace_id")),
        visible(spans.column("span_id")),
        visible(spans.column("name").fill_null("").dictionary_encode()),
        visible(spans.column("start_time_unix_nano").fill_null(0)),
        visible(spans.column("end_time_unix_nano").fill_null(0)),
        pa.array(np.where(sound, counts, 0).astype(np.int32)),
        pa.array((of_span.duplicate_key | of_resource.duplicate_key) & sound),
        pa.array((of_span.wrong_type | of_resource.wrong_type) & sound),
        pa.DictionaryArray.from_arrays(pa.array(code.astype(np.int32), mask=sound), _CODES),
        *(visible(read[field.name]) for field in _FIELDS[9:]),
    ]


def _cut(entries: Sequence[Entry]) -> _Parts:
    otlp = np.fromiter((entry.kind == EntryKind.OTLP for entry in entries), dtype=bool, count=len(entries))
    bodies = pa.array([entry.body if entry.kind == EntryKind.OTLP else b"" for entry in entries], pa.binary())
    batch, undecodable = projection(REQUEST).read(bodies)
    requests = batch.column(0)
    resource_spans = requests.values
    scope_spans = resource_spans.field("scope_spans")
    spans = scope_spans.values.field("spans")

    entry_of_resource = _owners(requests.offsets)
    resource_of_scope = _owners(scope_spans.offsets)
    scope_of_span = _owners(spans.offsets)
    resource_of_span = resource_of_scope[scope_of_span]
    entry = entry_of_resource[resource_of_span]
    first = np.searchsorted(entry, np.arange(len(entries)))
    resource, repeated_resource = _joined(resource_spans.field("resource"))
    scope, repeated_scope = _joined(scope_spans.values.field("scope"))
    repeated = repeated_resource[resource_of_span] | repeated_scope[scope_of_span]
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
    entry = np.concatenate([parts.entry, whole])
    order = np.argsort(entry, kind="stable")

    def merged(column: pa.Array, more: pa.Array) -> pa.Array:
        plain = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
        return pa.concat_arrays([plain, more]).take(pa.array(order))

    return _Parts(
        entry[order],
        np.concatenate([parts.ordinal, np.zeros(len(whole), dtype=np.int64)])[order],
        merged(parts.resource, nothing).dictionary_encode(),
        merged(parts.scope, nothing).dictionary_encode(),
        merged(parts.span, pa.array([entries[row].body for row in whole.tolist()], pa.binary())),
        np.concatenate([parts.code, np.full(len(whole), _UNDECODABLE_REQUEST, dtype=np.int8)])[order],
    )


def _joined(occurrences: pa.ListArray) -> tuple[pa.DictionaryArray, Mask]:
    """The value of a field that should occur at most once (all occurrences joined, empty for none), and where it is repeated."""
    counts = np.diff(occurrences.offsets.to_numpy())
    if (counts == 1).all():
        values = occurrences.values
    else:
        values = pa.array([b"".join(found) for found in occurrences.to_pylist()], pa.binary())
    return values.dictionary_encode(), counts > 1


def _rows_of(column: pa.DictionaryArray, rows: Rows) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(column.indices.take(pa.array(rows)), column.dictionary)


def _owners(offsets: pa.Array) -> Rows:
    """For each element of a list column, the row it belongs to."""
    counts = np.diff(offsets.to_numpy())
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _indices(column: pa.DictionaryArray) -> Rows:
    return column.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _is_id(column: pa.Array, width: int) -> Mask:
    filled = column.fill_null(b"")
    right = pc.equal(pc.binary_length(filled), width)
    return pc.and_(right, pc.not_equal(filled, b"\0" * width)).to_numpy(zero_copy_only=False)


def _coalesce(first: pa.Array, second: pa.Array) -> pa.Array:
    if second.null_count == len(second):
        return first
    return pc.coalesce(first.dictionary_decode(), second.dictionary_decode()).dictionary_encode()
