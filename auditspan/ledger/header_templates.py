"""Event headers of a batch read back into columns by templates.

Headers that were sealed together differ in few places: numbers, hashes, and three texts. One header that was parsed in
full is a template for all of its length: whose other bytes are the same says the same, and has in those places what
stands there. A row counts only if these bytes are all of a kind that `parse_header` accepts there and that RFC 8785
writes as they are; so a row that counts is canonical as the template is. All others are left to the caller.
"""

from __future__ import annotations

import binascii
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from auditspan.canonical import canonical_json
from auditspan.ledger.header import HEADER_INPUT, parse_header

__all__ = ["read_by_template"]

_TEXTS: Final = ("record_id", "stream", "asset")
_TIMES: Final = ("arrival_time", "event_time")
_COUNTS: Final = ("payload_length", "reference_epoch", "sequence")
_PLACES: Final = ("offset", "ordinal")
_HASHES: Final = ("facts_hash", "payload_hash")
_LISTS: Final = ("faults", "rule_ids")
_SAME: Final = tuple(
    field.name for field in HEADER_INPUT if field.name not in (*_TEXTS, *_TIMES, *_COUNTS, *_PLACES, *_HASHES)
)
"""Columns whose value is that of the template."""
_WIDEST: Final = {**dict.fromkeys(_TIMES, 19), **dict.fromkeys(_COUNTS, 15), "offset": 15, "ordinal": 9}
"""Digits up to which a number is below every limit, but for `_LARGEST_ARRIVAL`."""
_LARGEST_ARRIVAL: Final = 2**63 - 1
_FEWEST: Final = 16
"""Rows of one length that are worth a template."""
_MOST_IN_VAIN: Final = 3
"""Templates that fit fewer, after which the rest of a length is left."""
_MOST: Final = 512

_PLAIN: Final = np.zeros(256, bool)
_PLAIN[32:127] = True
_PLAIN[[ord('"'), ord("\\")]] = False
_NO_DIGIT: Final = 255
_HEX: Final = np.full(256, _NO_DIGIT, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Template:
    """A header, and where in it another of its length may differ: by column, ``[begin, end)``."""

    leaf: bytes
    values: dict[str, Any]
    spans: dict[str, Span]


def read_by_template(headers: pa.Array) -> tuple[pa.Table, Mask]:
    """The headers that a template fits, as `HEADER_INPUT`, in their order; and which of ``headers`` (binary) those are.

    Each of them is one that `parse_header` accepts, and has no long text.
    """
    count = len(headers)
    if not count:
        return HEADER_INPUT.empty_table(), np.zeros(0, bool)
    bounds = np.frombuffer(headers.buffers()[1], np.int32, count + 1, headers.offset * 4).astype(np.int64)
    columns = _Columns(count)
    for rows, length in _by_length(np.diff(bounds)):
        if len(columns.templates) < _MOST:
            _read_length(headers, rows, length, columns)
    taken = columns.template >= 0
    return columns.table(headers, bounds, np.flatnonzero(taken)), taken


def _by_length(lengths: Rows) -> Iterator[tuple[Rows, int]]:
    order = np.argsort(lengths, kind="stable")
    distinct, first = np.unique(lengths[order], return_index=True)
    for length, rows in zip(distinct.tolist(), np.split(order, first[1:]), strict=True):
        if len(rows) >= _FEWEST and length:
            yield rows, length


def _read_length(headers: pa.Array, rows: Rows, length: int, columns: _Columns) -> None:
    """Headers of one length."""
    taken = headers.take(pa.array(rows))
    begin = int(np.frombuffer(taken.buffers()[1], np.int32, 1, taken.offset * 4)[0])
    block = np.frombuffer(taken.buffers()[2], np.uint8, len(rows) * length, begin).reshape(len(rows), length)
    # In words of 8 bytes there is an eighth as much to compare.
    words = np.zeros((len(rows), -(-length // 8) * 8), np.uint8)
    words[:, :length] = block
    wide = words.view(np.uint64)
    left = np.arange(len(rows))
    in_vain = 0
    while len(left) >= _FEWEST and in_vain < _MOST_IN_VAIN and len(columns.templates) < _MOST:
        template = _template(block[left[0]].tobytes())
        if template is None:
            left, in_vain = left[1:], in_vain + 1
            continue
        fits = _fitting(wide, left, template)
        columns.take(template, rows[left[fits]], block[left[fits]])
        in_vain = 0 if int(fits.sum()) >= _FEWEST else in_vain + 1
        left = left[~fits]


def _fitting(wide: npt.NDArray[np.uint64], rows: Rows, template: _Template) -> Mask:
    """Which of ``rows`` are the template but for its spans."""
    width = wide.shape[1] * 8
    same = np.zeros(width, np.uint8)
    same[: len(template.leaf)] = np.frombuffer(template.leaf, np.uint8)
    mask = np.full(width, 255, np.uint8)
    for begin, end in template.spans.values():
        mask[begin:end] = 0
    candidates = wide if len(rows) == len(wide) else wide[rows]
    differs = (candidates ^ same.view(np.uint64)) & mask.view(np.uint64)
    fits: Mask = np.bitwise_or.reduce(differs, axis=1) == 0
    return fits


def _template(leaf: bytes) -> _Template | None:
    """A header as template; None where it is none, or has what no template may have."""
    try:
        header = parse_header(leaf)
    except ValueError:
        return None
    if "body" in header or any(isinstance(header[name], dict) for name in _SAME + _TEXTS if name in header):
        return None
    if any(isinstance(text, dict) for name in _LISTS for text in header[name]):
        return None
    spans: dict[str, Span] = {}
    at = 1
    for key in sorted(header):
        at += len(key) + 3
        length = len(canonical_json(header[key]))
        _add_spans(spans, key, header[key], at, at + length)
        at += length + 1
    offset, ordinal = header["position"]
    values = {**header, "offset": offset, "ordinal": ordinal}
    if any(end - begin > _WIDEST.get(name, end) for name, (begin, end) in spans.items()):
        return None
    return _Template(leaf, values, spans)


def _add_spans(spans: dict[str, Span], key: str, value: Any, begin: int, end: int) -> None:
    if value is None:
        return
    if key == "position":
        middle = begin + 1 + len(str(value[0]))
        spans["offset"], spans["ordinal"] = (begin + 1, middle), (middle + 1, end - 1)
    elif key in _COUNTS:
        spans[key] = begin, end
    elif key in (*_TIMES, *_HASHES) or (key in _TEXTS and value and end - begin == len(value) + 2 and value.isascii()):
        spans[key] = begin + 1, end - 1


class _Columns:
    """The columns of the rows that templates fit; ``template`` is the number of each row's, -1 for none."""

    def __init__(self, count: int) -> None:
        self.template = np.full(count, -1, np.int64)
        self.templates: list[_Template] = []
        self._numbers = {name: np.zeros(count, np.uint64) for name in _WIDEST}
        self._hashes = {name: np.zeros((count, 32), np.uint8) for name in _HASHES}

    def take(self, template: _Template, rows: Rows, block: Bytes) -> None:
        """Read the rows that are ``template`` but for its spans; those that hold what cannot stand there are left."""
        good = np.ones(len(rows), bool)
        numbers, hashes = {}, {}
        for name, (begin, end) in template.spans.items():
            part = block[:, begin:end]
            if name in _TEXTS:
                good &= _PLAIN[part].all(axis=1)
            elif name in _HASHES:
                hashes[name], sound = _digests(part)
                good &= sound
            else:
                numbers[name], sound = _number(part)
                good &= sound
        good &= numbers["arrival_time"] <= _LARGEST_ARRIVAL
        chosen = rows[good]
        self.template[chosen] = len(self.templates)
        self.templates.append(template)
        for name, values in numbers.items():
            self._numbers[name][chosen] = values[good]
        for name, digests in hashes.items():
            self._hashes[name][chosen] = digests[good]

    def table(self, headers: pa.Array, bounds: Rows, rows: Rows) -> pa.Table:
        """The columns of ``rows``, which are sorted, as `HEADER_INPUT`."""
        if not len(rows):
            return HEADER_INPUT.empty_table()
        numbers = self.template[rows]
        columns = []
        for field in HEADER_INPUT:
            if field.name in _TEXTS:
                column = self._text(field.name, headers, bounds, rows, numbers)
            elif field.name in _HASHES:
                column = pa.Array.from_buffers(
                    pa.binary(32), len(rows), [None, pa.py_buffer(self._hashes[field.name][rows])]
                )
                column = self._where_said(field.name, column, numbers)
            elif field.name in _WIDEST:
                column = pa.array(self._numbers[field.name][rows]).cast(field.type)
                column = self._where_said(field.name, column, numbers)
            else:
                column = self._same(field, numbers)
            columns.append(column)
        return pa.table(columns, schema=HEADER_INPUT)

    def _where_said(self, name: str, column: pa.Array, numbers: Rows) -> pa.Array:
        """``column``, null in rows whose template says null."""
        null = np.array([template.values[name] is None for template in self.templates])
        if not null.any():
            return column
        places = np.where(null[numbers], -1, np.arange(len(numbers)))
        return column.take(pa.array(places, mask=places < 0))

    def _same(self, field: pa.Field, numbers: Rows) -> pa.Array:
        """A column with the values of the templates, each distinct one once."""
        codes, distinct = _coded([template.values[field.name] for template in self.templates])
        indices = pa.array(codes[numbers].astype(np.int32), mask=None if min(codes) >= 0 else codes[numbers] < 0)
        if pa.types.is_dictionary(field.type):
            return pa.DictionaryArray.from_arrays(indices, pa.array(distinct, pa.string()))
        return pa.array(distinct, field.type).take(indices)

    def _text(self, name: str, headers: pa.Array, bounds: Rows, rows: Rows, numbers: Rows) -> pa.Array:
        """A text that rows have of their own, cut out of the headers; where a template has no span, its value."""
        spans = np.array([template.spans.get(name, (0, 0)) for template in self.templates])[numbers]
        cuts = (spans + bounds[rows][:, np.newaxis]).reshape(-1).astype(np.int32)
        pieces = pa.Array.from_buffers(pa.string(), len(cuts) - 1, [None, pa.py_buffer(cuts), headers.buffers()[2]])
        column = pieces.take(pa.array(np.arange(0, len(cuts) - 1, 2)))
        said = [None if name in each.spans else each.values[name] for each in self.templates]
        if any(each is not None for each in said):
            codes, distinct = _coded(said)
            own = pa.array(distinct, pa.string())
            column = pa.concat_arrays([column, own])
            places = np.where(codes[numbers] < 0, np.arange(len(rows)), len(rows) + codes[numbers])
            column = column.take(pa.array(places))
        column = self._where_said(name, column, numbers)
        return column if name == "record_id" else column.dictionary_encode()


def _digests(digits: Bytes) -> tuple[Bytes, Mask]:
    """Bytes written in lower-case hexadecimal, row by row; and which rows are such."""
    text = digits.tobytes()
    try:
        values = binascii.unhexlify(text)
    except binascii.Error:
        values = b""
    if binascii.hexlify(values) == text:
        return np.frombuffer(values, np.uint8).reshape(len(digits), -1), np.ones(len(digits), bool)
    halves = _HEX[digits]
    found: Bytes = np.bitwise_or(halves[:, 0::2] << np.uint8(4), halves[:, 1::2]).astype(np.uint8)
    return found, halves.max(axis=1) != _NO_DIGIT


def _number(digits: Bytes) -> tuple[npt.NDArray[np.uint64], Mask]:
    """Decimal numbers of one width, of at most 19 digits; and which of them are such, without a zero in front."""
    values = digits - np.uint8(ord("0"))
    width = values.shape[1]
    sound = values.max(axis=1) <= 9
    if width > 1:
        sound &= values[:, 0] != 0
    powers = np.array([10**power for power in reversed(range(width))], np.uint64)
    return values.astype(np.uint64) @ powers, sound


def _coded(values: Sequence[Any]) -> tuple[Rows, list[Any]]:
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
