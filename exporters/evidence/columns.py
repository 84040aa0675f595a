"""Typed columns as a package holds them: plain types that every Parquet reader knows (evidence format, section 14)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["compared_columns", "differing_rows", "empty_as_null", "hexadecimal", "one_array", "plain_columns"]


def plain_columns(typed: pa.Table) -> dict[str, pa.Array]:
    """Columns of `auditspan.ledger.typed_columns` without dictionaries: ids in hexadecimal, an empty text as null."""
    made = {}
    for name in typed.column_names:
        column = one_array(typed[name])
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_binary(column.type):
            column = hexadecimal(column)
        made[name] = empty_as_null(column) if pa.types.is_string(column.type) else column
    return made


def compared_columns(typed: pa.Table) -> dict[str, pa.Array]:
    """What `differing_rows` compares with columns of a package: `plain_columns`, with dictionaries left as they are."""
    made = {}
    for name in typed.column_names:
        column = one_array(typed[name])
        made[name] = hexadecimal(column) if pa.types.is_binary(column.type) else column
    return made


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, without a copy where it is in one already."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def empty_as_null(column: pa.Array) -> pa.Array:
    """A text or binary column in which an empty value stands as null."""
    empty = pc.equal(pc.binary_length(column), 0)
    return pc.if_else(empty, pa.scalar(None, column.type), column) if pc.any(empty).as_py() else column


def hexadecimal(column: pa.Array) -> pa.Array:
    """Lower-case hexadecimal text of binary values."""
    bounds = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4)
    data = (column.buffers()[2] or pa.py_buffer(b""))[int(bounds[0]) : int(bounds[-1])]
    digits = pa.py_buffer(bytes(data).hex().encode())
    validity = pc.is_valid(column).buffers()[1] if column.null_count else None
    offsets = pa.py_buffer(((bounds - bounds[0]) * 2).astype(np.int32))
    return pa.Array.from_buffers(pa.string(), len(column), [validity, offsets, digits])


def differing_rows(given: pa.Array, derived: pa.Array) -> list[int]:
    """Rows in which two columns of one type differ; two nulls are equal, and so are a null and an empty list.

    Either may be a dictionary of that type.
    """
    if pa.types.is_dictionary(given.type) and pa.types.is_dictionary(derived.type) and _same_codes(given, derived):
        return []
    given, derived = (_decoded(side) for side in (given, derived))
    if given.equals(derived):
        return []
    if pa.types.is_list(given.type):
        # As bytes: the texts of a file may be no UTF-8.
        left, right = (side.cast(pa.list_(pa.binary())).to_pylist() for side in (given, derived))
        return [row for row, (a, b) in enumerate(zip(left, right, strict=True)) if (a or []) != (b or [])]
    same = pc.fill_null(pc.equal(given, derived), False)
    both_null = pc.and_(pc.is_null(given), pc.is_null(derived))
    differs = pc.invert(pc.or_(same, both_null)).to_numpy(zero_copy_only=False)
    return [int(row) for row in np.flatnonzero(differs)]


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _same_codes(given: pa.DictionaryArray, derived: pa.DictionaryArray) -> bool:
    """Whether two columns are surely the same, told by their dictionaries and codes alone."""
    if derived.dictionary.equals(given.dictionary):
        return bool(derived.indices.equals(given.indices))
    codes = pc.index_in(derived.dictionary, value_set=given.dictionary)
    if codes.null_count:
        # A value that the other dictionary lacks must not be taken for a null.
        return False
    return bool(codes.take(derived.indices).equals(given.indices))
