"""Payloads of many leaves at once: put together from their messages, and cut again (evidence format, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["PayloadParts", "payload_array", "split_payloads"]

_PREFIX: Final = 4


def payload_array(resource: pa.Array, scope: pa.Array, span: pa.Array) -> pa.Array:
    """``u32(len R) ‖ R ‖ u32(len S) ‖ S ‖ u32(len P) ‖ P``, row for row (binary).

    ``resource`` and ``scope`` may be dictionaries, which is faster.
    """
    parts: list[pa.Array] = []
    for part in (resource, scope, span):
        if isinstance(part, pa.DictionaryArray):
            parts.append(_with_length(part.dictionary).take(part.indices))
        else:
            parts += [_length_prefixes(part), part]
    return pc.binary_join_element_wise(*parts, b"")


@dataclass(frozen=True, slots=True)
class PayloadParts:
    """The messages of each payload; where ``whole`` is false it was null or not of this form, and they are empty."""

    resource: pa.Array
    scope: pa.Array
    span: pa.Array
    whole: npt.NDArray[np.bool_]


def split_payloads(payloads: pa.Array) -> PayloadParts:
    """The messages of ``payloads`` (binary, nulls allowed)."""
    rows = len(payloads)
    if rows == 0:
        nothing = pa.array([], pa.binary())
        return PayloadParts(nothing, nothing, nothing, np.zeros(0, dtype=bool))
    if payloads.null_count:
        payloads = pc.fill_null(payloads, b"")
    data = payloads.buffers()[2]
    raw = np.frombuffer(b"" if data is None else data, dtype=np.uint8)
    bounds = np.frombuffer(payloads.buffers()[1], dtype=np.int32, count=rows + 1, offset=4 * payloads.offset).astype(
        np.int64
    )
    # One binary array over the same bytes, whose values are length, R, length, S, length, P of each payload in turn.
    cuts = np.empty((rows, 6), dtype=np.int64)
    start, end, whole = bounds[:-1], bounds[1:], np.ones(rows, dtype=bool)
    for part in range(3):
        cuts[:, 2 * part] = start
        length, fits = _read_lengths(raw, start, end)
        whole &= fits
        cuts[:, 2 * part + 1] = start + _PREFIX
        start = start + _PREFIX + length
    whole &= start == end
    cuts[~whole] = bounds[:-1][~whole, np.newaxis]
    offsets = np.append(cuts.reshape(-1), bounds[-1]).astype(np.int32)
    pieces = pa.Array.from_buffers(pa.binary(), 6 * rows, [None, pa.py_buffer(offsets), data])
    places = pa.array(np.arange(0, 6 * rows, 6, dtype=np.int64))
    resource, scope, span = (pieces.take(pc.add(places, part)) for part in (1, 3, 5))
    if not whole.all():
        # The last cut of a payload that is not whole runs to its end.
        span = pc.if_else(pa.array(whole), span, pa.scalar(b"", pa.binary()))
    return PayloadParts(resource, scope, span, whole)


def _read_lengths(
    raw: npt.NDArray[np.uint8], start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The big-endian lengths at ``start`` (0 where they do not fit before ``end``), and where they fit."""
    fits = start + _PREFIX <= end
    rows = slice(None) if fits.all() else fits
    found = np.zeros((len(start), _PREFIX), dtype=np.uint8)
    for place in range(_PREFIX):
        found[rows, place] = raw[start[rows] + place]
    length = found.view(">u4").reshape(-1).astype(np.int64)
    fits = fits & (start + _PREFIX + length <= end)
    return np.where(fits, length, 0), fits


def _length_prefixes(values: pa.Array) -> pa.Array:
    lengths = pc.binary_length(values).to_numpy().astype(">u4")
    offsets = np.arange(len(values) + 1, dtype=np.int32) * _PREFIX
    return pa.Array.from_buffers(pa.binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(lengths)])


def _with_length(values: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(_length_prefixes(values), values, b"")
