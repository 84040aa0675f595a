"""The typed columns of the event stream, derived from headers and payloads (``docs/evidence-format.md`` section 14).

A processor derives them from what it has as columns (`from_header_input`, `from_decoded`), a verifier from the stored
bytes (`read_headers`, `from_payloads`); both ways give the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan import semconv
from auditspan.ledger.header import LONGEST_TEXT, parse_header
from auditspan.ledger.header_json import read_plain_headers
from auditspan.ledger.payload_templates import PayloadTemplates
from auditspan.ledger.payloads import payload_array, split_payloads
from auditspan.otlp.classify import READ
from auditspan.otlp.columns import decode_parts
from auditspan.store.schema import HEADER_COLUMNS, PAYLOAD_COLUMNS

__all__ = [
    "HeaderRows",
    "PayloadReader",
    "from_decoded",
    "from_header_input",
    "from_headers",
    "from_parsed",
    "from_payloads",
    "from_read",
    "read_headers",
    "read_payloads",
    "shortened",
]

Mask = npt.NDArray[np.bool_]

_FROM_HEADER: Final = {"destination_country": "destination"}
"""Typed columns whose name is not that of the header field."""

_FROM_SPAN: Final = {
    "trace_id": "trace_id",
    "span_id": "span_id",
    "span_name": "span_name",
    "actor_id": semconv.AUDIT_ACTOR_ID,
    "actor_type": semconv.AUDIT_ACTOR_TYPE,
    "target_id": semconv.AUDIT_TARGET_ID,
    "target_type": semconv.AUDIT_TARGET_TYPE,
    "client_address": semconv.CLIENT_ADDRESS,
    "service_name": semconv.SERVICE_NAME,
}
_NOT_MADE_OF: Final = {*semconv.READ_FROM_SPAN, *semconv.READ_FROM_RESOURCE} - {*READ, *_FROM_SPAN.values()}
"""Attributes that neither headers nor typed columns are made of."""
_LARGEST_TIMESTAMP: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class HeaderRows:
    """Typed columns of leaves (schema `HEADER_COLUMNS`), and which are no leaf of version 1 (index → why).

    In the rows of ``malformed`` the columns say nothing: null, false or empty.
    """

    columns: pa.Table
    malformed: dict[int, str]


def from_headers(headers: pa.Array) -> pa.Table:
    """Typed columns of ``headers`` (binary: event leaves and log leaves), schema `HEADER_COLUMNS`.

    Raises:
        ValueError: a header is malformed; says which one and why. `read_headers` tells of all.
    """
    rows = read_headers(headers)
    for index, why in rows.malformed.items():
        raise ValueError(f"header {index}: {why}")
    return rows.columns


def read_headers(headers: pa.Array) -> HeaderRows:
    """The same without raising, as strict as `parse_header`, with most headers checked column by column."""
    plain, rest = read_plain_headers(headers)
    if len(rest) == 0:
        return HeaderRows(from_header_input(plain), {})
    malformed: dict[int, str] = {}
    slow: list[dict[str, Any]] = []
    for row, leaf in zip(rest.tolist(), headers.take(pa.array(rest)).to_pylist(), strict=True):
        try:
            slow.append(parse_header(leaf))
        except ValueError as error:
            malformed[row] = str(error)
            slow.append({})
    columns = pa.concat_tables([from_header_input(plain), from_parsed(slow)])
    is_plain = np.ones(len(headers), dtype=bool)
    is_plain[rest] = False
    order = np.argsort(np.concatenate([np.flatnonzero(is_plain), rest]), kind="stable")
    return HeaderRows(columns.unify_dictionaries().take(pa.array(order)).combine_chunks(), malformed)


def from_header_input(columns: pa.Table) -> pa.Table:
    """Typed columns of the event leaves that ``columns`` (schema `HEADER_INPUT`) become."""
    return pa.table([_header_column(field, columns) for field in HEADER_COLUMNS], schema=HEADER_COLUMNS)


def from_parsed(headers: Iterable[dict[str, Any]]) -> pa.Table:
    """Typed columns of headers that `parse_header` gave; a row of an empty one says nothing."""
    return pa.Table.from_pylist([_typed(header) for header in headers], schema=HEADER_COLUMNS)


def from_payloads(payloads: pa.Array) -> pa.Table:
    """Typed columns of ``payloads`` (binary, nulls allowed), schema `PAYLOAD_COLUMNS`.

    All are null in a row whose payload is null, is not three messages, does not parse, or has an invalid id.
    """
    if len(payloads) == 0:
        return PAYLOAD_COLUMNS.empty_table()
    return from_read(_read(payloads, _FROM_SPAN.values()))


def read_payloads(payloads: pa.Array) -> pa.Table:
    """What the log reads of ``payloads`` (binary, nulls allowed): `auditspan.otlp.columns.SPANS` from ``trace_id`` on.

    Without what is read for the determination alone. In a row whose payload cannot be read, ``quarantine`` says why, as
    far as the payload tells that.
    """
    return _read(payloads, (*semconv.READ_FROM_SPAN, *semconv.READ_FROM_RESOURCE))


class PayloadReader:
    """Reads batch after batch as `read_payloads` does, several times faster where payloads are alike."""

    def __init__(self) -> None:
        self._templates = PayloadTemplates(_without_the_rest)

    def read(self, payloads: pa.Array) -> pa.Table:
        """The same as `read_payloads`, of attributes those that headers and typed columns are made of.

        Record ids, of which each is another, are text without a dictionary.
        """
        columns, taken = self._templates.read(payloads)
        if columns is None:
            return _without_the_rest(payloads)
        left = np.flatnonzero(~taken)
        if not len(left):
            return columns
        others = _without_the_rest(payloads.take(pa.array(left)))
        order = np.argsort(np.concatenate([np.flatnonzero(taken), left]), kind="stable")
        return pa.concat_tables([columns, others]).unify_dictionaries().take(pa.array(order)).combine_chunks()


def _without_the_rest(payloads: pa.Array) -> pa.Table:
    columns = read_payloads(payloads)
    columns = columns.select([name for name in columns.column_names if name not in _NOT_MADE_OF])
    place = columns.column_names.index(semconv.AUDIT_RECORD_ID)
    return columns.set_column(place, semconv.AUDIT_RECORD_ID, columns[semconv.AUDIT_RECORD_ID].cast(pa.string()))


def from_read(spans: pa.Table) -> pa.Table:
    """The columns of `from_payloads`, of rows that `read_payloads` gave."""
    return _payload_columns(spans)


def _read(payloads: pa.Array, attributes: Collection[str]) -> pa.Table:
    parts = split_payloads(payloads)
    resource, scope = parts.resource.dictionary_encode(), parts.scope.dictionary_encode()
    return decode_parts(resource, scope, parts.span, attributes=attributes)


def shortened(values: pa.Array) -> pa.Array:
    """Texts as a header's columns have them: one of more than 256 bytes as ``sha256:<hex>``, a null as it is."""
    if isinstance(values, pa.DictionaryArray):
        return _shortened(values.dictionary).take(values.indices)
    return _shortened(values)


def from_decoded(spans: pa.Table) -> pa.Table:
    """The same from rows that `auditspan.otlp.columns.decode` gave, without reading the messages again."""
    columns = _payload_columns(spans)
    quarantined = pc.is_valid(_one(spans, "quarantine")).to_numpy(zero_copy_only=False)
    if not quarantined.any():
        return columns
    # Decoding hides what stands in a quarantined row, be it readable; what a payload says must not depend on that.
    rows = np.flatnonzero(quarantined)
    hidden = spans.select(["resource", "scope", "span"]).take(pa.array(rows))
    shown = from_payloads(payload_array(*(_one(hidden, name) for name in ("resource", "scope", "span"))))
    order = np.arange(len(spans))
    order[rows] = len(spans) + np.arange(len(rows))
    return pa.concat_tables([columns, shown]).unify_dictionaries().take(pa.array(order)).combine_chunks()


def _payload_columns(spans: pa.Table) -> pa.Table:
    columns = [
        _text(_one(spans, source), column.type)
        for column, source in zip(PAYLOAD_COLUMNS, _FROM_SPAN.values(), strict=True)
    ]
    return pa.table(columns, schema=PAYLOAD_COLUMNS)


def _header_column(field: pa.Field, columns: pa.Table) -> pa.Array:
    column = _one(columns, _FROM_HEADER.get(field.name, field.name))
    if pa.types.is_timestamp(field.type):
        fits = pc.less_equal(column, pa.scalar(_LARGEST_TIMESTAMP, column.type))
        return pc.if_else(fits, column, pa.scalar(None, column.type)).cast(pa.int64()).view(field.type)
    if pa.types.is_list(field.type):
        decoded = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
        return _lists(decoded)
    if pa.types.is_dictionary(field.type) or pa.types.is_string(field.type):
        return _text(column, field.type, _shortened)
    return column.cast(field.type)


def _one(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _text(
    column: pa.Array, wanted: pa.DataType, change: Callable[[pa.Array], pa.Array] = lambda values: values
) -> pa.Array:
    """``column`` as ``wanted`` (text or bytes, dictionary or not), each value changed, null where it is empty."""
    if isinstance(column, pa.DictionaryArray):
        changed = _null_if_empty(change(column.dictionary))
        if not pa.types.is_dictionary(wanted):
            return changed.take(column.indices)
        if not changed.null_count and changed is not column.dictionary:
            return pa.DictionaryArray.from_arrays(column.indices, changed)
        if not changed.null_count:
            return column
        return changed.take(column.indices).dictionary_encode()
    changed = _null_if_empty(change(column))
    return changed.dictionary_encode() if pa.types.is_dictionary(wanted) else changed


def _null_if_empty(values: pa.Array) -> pa.Array:
    lengths = _lengths(values)
    if lengths is not None and lengths.all():
        return values
    empty = pc.equal(pc.binary_length(values), 0)
    return pc.if_else(empty, pa.scalar(None, values.type), values) if pc.any(empty).as_py() else values


def _shortened(values: pa.Array) -> pa.Array:
    """Long texts as ``sha256:<hex>``."""
    lengths = _lengths(values)
    if lengths is not None and lengths.max(initial=0) <= LONGEST_TEXT:
        return values
    long = pc.fill_null(pc.greater(pc.binary_length(values), LONGEST_TEXT), False)
    if not pc.any(long).as_py():
        return values
    digests = [f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" for text in values.filter(long).to_pylist()]
    return pc.replace_with_mask(values, long, pa.array(digests, pa.string()))


def _lengths(values: pa.Array) -> npt.NDArray[np.int32] | None:
    """Bytes of each value, without a call of Arrow's, which costs more than all the values; None where one is null."""
    if values.null_count or values.type not in (pa.string(), pa.binary()):
        return None
    if not len(values):
        return np.zeros(0, np.int32)
    bounds = np.frombuffer(values.buffers()[1], np.int32, len(values) + 1, values.offset * 4)
    return np.diff(bounds)


def _lists(column: pa.ListArray) -> pa.ListArray:
    values = _shortened(column.values)
    return column if values is column.values else pa.ListArray.from_arrays(column.offsets, values)


def _typed(header: dict[str, Any]) -> dict[str, Any]:
    """The typed columns of one leaf that was parsed; a log leaf has no event fields."""
    row: dict[str, Any] = {"flagged": False, "rule_ids": [], "faults": []}
    for field in HEADER_COLUMNS:
        value = header.get(_FROM_HEADER.get(field.name, field.name))
        if value is None:
            continue
        if pa.types.is_timestamp(field.type):
            row[field.name] = nanoseconds if (nanoseconds := int(value)) <= _LARGEST_TIMESTAMP else None
        elif isinstance(value, list):
            row[field.name] = [_short(item) for item in value]
        else:
            row[field.name] = (_short(value) or None) if isinstance(value, str | dict) else value
    return row


def _short(value: str | dict[str, Any]) -> str:
    return f"sha256:{value['sha256']}" if isinstance(value, dict) else value
