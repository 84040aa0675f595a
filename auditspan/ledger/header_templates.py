"""Event headers of a batch read back into columns by templates.

Headers that were sealed together differ in few places: numbers, hashes, and three texts. One header that was parsed in
full is a template for all of its length: whose other bytes are the same says the same, and has in those places what
stands there. A row counts only if these bytes are all of a kind that `parse_header` accepts there and that RFC 8785
writes as they are; so a row that counts is canonical as the template is. All others are left to the caller.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from auditspan.canonical import canonical_json
from auditspan.ledger.header import HEADER_INPUT, parse_header
from auditspan.ledger.templates import (
    Bytes,
    Mask,
    Rows,
    Words,
    bounds_of,
    by_length,
    coded,
    cut_out,
    fitting,
    in_words,
    of_templates,
)

__all__ = ["HeaderTemplates"]

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
"""Templates for one batch."""
_MOST_KEPT: Final = 1_024
_MOST_TRIED: Final = 4
"""Kept templates of one length that are tried."""

_PLAIN: Final = np.zeros(256, bool)
_PLAIN[32:127] = True
_PLAIN[[ord('"'), ord("\\")]] = False
_PLAIN_BYTES: Final = np.flatnonzero(_PLAIN).astype(np.uint8).tobytes()
_EXACT_DIGITS: Final = 15
_NO_DIGIT: Final = 255
_SMALL: Final = np.uint64(0x2020202020202020)
_HEX: Final = np.full(256, _NO_DIGIT, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)

Span = tuple[int, int]


@dataclass(slots=True)
class _Template:
    """A header, and where in it another of its length may differ: by column, ``[begin, end)``."""

    leaf: bytes
    values: dict[str, Any]
    spans: dict[str, Span]
    fitted: int = 0
    """Rows, so far."""


class HeaderTemplates:
    """Reads headers by templates, which it keeps from batch to batch, the most useful ones first."""

    def __init__(self) -> None:
        self._known: dict[int, list[_Template]] = {}
        self._count = 0

    def read(self, headers: pa.Array) -> tuple[pa.Table, Mask]:
        """The headers that a template fits, as `HEADER_INPUT`, in their order; and which of ``headers`` those are.

        Each of them is one that `parse_header` accepts, and has no long text. ``headers`` is binary, without nulls.
        """
        count = len(headers)
        if not count:
            return HEADER_INPUT.empty_table(), np.zeros(0, bool)
        bounds = bounds_of(headers)
        columns = _Columns(count)
        for rows, length in by_length(np.diff(bounds), _FEWEST):
            if len(columns.templates) < _MOST:
                self._read_length(in_words(headers, bounds, rows, length), rows, length, columns)
        taken = columns.template >= 0
        return columns.table(headers, bounds, np.flatnonzero(taken)), taken

    def _read_length(self, words: Words, rows: Rows, length: int, columns: _Columns) -> None:
        """Headers of one length."""
        known = sorted(self._known.get(length, ()), key=lambda template: template.fitted)[-_MOST_TRIED:]
        in_vain = 0
        while len(rows) >= _FEWEST and in_vain < _MOST_IN_VAIN and len(columns.templates) < _MOST:
            block = words.view(np.uint8)[:, :length]
            template = known.pop() if known else self._learn(bytes(block[0]))
            if template is None:
                rows, words, in_vain = rows[1:], words[1:], in_vain + 1
                continue
            fits = _fitting(words, template)
            left = ~fits
            if not left.any():
                columns.take(template, rows, block)
                return
            # One that is kept may fit none of these.
            if fits.any():
                columns.take(template, rows[fits], block[fits])
            if int(fits.sum()) >= _FEWEST:
                in_vain = 0
            elif not known:
                in_vain += 1
            rows, words = rows[left], words[left]

    def _learn(self, leaf: bytes) -> _Template | None:
        """A header as template, which is kept."""
        template = _template(leaf)
        if template is not None:
            if self._count >= _MOST_KEPT:
                self._known.clear()
                self._count = 0
            self._known.setdefault(len(leaf), []).append(template)
            self._count += 1
        return template


def _fitting(words: Words, template: _Template) -> Mask:
    """Which rows are the template but for its spans."""
    compared = np.full(len(template.leaf), 0xFF, np.uint8)
    for begin, end in template.spans.values():
        compared[begin:end] = 0
    return fitting(words, template.leaf, compared)


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
                # Rarely is there a byte of another kind in any of the rows.
                if part.tobytes().translate(None, _PLAIN_BYTES):
                    good &= _PLAIN[part].all(axis=1)
            elif name in _HASHES:
                hashes[name], sound = _digests(part)
                good &= sound
            else:
                numbers[name], sound = _number(part)
                good &= sound
        good &= numbers["arrival_time"] <= _LARGEST_ARRIVAL
        whole = bool(good.all())
        chosen = rows if whole else rows[good]
        template.fitted += len(chosen)
        self.template[chosen] = len(self.templates)
        self.templates.append(template)
        for name, values in numbers.items():
            self._numbers[name][chosen] = values if whole else values[good]
        for name, digests in hashes.items():
            self._hashes[name][chosen] = digests if whole else digests[good]

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
                column = of_templates(field.type, [template.values[field.name] for template in self.templates], numbers)
            columns.append(column)
        return pa.table(columns, schema=HEADER_INPUT)

    def _where_said(self, name: str, column: pa.Array, numbers: Rows) -> pa.Array:
        """``column``, null in rows whose template says null."""
        null = np.array([template.values[name] is None for template in self.templates])
        if not null.any():
            return column
        places = np.where(null[numbers], -1, np.arange(len(numbers)))
        return column.take(pa.array(places, mask=places < 0))

    def _text(self, name: str, headers: pa.Array, bounds: Rows, rows: Rows, numbers: Rows) -> pa.Array:
        """A text that rows have of their own, cut out of the headers; where a template has no span, its value."""
        spans = np.array([template.spans.get(name, (0, 0)) for template in self.templates])[numbers]
        begins = bounds[:-1][rows]
        data = np.frombuffer(headers.buffers()[2], np.uint8)
        column = cut_out(data, begins + spans[:, 0], begins + spans[:, 1])
        said = [None if name in each.spans else each.values[name] for each in self.templates]
        if any(each is not None for each in said):
            codes, distinct = coded(said)
            own = pa.array(distinct, pa.string())
            column = pa.concat_arrays([column, own])
            places = np.where(codes[numbers] < 0, np.arange(len(rows)), len(rows) + codes[numbers])
            column = column.take(pa.array(places))
        column = self._where_said(name, column, numbers)
        return column if name == "record_id" else column.dictionary_encode()


def _digests(digits: Bytes) -> tuple[Bytes, Mask]:
    """Bytes written in lower-case hexadecimal, row by row; and which rows are such."""
    words = np.ascontiguousarray(digits).view(np.uint64)
    # Letters have the bit of 0x40, and small ones that of 0x20 too: what is left to tell is that none is a capital.
    capital = (words >> np.uint64(1)) & ~words & _SMALL
    if not capital.any():
        try:
            values = binascii.unhexlify(words.data)
            return np.frombuffer(values, np.uint8).reshape(len(digits), -1), np.ones(len(digits), bool)
        except binascii.Error:
            pass
    halves = _HEX[digits]
    found: Bytes = np.bitwise_or(halves[:, 0::2] << np.uint8(4), halves[:, 1::2]).astype(np.uint8)
    return found, halves.max(axis=1) != _NO_DIGIT


def _number(digits: Bytes) -> tuple[npt.NDArray[np.uint64], Mask]:
    """Decimal numbers of one width, of at most 19 digits; and which of them are such, without a zero in front."""
    values = digits - np.uint8(ord("0"))
    width = values.shape[1]
    sound = np.ones(len(values), bool) if values.max(initial=0) <= 9 else values.max(axis=1) <= 9
    if width > 1:
        sound &= values[:, 0] != 0
    # Below 2^53 every sum of floating point is exact, and it is an order of magnitude faster than one of integers.
    numbers = np.zeros(len(values), np.uint64)
    for begin in range(0, width, _EXACT_DIGITS):
        part = values[:, begin : begin + _EXACT_DIGITS]
        powers = 10.0 ** np.arange(part.shape[1] - 1, -1, -1)
        numbers = numbers * np.uint64(10 ** part.shape[1]) + (part.astype(np.float64) @ powers).astype(np.uint64)
    return numbers, sound
