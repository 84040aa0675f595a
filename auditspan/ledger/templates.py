"""Rows of bytes that are alike: one that was parsed in full is a template for others of its length.

What a template says holds for every row that has the same bytes, but for bits that may differ; what may stand there is
the affair of whoever makes the template (`auditspan.ledger.header_templates`, `auditspan.ledger.payload_templates`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = [
    "Bytes",
    "Mask",
    "Rows",
    "Words",
    "bounds_of",
    "by_length",
    "coded",
    "cut_out",
    "fitting",
    "in_words",
    "of_templates",
]

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_WORD = 8
_CACHED = 256 << 10


def bounds_of(values: pa.Array) -> Rows:
    """Where each of ``values`` (binary) begins in their buffer, and where the last one ends."""
    return np.frombuffer(values.buffers()[1], np.int32, len(values) + 1, values.offset * 4).astype(np.int64)


def by_length(lengths: Rows, fewest: int) -> Iterator[tuple[Rows, int]]:
    """The rows of each length that at least ``fewest`` have, in their order, and that length, which is not 0."""
    if not len(lengths):
        return
    order = np.argsort(lengths, kind="stable")
    distinct, first = np.unique(lengths[order], return_index=True)
    for length, rows in zip(distinct.tolist(), np.split(order, first[1:]), strict=True):
        if len(rows) >= fewest and length:
            yield rows, length


def in_words(values: pa.Array, bounds: Rows, rows: Rows, length: int) -> Words:
    """The bytes of ``rows``, which all have ``length``, one under the other, in words of 8 bytes.

    There is an eighth as many words to compare as bytes. What follows a row's bytes in its last word is not of the row.

    Args:
        values: binary.
        bounds: `bounds_of` them.
        rows: of ``values``.
        length: of each, not 0.
    """
    data = np.frombuffer(values.buffers()[2], np.uint8)
    width = -(-length // _WORD) * _WORD
    words = np.empty((len(rows), width), np.uint8)
    begins = bounds[:-1][rows]
    # As single items of that many bytes, which begin anywhere, rows are copied whole.
    items = np.ndarray(max(len(data) - width + 1, 0), np.dtype((np.void, width)), data, strides=(1,))
    inside = int(np.searchsorted(begins, len(items)))
    words[:inside] = items[begins[:inside]].view(np.uint8).reshape(-1, width)
    for row in range(inside, len(rows)):
        words[row, :length] = data[begins[row] : begins[row] + length]
    return words.view(np.uint64)


def fitting(words: Words, template: bytes, compared: Bytes) -> Mask:
    """Which rows of `in_words` have the bits of ``template`` wherever ``compared``, as long as it, has one."""
    rows, width = words.shape
    same, mask = np.zeros(width * _WORD, np.uint8), np.zeros(width * _WORD, np.uint8)
    same[: len(template)] = np.frombuffer(template, np.uint8)
    mask[: len(template)] = compared
    expected, wanted = same.view(np.uint64), mask.view(np.uint64)
    fits = np.empty(rows, bool)
    # In pieces that stay in the processor's cache.
    step = max(1, _CACHED // (width * _WORD))
    space = np.empty((min(step, rows), width), np.uint64)
    for begin in range(0, rows, step):
        piece = words[begin : begin + step]
        differs = space[: len(piece)]
        np.bitwise_xor(piece, expected, out=differs)
        np.bitwise_and(differs, wanted, out=differs)
        fits[begin : begin + step] = np.bitwise_or.reduce(differs, axis=1) == 0
    return fits


def cut_out(data: Bytes, begins: Rows, ends: Rows) -> pa.Array:
    """The bytes ``data[begin:end]`` of each row as text, which they are known to be.

    No row begins before the one above it has ended.
    """
    widths = ends - begins
    if len(widths) and (width := int(widths[0])) and (widths == width).all():
        items = np.ndarray(len(data) - width + 1, np.dtype((np.void, width)), data, strides=(1,))[begins]
        offsets = np.arange(0, (len(begins) + 1) * width, width, dtype=np.int32)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(items.view(np.uint8))]
        return pa.Array.from_buffers(pa.string(), len(begins), buffers)
    cuts = np.stack([begins, ends], axis=1).reshape(-1).astype(np.int32)
    pieces = pa.Array.from_buffers(pa.string(), max(len(cuts) - 1, 0), [None, pa.py_buffer(cuts), pa.py_buffer(data)])
    return pieces.take(pa.array(np.arange(0, len(cuts), 2)))


def of_templates(kind: pa.DataType, values: Sequence[Any], numbers: Rows) -> pa.Array:
    """A column of type ``kind`` that has ``values[number]`` in each row, each distinct value once in a dictionary."""
    codes, distinct = coded(values)
    is_dictionary, is_list = pa.types.is_dictionary(kind), pa.types.is_list(kind)
    if len(set(codes.tolist())) == 1:
        if is_list and distinct == [[]]:
            return pa.ListArray.from_arrays(np.zeros(len(numbers) + 1, np.int32), pa.array([], kind.value_type))
        if not (is_dictionary or is_list):
            return pa.repeat(pa.scalar(distinct[0] if distinct else None, kind), len(numbers))
        indices = _zeros(len(numbers)) if distinct else _nulls(len(numbers))
    else:
        of_row = codes.astype(np.int32)[numbers]
        indices = pa.array(of_row, mask=of_row < 0 if min(codes) < 0 else None)
    if is_dictionary:
        # The codes are `coded`'s own: they need no look.
        return pa.DictionaryArray.from_arrays(indices, pa.array(distinct, kind.value_type), safe=False)
    return pa.array(distinct, kind).take(indices)


@lru_cache(maxsize=8)
def _zeros(count: int) -> pa.Array:
    return pa.array(np.zeros(count, np.int32))


@lru_cache(maxsize=8)
def _nulls(count: int) -> pa.Array:
    return pa.nulls(count, pa.int32())


def coded(values: Sequence[Any]) -> tuple[Rows, list[Any]]:
    """The number of each value among the distinct ones, -1 for None, and those."""
    known: dict[Hashable, int] = {}
    distinct: list[Any] = []
    codes = []
    for value in values:
        key = tuple(value) if isinstance(value, list) else value
        if key is None:
            codes.append(-1)
            continue
        if key not in known:
            known[key] = len(distinct)
            distinct.append(value)
        codes.append(known[key])
    return np.array(codes, np.int64), distinct
