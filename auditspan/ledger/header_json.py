"""Event headers of a batch read back into columns.

Most are read by templates (`auditspan.ledger.header_templates`), which is fastest. Of the others Arrow's JSON reader,
which is lenient, reads what it can, and that is written again by `event_headers`: a row counts only where this gives
the same bytes. Whatever else there is (log leaves, long texts, anything malformed) is left to `parse_header`, leaf by
leaf.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from auditspan.ledger.header import HEADER_INPUT, are_sorted, event_headers, is_log_id, is_time_basis
from auditspan.ledger.header_templates import HeaderTemplates

__all__ = ["read_plain_headers"]

_HASHES: Final = ("facts_hash", "payload_hash")
_TIMES: Final = ("event_time", "arrival_time")
_FIRST_KEY: Final = '{"action":'
_LONG_TEXT: Final = '{"length":'
_SEPARATOR: Final = "\n"


def _json_type(field: pa.Field) -> pa.DataType:
    if field.name in (*_HASHES, *_TIMES) or pa.types.is_dictionary(field.type):
        return pa.string()
    return field.type


_SCHEMA: Final = pa.schema(
    [
        *(pa.field(f.name, _json_type(f)) for f in HEADER_INPUT if f.name not in ("offset", "ordinal")),
        pa.field("position", pa.list_(pa.int64())),
        pa.field("v", pa.int64()),
    ]
)

_FEW: Final = 64
"""Headers that are parsed one by one sooner than they are read together."""
_SLICE: Final = 256
"""Headers read together when a batch holds one that Arrow's reader refuses."""

_PARSE: Final = pyarrow.json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="error")

_DIGIT: Final = np.zeros(256, dtype=np.uint8)
_DIGIT[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16)

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def read_plain_headers(headers: pa.Array, templates: HeaderTemplates | None = None) -> tuple[pa.Table, Rows]:
    """The event headers in ``headers`` (binary) without a long text, as `HEADER_INPUT`, and the indexes of all others.

    A header in the table is one that `parse_header` accepts. A few may be among the others all the same. Whoever reads
    batch after batch gives the same ``templates`` each time.
    """
    columns, taken = (templates or HeaderTemplates()).read(headers)
    left = np.flatnonzero(~taken)
    left = left[_mask(pc.starts_with(headers.take(pa.array(left)), _FIRST_KEY))]
    if len(left) > _FEW:
        more, rows = _read_json(headers, left)
        if len(rows):
            order = np.argsort(np.concatenate([np.flatnonzero(taken), rows]), kind="stable")
            columns = pa.concat_tables([columns, more]).unify_dictionaries().take(pa.array(order)).combine_chunks()
            taken[rows] = True
    return columns, np.flatnonzero(~taken)


def _read_json(headers: pa.Array, rows: Rows) -> tuple[pa.Table, Rows]:
    """What Arrow reads of ``rows``, and which of them those are."""
    tables, taken = [], np.zeros(len(headers), dtype=bool)
    pending = [rows]
    searched = False
    while pending:
        rows = pending.pop()
        found = _read(headers.take(pa.array(rows))) if len(rows) else None
        if found is not None:
            table, good = found
            tables.append(table.filter(pa.array(good)))
            taken[rows[good]] = True
        elif not searched:
            # A long text is an object where others have a string, which Arrow's reader refuses.
            searched = True
            pending.append(rows[~_mask(pc.match_substring(headers.take(pa.array(rows)), _LONG_TEXT))])
        elif len(rows) > _SLICE:
            pending += [rows[start : start + _SLICE] for start in reversed(range(0, len(rows), _SLICE))]
    columns = pa.concat_tables([HEADER_INPUT.empty_table(), *tables]).unify_dictionaries().combine_chunks()
    return columns, np.flatnonzero(taken)


def _read(headers: pa.Array) -> tuple[pa.Table, Mask] | None:
    """``headers`` as columns, and which of them are written exactly so; None when they cannot be read together."""
    rows = len(headers)
    lines = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, rows], pa.int32()), headers), b"\n")
    try:
        headers.cast(pa.string())  # Arrow's JSON reader takes text that is no UTF-8.
        parsed = _parse(lines[0].as_buffer())
        if parsed.num_rows != rows:
            return None
        columns = _as_input(parsed.combine_chunks())
        return columns, _mask(pc.equal(event_headers(columns), headers)) & _sound(columns)
    except (pa.ArrowException, ValueError):
        return None


def _parse(text: pa.Buffer) -> pa.Table:
    # In one block: cut into blocks of a megabyte, the same text takes half as long again.
    options = pyarrow.json.ReadOptions(use_threads=False, block_size=max(text.size, 1))
    return pyarrow.json.read_json(pa.BufferReader(text), read_options=options, parse_options=_PARSE)


def _as_input(parsed: pa.Table) -> pa.Table:
    positions = parsed["position"].combine_chunks()
    if positions.null_count or (np.diff(positions.offsets.to_numpy()) != 2).any():
        raise ValueError("a position is not two numbers")
    numbers = positions.values
    columns = []
    for field in HEADER_INPUT:
        if field.name in ("offset", "ordinal"):
            column = numbers[field.name == "ordinal" :: 2]
        else:
            column = parsed[field.name].combine_chunks()
        if field.name in _HASHES:
            column = _from_hexadecimal(column)
        elif pa.types.is_dictionary(field.type):
            column = column.dictionary_encode()
        columns.append(column.cast(field.type))
    return pa.table(columns, schema=HEADER_INPUT)


def _from_hexadecimal(column: pa.Array) -> pa.Array:
    """Hashes from 64 characters each; what is no hexadecimal becomes some other hash, and so does not read back."""
    present = pc.is_valid(column)
    if pc.any(pc.not_equal(pc.binary_length(column), 64)).as_py():
        raise ValueError("a hash is not 64 characters")
    filled = pc.if_else(present, column, "0" * 64)
    digits = _DIGIT[np.frombuffer(filled.buffers()[2], dtype=np.uint8, count=64 * len(column))]
    raw = digits[0::2] << 4 | digits[1::2]
    hashes = pa.Array.from_buffers(pa.binary(32), len(column), [None, pa.py_buffer(raw)])
    return pc.if_else(present, hashes, pa.scalar(None, hashes.type)) if column.null_count else hashes


def _sound(columns: pa.Table) -> Mask:
    """What `parse_header` asks of a header beyond its form."""
    sound = np.ones(columns.num_rows, dtype=bool)
    for name, check in (("log_id", is_log_id), ("time_basis", is_time_basis)):
        column = columns[name].combine_chunks()
        sound &= np.array([check(value) for value in column.dictionary.to_pylist()])[column.indices.to_numpy()]
    for name in ("offset", "ordinal", "sequence", "reference_epoch", "payload_length", "arrival_time"):
        sound &= _mask(pc.fill_null(pc.greater_equal(columns[name], 0), True))
    for name in ("rule_ids", "faults"):
        sound &= _sorted_rows(columns[name].combine_chunks())
    return sound


def _sorted_rows(lists: pa.ListArray) -> Mask:
    """Rows whose texts are sorted, looked at once for each distinct list; false where a text has the separator."""
    joined = pc.binary_join(lists, _SEPARATOR)
    plain = pc.less_equal(pc.count_substring(joined, _SEPARATOR), pc.subtract(pc.list_value_length(lists), 1))
    encoded = joined.dictionary_encode().indices.to_numpy()
    distinct, first = np.unique(encoded, return_index=True)
    in_order = np.zeros(len(distinct), dtype=bool)
    in_order[:] = [are_sorted(texts) for texts in lists.take(pa.array(first)).to_pylist()]
    empty = _mask(pc.equal(pc.list_value_length(lists), 0))
    rows: Mask = empty | (in_order[encoded] & _mask(plain))
    return rows


def _mask(column: pa.Array | pa.ChunkedArray) -> Mask:
    mask: Mask = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    return mask
