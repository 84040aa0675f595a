"""How many bytes parsed messages take in canonical protobuf, computed on Arrow columns.

A parser that skips, overwrites or misreads bytes cannot account for them: when the weight of what it parsed equals the
length of what it was given, every byte was a known field in its shortest form, once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import Descriptor, FieldDescriptor

__all__ = ["encoded_sizes", "lengths"]

Sizes = npt.NDArray[np.int64]

_FIXED: Final = {
    FieldDescriptor.TYPE_FIXED32: 4,
    FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_DOUBLE: 8,
    FieldDescriptor.TYPE_BOOL: 1,
}
_IMPOSSIBLE: Final = -(2**40)
"""Weight of a message that sets a ``oneof`` more than once: no message has it, nor has any around it."""


def encoded_sizes(descriptor: Descriptor, columns: pa.RecordBatch | pa.StructArray) -> Sizes:
    """Bytes that each row takes as the message ``descriptor`` in its shortest form; null counts as absent."""
    rows = len(columns)
    sizes = np.zeros(rows, dtype=np.int64)
    members: dict[str, Sizes] = {}
    for index, field in enumerate(descriptor.fields):
        column = columns.field(index) if isinstance(columns, pa.StructArray) else columns.column(index)
        if column.null_count == rows:
            continue
        if pa.types.is_list(column.type):
            sizes += _repeated_sizes(field, column)
            continue
        present = _valid(column)
        sizes += _tag_size(field) * present + np.where(present, _value_sizes(field, column), 0)
        if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
            name = field.containing_oneof.name
            members[name] = members.get(name, np.zeros(rows, dtype=np.int64)) + present
    for count in members.values():
        sizes[count > 1] = _IMPOSSIBLE
    return sizes


def lengths(array: pa.Array) -> npt.NDArray[np.int32]:
    """Bytes of each value of a string or binary array; nulls have an undefined length."""
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int32, count=len(array) + 1, offset=4 * array.offset)
    return np.diff(offsets)


def _repeated_sizes(field: FieldDescriptor, column: pa.ListArray) -> Sizes:
    offsets = column.offsets.to_numpy()
    values = column.values
    if len(values) == 0:
        return np.zeros(len(column), dtype=np.int64)
    total = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(_tag_size(field) + _value_sizes(field, values), out=total[1:])
    sizes: Sizes = np.diff(total[offsets])
    return sizes


def _value_sizes(field: FieldDescriptor, column: pa.Array) -> npt.NDArray[np.integer] | int:
    if field.type in _FIXED:
        return _FIXED[field.type]
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return _delimited(lengths(column))
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _delimited(encoded_sizes(field.message_type, column))
    # Negative int32 values are written as 64 bits.
    values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return _varint_sizes(values.view(np.uint64))


def _delimited(length: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    if len(length) and length.min() >= 0 and (longest := length.max()) < 1 << 14:
        # By far the most common case, in 32 bits and without looking at seven more thresholds.
        return length + 1 if longest < 128 else length + 1 + (length > 127)
    wide = length.astype(np.int64)
    return wide + _varint_sizes(np.maximum(wide, 0).view(np.uint64))


def _varint_sizes(values: npt.NDArray[np.uint64]) -> Sizes:
    sizes = np.ones(len(values), dtype=np.int64)
    for bits in range(7, 64, 7):
        longer = values >> np.uint64(bits) > 0
        if not longer.any():
            break
        sizes += longer
    return sizes


def _tag_size(field: FieldDescriptor) -> int:
    return 1 if field.number < 16 else 2


def _valid(column: pa.Array) -> npt.NDArray[np.bool_]:
    if column.null_count == 0:
        return np.ones(len(column), dtype=bool)
    valid: npt.NDArray[np.bool_] = pc.is_valid(column).to_numpy(zero_copy_only=False)
    return valid
