"""Headers to columns: what the query, the export and the verifier read.

A header is canonical JSON with a fixed set of keys (evidence format, section 8), so the places of its keys are found by the
places of the quotation marks, in whole columns, and the bytes are checked to be exactly that form on the way. Rows that
hold an escape or a long text go through ``json`` one by one; a row that is no header at all is named, not guessed at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.canonical import canonical_json

__all__ = ["HEADER_TABLE", "ParsedHeaders", "is_log_leaf", "parse_headers"]

_LIST: Final = pa.list_(pa.string())
HEADER_TABLE: Final = pa.schema(
    [
        ("action", pa.string()),
        ("arrival_time", pa.uint64()),
        ("asset", pa.string()),
        ("authentication", pa.string()),
        ("class", pa.string()),
        ("destination", pa.string()),
        ("determination", pa.string()),
        ("eccn", pa.string()),
        ("emitter", pa.string()),
        ("encoding", pa.string()),
        ("event_time", pa.uint64()),
        ("facts_hash", pa.string()),
        ("faults", _LIST),
        ("flagged", pa.bool_()),
        ("log_id", pa.string()),
        ("outcome", pa.string()),
        ("payload_hash", pa.string()),
        ("payload_length", pa.int64()),
        ("offset", pa.int64()),
        ("ordinal", pa.int64()),
        ("record_id", pa.string()),
        ("reference_epoch", pa.int64()),
        ("rule_ids", _LIST),
        ("sequence", pa.int64()),
        ("stream", pa.string()),
        ("time_basis", pa.string()),
    ]
)
"""Header fields as columns: times in nanoseconds, a long text as ``sha256:<hex>``, the position as its two numbers.

A log leaf has values in ``arrival_time``, ``class``, ``log_id``, ``reference_epoch`` and its position, and nulls elsewhere."""

_KEYS: Final = (
    "action", "arrival_time", "asset", "authentication", "class", "destination", "determination", "eccn", "emitter",
    "encoding", "event_time", "facts_hash", "faults", "flagged", "log_id", "outcome", "payload_hash", "payload_length",
    "position", "record_id", "reference_epoch", "rule_ids", "sequence", "stream", "time_basis", "v",
)  # fmt: skip
_NULLABLE: Final = frozenset(
    {"action", "asset", "destination", "determination", "eccn", "facts_hash", "outcome", "stream"}
)
_TEXTS: Final = tuple(
    name for name in _KEYS if name in HEADER_TABLE.names and HEADER_TABLE.field(name).type == pa.string()
)
_TIMES: Final = ("arrival_time", "event_time")
_LISTS: Final = ("faults", "rule_ids")
_LOG_KEYS: Final = frozenset({"v", "log_id", "class", "position", "arrival_time", "reference_epoch", "body"})
_EVENT_START: Final = b'{"action":'
_LARGEST_TIME: Final = 2**64 - 1
_QUOTE, _COLON, _COMMA, _SPACE, _BACKSLASH, _BRACE = b'":, \\{'
_WORD: Final = 8
_KEY_LENGTHS: Final = np.array([len(key) for key in _KEYS])
_LONG_KEYS: Final = _KEY_LENGTHS >= _WORD
_KEY_HEADS: Final = np.array([int.from_bytes(key.encode()[:_WORD], "little") for key in _KEYS[:-1]], np.uint64)
_KEY_TAILS: Final = np.array([int.from_bytes(key.encode()[-_WORD:], "little") for key in _KEYS], np.uint64)
_KEY_MASKS: Final = np.array([2 ** (8 * min(len(key), _WORD)) - 1 for key in _KEYS[:-1]], np.uint64)
_ENDING: Final = np.uint64(int.from_bytes(b'"v":1}', "little"))

_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ParsedHeaders:
    """``table`` has the schema `HEADER_TABLE` and one row per header.

    ``log_leaves`` holds the parsed log leaves by row, ``malformed`` what is wrong with rows that are no header v1; these have
    nulls in every column.
    """

    table: pa.Table
    log_leaves: dict[int, dict[str, Any]] = field(default_factory=dict)
    malformed: dict[int, str] = field(default_factory=dict)

    def events(self) -> npt.NDArray[np.bool_]:
        """Which rows are well-formed event leaves."""
        mask = np.ones(self.table.num_rows, bool)
        mask[list(self.log_leaves)] = False
        mask[list(self.malformed)] = False
        return mask


def is_log_leaf(headers: pa.Array) -> pa.BooleanArray:
    """Which headers are leaves that the log itself wrote (section 9). Told by the first key, which JCS fixes."""
    return pc.invert(pc.starts_with(headers, pattern=_EVENT_START.decode()))


def parse_headers(headers: pa.Array) -> ParsedHeaders:
    """The columns of these headers, for headers of any content. ``headers`` is a binary array without nulls."""
    if isinstance(headers, pa.ChunkedArray):
        headers = headers.combine_chunks()
    plain = _plain_rows(headers)
    columns = _parse_columns(headers if plain.all() else headers.filter(pa.array(plain)), int(plain.sum()))
    if columns is None:
        plain = np.zeros(len(headers), bool)
        columns = HEADER_TABLE.empty_table()
    if plain.all():
        return ParsedHeaders(columns)
    return _with_single_rows(headers, plain, columns)


def _plain_rows(headers: pa.Array) -> npt.NDArray[np.bool_]:
    """Rows that the columnar way can read: event headers without an escape and without a long text."""
    bounds = _bounds(headers)
    starts, data = bounds[:-1], np.frombuffer(headers.buffers()[2] or b"", np.uint8)[: bounds[-1]]
    if data.size < _WORD or len(headers) == 0:
        return np.zeros(len(headers), bool)
    plain: npt.NDArray[np.bool_] = _words(data)[np.minimum(starts, data.size - _WORD)] == _first_word(_EVENT_START)
    for odd in (_BACKSLASH, _BRACE):
        # One brace opens each header; a second one opens a long text.
        places = np.flatnonzero(data[bounds[0] :] == odd) + bounds[0]
        if odd == _BACKSLASH or len(places) != len(headers):
            rows = np.searchsorted(starts, places, side="right") - 1
            plain[rows[places != starts[rows]]] = False
    return plain


def _bounds(headers: pa.Array) -> _Integers:
    bounds = np.frombuffer(headers.buffers()[1], np.int32, len(headers) + 1, headers.offset * 4)
    return bounds.astype(np.int64)


def _words(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The eight bytes that begin at each place, as one number each."""
    return np.ndarray((data.size - _WORD + 1,), "<u8", data, 0, (1,))


def _first_word(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(text[:_WORD], "little"))


class _NotCanonical(Exception):
    """Some row of the window is not what the columnar way expects."""


def _parse_columns(headers: pa.Array, count: int) -> pa.Table | None:
    """The columns, or None when any row is not a canonical header v1."""
    if count == 0:
        return HEADER_TABLE.empty_table()
    try:
        return _Columns(headers).table()
    except (_NotCanonical, pa.ArrowInvalid, ValueError, IndexError):
        return None


class _Columns:
    """One window of plain event headers, tokenised by its quotation marks."""

    def __init__(self, headers: pa.Array) -> None:
        count = len(headers)
        bounds = _bounds(headers)
        self._data = headers.buffers()[2]
        data = np.frombuffer(self._data, np.uint8)[: bounds[-1]]
        window = data[bounds[0] : bounds[-1]]
        quotes = np.flatnonzero(window == _QUOTE) + bounds[0]
        _require(len(quotes) % 2 == 0 and window.min() >= _SPACE)
        self._opens, self._closes = quotes[0::2], quotes[1::2]
        keys = np.flatnonzero(data[self._closes + 1] == _COLON)
        _require(len(keys) == count * len(_KEYS))
        self._keys = keys.reshape(count, len(_KEYS))
        opens, closes = self._opens[self._keys], self._closes[self._keys]
        _require(bool((opens[:, 0] == bounds[:-1] + 1).all() and (data[bounds[:-1]] == ord("{")).all()))
        _require(bool((data[bounds[1:] - 1] == ord("}")).all()))
        # The value of a key ends before the comma in front of the next key, the last one before the closing brace.
        self._starts = closes + 2
        self._ends = np.concatenate([opens[:, 1:] - 1, bounds[1:, None] - 1], axis=1)
        _require(bool((self._ends > self._starts).all() and (data[self._ends[:, :-1]] == _COMMA).all()))
        # Keys are compared by the eight bytes after their opening and before their closing mark.
        words, length = _words(data), closes - opens - 1
        _require(bool((length == _KEY_LENGTHS).all()))
        _require(bool((words[opens[:, :-1] + 1] & _KEY_MASKS == _KEY_HEADS).all()))
        _require(bool((words[bounds[1:] - _WORD] >> np.uint64(16) == _ENDING).all()))
        _require(bool((words[closes - _WORD] == _KEY_TAILS)[:, _LONG_KEYS].all()))
        following = np.concatenate([self._keys[:, 1:], np.append(self._keys[1:, 0], len(self._opens))[:, None]], axis=1)
        self._tokens = following - self._keys - 1
        self._bytes = data
        self._count = count

    def table(self) -> pa.Table:
        made: dict[str, pa.Array] = {}
        for column, key in enumerate(_KEYS):
            if key in _TEXTS:
                made[key] = self._text(column, nullable=key in _NULLABLE)
            elif key in _TIMES:
                made[key] = _canonical_integers(self._text(column, nullable=False), pa.uint64())
            elif key in _LISTS:
                made[key] = self._list(column)
            elif key == "position":
                made["offset"], made["ordinal"] = self._position(column)
            elif key == "flagged":
                made[key] = self._boolean(column)
            elif key != "v":
                made[key] = self._integer(column, nullable=key == "sequence")
        return pa.table([made[name] for name in HEADER_TABLE.names], schema=HEADER_TABLE)

    def _spans(self, starts: _Integers, ends: _Integers) -> pa.Array:
        """A copy of the given pieces of the window as a string array."""
        # One array whose elements are the pieces and what lies between them, of which every second one is taken.
        offsets = np.empty(2 * len(starts), np.int32)
        offsets[0::2], offsets[1::2] = starts, ends
        pieces = pa.Array.from_buffers(pa.binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), self._data])
        return pieces.take(pa.array(np.arange(0, len(offsets) - 1, 2))).cast(pa.string())

    def _raw(self, column: int) -> pa.Array:
        _require(bool((self._tokens[:, column] == 0).all()))
        return self._spans(self._starts[:, column], self._ends[:, column])

    def _text(self, column: int, *, nullable: bool) -> pa.Array:
        starts, ends, tokens = self._starts[:, column], self._ends[:, column], self._tokens[:, column]
        token = self._keys[:, column] + 1
        present = tokens == 1
        if present.all():
            _require(bool((self._opens[token] == starts).all() and (self._closes[token] == ends - 1).all()))
            return self._spans(starts + 1, ends - 1)
        _require(nullable and bool((present | (tokens == 0)).all()))
        _require(bool((self._opens[token[present]] == starts[present]).all()))
        _require(bool((self._closes[token[present]] == ends[present] - 1).all()))
        texts = self._spans(np.where(present, starts + 1, starts), np.where(present, ends - 1, ends))
        absent = pa.array(~present)
        _require(pc.all(pc.equal(texts.filter(absent), "null")).as_py())
        return pc.if_else(absent, pa.scalar(None, pa.string()), texts)

    def _integer(self, column: int, *, nullable: bool) -> pa.Array:
        raw = self._raw(column)
        if nullable:
            raw = pc.if_else(pc.equal(raw, "null"), pa.scalar(None, pa.string()), raw)
        return _canonical_integers(raw, pa.int64())

    def _boolean(self, column: int) -> pa.Array:
        raw = self._raw(column)
        true = pc.equal(raw, "true")
        _require(pc.all(pc.or_(true, pc.equal(raw, "false"))).as_py())
        return true

    def _position(self, column: int) -> tuple[pa.Array, pa.Array]:
        _require(bool((self._bytes[self._starts[:, column]] == ord("[")).all()))
        _require(bool((self._bytes[self._ends[:, column] - 1] == ord("]")).all()))
        _require(bool((self._tokens[:, column] == 0).all()))
        inner = self._spans(self._starts[:, column] + 1, self._ends[:, column] - 1)
        parts = pc.split_pattern(inner, pattern=",")
        _require(pc.all(pc.equal(pc.list_value_length(parts), 2)).as_py())
        numbers = _canonical_integers(parts.flatten(), pa.int64()).to_numpy()
        return pa.array(numbers[0::2]), pa.array(numbers[1::2])

    def _list(self, column: int) -> pa.Array:
        starts, ends, tokens = self._starts[:, column], self._ends[:, column], self._tokens[:, column]
        _require(bool((self._bytes[starts] == ord("[")).all() and (self._bytes[ends - 1] == ord("]")).all()))
        _require(bool((ends - starts)[tokens == 0].max(initial=2) == 2))
        offsets = np.concatenate([[0], np.cumsum(tokens)]).astype(np.int32)
        total = int(offsets[-1])
        # Token numbers of all elements, row after row.
        elements = np.repeat(self._keys[:, column] + 1 - offsets[:-1], tokens) + np.arange(total)
        full = tokens > 0
        _require(bool((self._opens[self._keys[full, column] + 1] == starts[full] + 1).all()))
        _require(bool((self._closes[self._keys[full, column] + tokens[full]] == ends[full] - 2).all()))
        inner = np.ones(total, bool)
        inner[offsets[:-1][full]] = False
        later = elements[inner]
        _require(bool((self._opens[later] - self._closes[later - 1] == 2).all()))
        _require(bool((self._bytes[self._opens[later] - 1] == _COMMA).all()))
        values = self._spans(self._opens[elements] + 1, self._closes[elements]) if total else pa.array([], pa.string())
        return pa.ListArray.from_arrays(pa.array(offsets), values)


def _require(condition: bool | None) -> None:
    if not condition:
        raise _NotCanonical


def _canonical_integers(texts: pa.Array, to: pa.DataType) -> pa.Array:
    numbers = texts.cast(to)
    # "007" and "+7" parse too, and are not canonical.
    _require(numbers.cast(pa.string()).equals(texts))
    return numbers


def _with_single_rows(headers: pa.Array, plain: npt.NDArray[np.bool_], columns: pa.Table) -> ParsedHeaders:
    rows: list[dict[str, Any]] = []
    log_leaves: dict[int, dict[str, Any]] = {}
    malformed: dict[int, str] = {}
    places = np.flatnonzero(~plain)
    for place, header in zip(places.tolist(), headers.take(pa.array(places)).to_pylist(), strict=True):
        try:
            leaf = _parse_one(header)
        except (ValueError, RecursionError) as error:
            malformed[place] = str(error) or type(error).__name__
            rows.append({})
            continue
        if "body" in leaf:
            log_leaves[place] = leaf
        rows.append(_row(leaf))
    singles = pa.Table.from_pylist(rows, schema=HEADER_TABLE)
    order = np.empty(len(headers), np.int64)
    order[np.flatnonzero(plain)] = np.arange(columns.num_rows)
    order[places] = columns.num_rows + np.arange(len(places))
    return ParsedHeaders(
        pa.concat_tables([columns, singles]).take(pa.array(order)).combine_chunks(), log_leaves, malformed
    )


def _parse_one(header: bytes) -> dict[str, Any]:
    leaf = json.loads(header)
    if not isinstance(leaf, dict):
        raise ValueError("the leaf is no JSON object")
    if canonical_json(leaf) != header:
        raise ValueError("the leaf is not canonical JSON")
    if leaf.get("v") != 1 or isinstance(leaf["v"], bool):
        raise ValueError("the leaf's version is not 1")
    if set(leaf) == _LOG_KEYS:
        _check_log_leaf(leaf)
    elif set(leaf) == set(_KEYS):
        _check_event(leaf)
    else:
        odd = sorted(set(leaf) ^ (_LOG_KEYS if "body" in leaf else set(_KEYS)))
        raise ValueError(f"missing or unexpected keys: {', '.join(odd[:8])}")
    return leaf


def _check_event(leaf: dict[str, Any]) -> None:
    for key in _TEXTS:
        if not (_is_text(leaf[key]) or (leaf[key] is None and key in _NULLABLE)):
            raise ValueError(f"{key} is no text")
    for key in _TIMES:
        _time(leaf[key], key)
    for key in _LISTS:
        if not (isinstance(leaf[key], list) and all(map(_is_text, leaf[key]))):
            raise ValueError(f"{key} is no array of text")
    for key in ("payload_length", "reference_epoch"):
        if not _is_integer(leaf[key]):
            raise ValueError(f"{key} is no integer")
    if not (leaf["sequence"] is None or _is_integer(leaf["sequence"])):
        raise ValueError("sequence is no integer")
    if not isinstance(leaf["flagged"], bool):
        raise ValueError("flagged is neither true nor false")
    if not _is_position(leaf["position"]):
        raise ValueError("position is not [offset, ordinal]")


def _check_log_leaf(leaf: dict[str, Any]) -> None:
    if not (_is_text(leaf["log_id"]) and _is_text(leaf["class"]) and isinstance(leaf["body"], dict)):
        raise ValueError("log_id, class or body has the wrong type")
    if not (leaf["position"] is None or _is_position(leaf["position"])):
        raise ValueError("position is neither null nor [offset, ordinal]")
    if not _is_integer(leaf["reference_epoch"]):
        raise ValueError("reference_epoch is no integer")
    _time(leaf["arrival_time"], "arrival_time")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_position(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_integer(part) and part >= 0 for part in value)


def _is_text(value: object) -> bool:
    if isinstance(value, dict):
        return set(value) == {"length", "sha256"} and _is_integer(value["length"]) and isinstance(value["sha256"], str)
    return isinstance(value, str)


def _time(value: object, key: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        number = int(value)
        if str(number) == value and number <= _LARGEST_TIME:
            return number
    raise ValueError(f"{key} is no time")


def _row(leaf: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {key: _plain_text(leaf[key]) for key in _TEXTS if key in leaf}
    row |= {key: int(leaf[key]) for key in _TIMES if key in leaf}
    row |= {key: [_plain_text(item) for item in leaf[key]] for key in _LISTS if key in leaf}
    row |= {key: leaf[key] for key in ("payload_length", "reference_epoch", "sequence", "flagged") if key in leaf}
    if leaf["position"] is not None:
        row["offset"], row["ordinal"] = leaf["position"]
    return row


def _plain_text(value: Any) -> str | None:
    return f"sha256:{value['sha256']}" if isinstance(value, dict) else value
