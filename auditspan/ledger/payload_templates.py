"""Payloads of a batch read back into columns by templates.

Spans that one emitter sends of one kind differ in few places: ids, times, numbers and some texts. One payload that was
read in full (`auditspan.otlp.columns`) is a template for all of its length: whose other bits are the same says the
same, and has in those places what stands there. Places are taken only where any value of their kind is one that the
parser takes as it is: ids that are not zero, 64 bits of time, texts of ASCII, numbers of as many bytes. Payloads that
no template fits are left to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from auditspan import semconv
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

__all__ = ["PayloadTemplates"]

_IDS: Final = {1: ("trace_id", 16), 2: ("span_id", 8)}
_PARENT: Final = 4
_TIMES: Final = {7: "start_time", 8: "end_time"}
_SPAN_ATTRIBUTES: Final = 9
_TEXTS: Final = frozenset(
    {semconv.AUDIT_RECORD_ID, semconv.AUDIT_ACTOR_ID, semconv.AUDIT_TARGET_ID, semconv.CLIENT_ADDRESS, semconv.USER_ID}
)
"""Attributes that the log reads whose texts are many; a payload with another one of the others has its own template."""
_NUMBERS: Final = frozenset({semconv.AUDIT_SEQUENCE_NUMBER})
_LONGEST_NUMBER: Final = 9
"""Bytes: of ten, the last may only be 1."""
_WORTH_TRYING: Final = 32
"""Rows that are compared with a template sooner than they are read in full."""
_WORTH_LEARNING: Final = 64
"""Rows that another template is made for."""
_ROUNDS: Final = 2
"""Times that what is left of each kind gives another template, in one batch."""
_MOST_TRIED: Final = 8
"""Templates of a kind that are tried in one batch, those first that fitted last."""
_MOST: Final = 16
"""Templates of a kind."""
_MOST_KINDS: Final = 512
_LONGEST_REST: Final = 8
"""Powers of two: batches for which a kind gets no further template, after so many that fitted few."""
_LONGEST: Final = 8 << 10
"""Bytes of a payload that may be a template."""

_PREFIX: Final = 4
"""Bytes of a length."""
_FACTORS: Final = np.random.default_rng(1).integers(0, 2**63, (_LONGEST + 7) // 8, np.uint64) * 2 + 1
"""Odd numbers, by which words are told from the same words in another order."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_HIGH: Final = 0x80

Read = Callable[[pa.Array], pa.Table]
"""Reads payloads in full: one row of `auditspan.otlp.columns.SPANS` each, from ``trace_id`` on."""
Span = tuple[int, int]
_Kind = tuple[int, bytes]
"""Length of a payload, and its resource with the length before it."""


class _Unusual(Exception):
    """A payload that is read one by one."""


@dataclass(slots=True)
class _Template:
    """A payload with what it says, and the places where another may differ: by column, ``[begin, end)``."""

    payload: bytes
    schema: pa.Schema
    values: dict[str, Any]
    compared: Bytes
    """The bits of the payload that another must have as well."""
    ids: dict[str, Span] = field(default_factory=dict)
    times: dict[str, Span] = field(default_factory=dict)
    texts: dict[str, Span] = field(default_factory=dict)
    numbers: dict[str, Span] = field(default_factory=dict)


@dataclass(slots=True)
class _Known:
    """What is known of payloads of one kind."""

    templates: list[_Template] = field(default_factory=list)
    in_vain: int = 0
    """Templates in a row that fitted few."""
    rests_until: int = 0
    """Number of the batch until which there is no further one."""


class PayloadTemplates:
    """Reads payloads by templates, which it keeps from batch to batch, in bounded number.

    Payloads are of one kind that have the same length and the same resource. Where templates of a kind fit few, others
    are made ever more seldom.

    Args:
        read: reads payloads in full.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._known: dict[_Kind, _Known] = {}
        self._batch = 0

    def read(self, payloads: pa.Array) -> tuple[pa.Table | None, Mask]:
        """The payloads that a template fits, as ``read`` has them, in their order; and which of ``payloads`` those are.

        There is None instead of a table where no template fits any. ``payloads`` is binary, with nulls allowed.
        """
        count = len(payloads)
        bounds = bounds_of(payloads) if count else np.zeros(1, np.int64)
        columns = _Columns(count)
        self._batch += 1
        left = [self._by_known(group, columns) for group in _groups(payloads, bounds)]
        for _ in range(_ROUNDS):
            left = [group for group in left if len(group.rows) >= _WORTH_LEARNING and not self._rests(group.kind)]
            if not left:
                break
            left = self._by_learned(left, columns)
        if not columns.templates:
            return None, np.zeros(count, bool)
        taken = columns.template >= 0
        return columns.table(payloads, bounds, np.flatnonzero(taken)), taken

    def _by_known(self, group: _Group, columns: _Columns) -> _Group:
        """What the templates of its kind leave of a group."""
        known = self._known.get(group.kind)
        for template in known.templates[:_MOST_TRIED] if known is not None else ():
            if len(group.rows) < _WORTH_TRYING:
                break
            left = columns.take(template, group)
            if known is not None and len(group.rows) - len(left.rows) >= _WORTH_TRYING:
                known.templates.remove(template)
                known.templates.insert(0, template)
            group = left
        return group

    def _rests(self, kind: _Kind) -> bool:
        known = self._known.get(kind)
        return known is not None and self._batch < known.rests_until

    def _by_learned(self, groups: list[_Group], columns: _Columns) -> list[_Group]:
        """What another template of each kind leaves; those of all kinds are read together."""
        table = self._read(pa.array([group.first for group in groups], pa.binary()))
        left = []
        for group, values in zip(groups, table.to_pylist(), strict=True):
            if group.kind not in self._known and len(self._known) >= _MOST_KINDS:
                self._known.clear()
            known = self._known.setdefault(group.kind, _Known())
            template = _template(group.first, table.schema, values)
            rest = group.where(np.arange(len(group.rows)) > 0) if template is None else columns.take(template, group)
            if template is not None:
                known.templates = [template, *known.templates[: _MOST - 1]]
            if len(group.rows) - len(rest.rows) >= _WORTH_TRYING:
                known.in_vain = 0
            else:
                known.in_vain = min(known.in_vain + 1, _LONGEST_REST)
                known.rests_until = self._batch + 2**known.in_vain
            left.append(rest)
        return left


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of one kind, with their bytes."""

    rows: Rows
    words: Words
    kind: _Kind

    @property
    def first(self) -> bytes:
        return bytes(self.block[0])

    @property
    def block(self) -> Bytes:
        return self.words.view(np.uint8)[:, : self.kind[0]]

    def where(self, chosen: Mask | Rows) -> _Group:
        return _Group(self.rows[chosen], self.words[chosen], self.kind)


def _groups(payloads: pa.Array, bounds: Rows) -> Iterator[_Group]:
    """The rows of each kind that are worth a try."""
    valid = payloads.is_valid().to_numpy(zero_copy_only=False) if payloads.null_count else None
    for rows, length in by_length(np.diff(bounds), _WORTH_TRYING):
        # What a null stands on are no bytes of its own.
        rows = rows if valid is None else rows[valid[rows]]  # noqa: PLW2901
        if not len(rows) or not _PREFIX <= length <= _LONGEST:
            continue
        words = in_words(payloads, bounds, rows, length)
        block = words.view(np.uint8)[:, :length]
        for part in _alike(words, _resource_lengths(block)):
            if len(part) >= _WORTH_TRYING:
                resource = bytes(block[part[0], : _PREFIX + int(_resource_lengths(block[part[:1]])[0])])
                whole = len(part) == len(rows)
                yield _Group(rows if whole else rows[part], words if whole else words[part], (length, resource))


def _resource_lengths(block: Bytes) -> Rows:
    """What the first four bytes of payloads say of how long the resource is."""
    return np.ascontiguousarray(block[:, :_PREFIX]).view(">u4").reshape(-1).astype(np.int64)


def _alike(words: Words, lengths: Rows) -> Iterator[Rows]:
    """Rows that have the same bytes at their beginning, as far as the shortest resource reaches.

    Told by a sum of words: if two that differ have the same, their rows are tried together, and fit apart.
    """
    reach = min(_PREFIX + int(lengths.min()), words.shape[1] * words.itemsize)
    count = -(-reach // words.itemsize)
    # Of the last word what is the resource's: bytes that come first are the low ones.
    looked_at = np.full(count, 2**64 - 1, np.uint64)
    looked_at[-1] >>= np.uint64(8 * (count * words.itemsize - reach))
    keys = ((words[:, :count] & looked_at) * _FACTORS[:count]).sum(axis=1, dtype=np.uint64)
    if (keys == keys[0]).all():
        yield np.arange(len(words))
        return
    order = np.argsort(keys, kind="stable")
    _, first = np.unique(keys[order], return_index=True)
    yield from np.split(order, first[1:])


def _template(payload: bytes, schema: pa.Schema, values: dict[str, Any]) -> _Template | None:
    """A payload as template; None where it cannot be read, or is written in a way that no template is."""
    if values["quarantine"] is not None:
        return None
    template = _Template(payload, schema, values, np.full(len(payload), 0xFF, np.uint8))
    try:
        _find_places(template)
    except (_Unusual, IndexError):
        return None
    return template


def _find_places(template: _Template) -> None:
    """Walk the span of a payload, which is one that the parser takes.

    Raises:
        _Unusual: it is not written as every serializer writes.
    """
    payload = template.payload
    at = 0
    for _ in range(2):
        at += 4 + int.from_bytes(payload[at : at + 4])
    single: set[int] = set()
    keys: set[str] = set()
    for number, wire_type, begin, end in _fields(payload, at + 4, len(payload)):
        if number == _SPAN_ATTRIBUTES and wire_type == _BYTES:
            _find_place_of_value(template, begin, end, keys)
            continue
        if number in _IDS or number in _TIMES or number == _PARENT:
            if number in single:
                raise _Unusual
            single.add(number)
        if number in _IDS and wire_type == _BYTES:
            name, width = _IDS[number]
            if end - begin != width:
                raise _Unusual
            template.ids[name] = begin, end
            template.compared[begin:end] = 0
        elif number in _TIMES and wire_type == _FIXED64:
            template.times[_TIMES[number]] = begin, end
            template.compared[begin:end] = 0
        elif number == _PARENT and wire_type == _BYTES:
            template.compared[begin:end] = 0
    if template.ids.keys() != {name for name, _ in _IDS.values()}:
        raise _Unusual


def _find_place_of_value(template: _Template, begin: int, end: int, keys: set[str]) -> None:
    """The place of the value of an attribute, where it may be another; ``keys`` are those of the attributes before."""
    parts = [*_fields(template.payload, begin, end)]
    if [(number, wire_type) for number, wire_type, *_ in parts] != [(1, _BYTES), (2, _BYTES)]:
        raise _Unusual
    key = template.payload[slice(*parts[0][2:])].decode()
    first = key not in keys
    keys.add(key)
    members = [*_fields(template.payload, *parts[1][2:])]
    if len(members) != 1:
        raise _Unusual
    ((number, wire_type, start, stop),) = members
    read = first and key in semconv.READ_FROM_SPAN
    if number == 1 and wire_type == _BYTES and template.payload[start:stop].isascii():
        if read and semconv.READ_FROM_SPAN[key] == "string":
            if key not in _TEXTS or start == stop:
                return
            template.texts[key] = start, stop
        template.compared[start:stop] = _HIGH
    elif number == 3 and wire_type == _VARINT and stop - start <= _LONGEST_NUMBER:
        if read and semconv.READ_FROM_SPAN[key] == "int":
            if key not in _NUMBERS:
                return
            template.numbers[key] = start, stop
        template.compared[start:stop] = _HIGH


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and where the value begins and ends, of each field of a message."""
    while at < end:
        tag, at = _varint(message, at, end)
        number, wire_type = tag >> 3, tag & 7
        begin = at
        if wire_type == _VARINT:
            _, at = _varint(message, at, end)
        elif wire_type == _BYTES:
            length, begin = _varint(message, at, end)
            at = begin + length
        elif wire_type in (_FIXED64, _FIXED32):
            at += 8 if wire_type == _FIXED64 else 4
        else:
            raise _Unusual
        if at > end:
            raise _Unusual
        yield number, wire_type, begin, at


def _varint(message: bytes, at: int, end: int) -> tuple[int, int]:
    """A number in the fewest bytes, and where it ends."""
    value = shift = 0
    while at < end and shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < _HIGH:
            if byte == 0 and shift > 7:
                raise _Unusual
            return value, at
    raise _Unusual


class _Columns:
    """The columns of the rows that templates fit; ``template`` is the number of each row's, -1 for none."""

    def __init__(self, count: int) -> None:
        self.template = np.full(count, -1, np.int64)
        self.templates: list[_Template] = []
        self._ids = {name: np.zeros((count, width), np.uint8) for name, width in _IDS.values()}
        self._times = {name: np.zeros(count, np.uint64) for name in _TIMES.values()}
        self._numbers = {name: np.zeros(count, np.int64) for name in _NUMBERS}

    def take(self, template: _Template, group: _Group) -> _Group:
        """Read the rows that fit ``template``; what is left, with those that hold what cannot stand there."""
        block, good = group.block, fitting(group.words, template.payload, template.compared)
        for begin, end in template.ids.values():
            good &= block[:, begin:end].any(axis=1)
        whole = bool(good.all())
        fits = group if whole else group.where(good)
        if not len(fits.rows):
            return group
        self._read(template, fits)
        return group.where(~good)

    def _read(self, template: _Template, group: _Group) -> None:
        block = group.block
        self.template[group.rows] = len(self.templates)
        self.templates.append(template)
        for name, (begin, end) in template.ids.items():
            self._ids[name][group.rows] = block[:, begin:end]
        for name, (begin, end) in template.times.items():
            self._times[name][group.rows] = np.ascontiguousarray(block[:, begin:end]).view("<u8").reshape(-1)
        for name, (begin, end) in template.numbers.items():
            self._numbers[name][group.rows] = _numbers(block[:, begin:end])

    def table(self, payloads: pa.Array, bounds: Rows, rows: Rows) -> pa.Table:
        """The columns of ``rows``, which are sorted."""
        numbers = self.template[rows]
        data = np.frombuffer(payloads.buffers()[2], np.uint8)
        schema = self.templates[0].schema
        columns = []
        for each in schema:
            if each.name in self._ids:
                column = _fixed_width(self._ids[each.name][rows])
            elif each.name in self._times:
                column = pa.array(self._times[each.name][rows])
            elif any(each.name in template.texts for template in self.templates):
                column = self._text(each, data, bounds[:-1][rows], numbers)
            elif any(each.name in template.numbers for template in self.templates):
                column = self._number(each.name, rows, numbers)
            else:
                column = of_templates(each.type, [template.values[each.name] for template in self.templates], numbers)
            columns.append(column)
        return pa.table(columns, schema=schema)

    def _number(self, name: str, rows: Rows, numbers: Rows) -> pa.Array:
        """A number that rows have of their own; where a template has no place for it, its value."""
        values = self._numbers[name][rows]
        stated = [None if name in each.numbers else each.values[name] for each in self.templates]
        if any(each is not None for each in stated):
            kept = np.array([each if each is not None else 0 for each in stated], np.int64)
            own = np.array([name in each.numbers for each in self.templates])
            values = np.where(own[numbers], values, kept[numbers])
        null = np.array([each.values[name] is None for each in self.templates])
        return pa.array(values, mask=null[numbers] if null.any() else None)

    def _text(self, column: pa.Field, data: Bytes, begins: Rows, numbers: Rows) -> pa.Array:
        """A text that rows have of their own, cut out of the payloads; where a template has no place, its value."""
        name = column.name
        places = np.array([template.texts.get(name, (0, 0)) for template in self.templates])[numbers]
        texts = cut_out(data, begins + places[:, 0], begins + places[:, 1])
        if not all(name in template.texts for template in self.templates):
            codes, distinct = coded([None if name in each.texts else each.values[name] for each in self.templates])
            own = np.array([name in each.texts for each in self.templates])[numbers]
            of_row = np.where(own, np.arange(len(numbers)), len(numbers) + codes[numbers])
            absent = ~own & (codes[numbers] < 0)
            texts = pa.concat_arrays([texts, pa.array(distinct, pa.string())]).take(pa.array(of_row, mask=absent))
        return texts.dictionary_encode() if pa.types.is_dictionary(column.type) else texts


def _fixed_width(values: Bytes) -> pa.Array:
    """Rows of bytes as binary values."""
    rows, width = values.shape
    offsets = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(values)])


def _numbers(varints: Bytes) -> npt.NDArray[np.int64]:
    """Varints of one width, of at most nine bytes."""
    shifts = np.arange(varints.shape[1], dtype=np.int64) * 7
    found: npt.NDArray[np.int64] = ((varints & np.uint8(0x7F)).astype(np.int64) << shifts).sum(axis=1)
    return found
