"""Leaves: the header of an event and the log's own leaves (``docs/evidence-format.md`` sections 8 and 9).

Headers of a batch are written column by column: a value that repeats is escaped once, what all rows share is joined
once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.canonical import LARGEST_INTEGER, JsonValue, canonical_json
from auditspan.ledger.commitments import LARGEST_LEAF

__all__ = [
    "EVENT_KEYS",
    "HEADER_INPUT",
    "LOG_KEYS",
    "LONGEST_TEXT",
    "are_sorted",
    "event_headers",
    "header_text",
    "is_log_id",
    "is_time_basis",
    "log_leaf",
    "parse_header",
]

LONGEST_TEXT: Final = 256
"""UTF-8 bytes up to which a text stands in a header as it is."""

_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_HASH: Final = pa.binary(32)

HEADER_INPUT: Final = pa.schema(
    [
        pa.field("log_id", _TEXT, nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("emitter", _TEXT, nullable=False),
        pa.field("authentication", _TEXT, nullable=False),
        pa.field("encoding", _TEXT, nullable=False),
        pa.field("stream", _TEXT),
        pa.field("sequence", pa.int64()),
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("class", _TEXT, nullable=False),
        pa.field("event_time", pa.uint64(), nullable=False),
        pa.field("arrival_time", pa.int64(), nullable=False),
        pa.field("time_basis", _TEXT, nullable=False),
        pa.field("action", _TEXT),
        pa.field("outcome", _TEXT),
        pa.field("asset", _TEXT),
        pa.field("eccn", _TEXT),
        pa.field("destination", _TEXT),
        pa.field("determination", _TEXT),
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("rule_ids", pa.list_(pa.string()), nullable=False),
        pa.field("faults", pa.list_(pa.string()), nullable=False),
        pa.field("facts_hash", _HASH),
        pa.field("reference_epoch", pa.int64(), nullable=False),
        pa.field("payload_hash", _HASH, nullable=False),
        pa.field("payload_length", pa.int64(), nullable=False),
    ]
)
"""Columns that `event_headers` takes, in any order, more allowed. Times are nanoseconds since 1970, hashes raw bytes.

A text column may be string or dictionary, a number of another width, and a list column a dictionary of lists.
"""

_TEXTS: Final = (
    "action",
    "asset",
    "authentication",
    "class",
    "destination",
    "determination",
    "eccn",
    "emitter",
    "encoding",
    "log_id",
    "outcome",
    "record_id",
    "stream",
    "time_basis",
)
_TIMES: Final = ("arrival_time", "event_time")
_INTEGERS: Final = ("payload_length", "reference_epoch", "sequence")
_HASHES: Final = ("facts_hash", "payload_hash")
_LISTS: Final = ("faults", "rule_ids")

EVENT_KEYS: Final = frozenset((*_TEXTS, *_TIMES, *_INTEGERS, *_HASHES, *_LISTS, "flagged", "position", "v"))
"""Keys of an event leaf."""
LOG_KEYS: Final = frozenset(("v", "log_id", "class", "position", "arrival_time", "reference_epoch", "body"))
"""Keys of a leaf that the log itself originates."""

_HEX_DIGITS: Final = frozenset("0123456789abcdef")
_MAY_BE_NULL: Final = frozenset(field.name for field in HEADER_INPUT if field.nullable)


def header_text(value: str) -> JsonValue:
    """``value`` as a *text* of evidence format section 1: itself, or length and hash when it is long."""
    encoded = value.encode()
    if len(encoded) <= LONGEST_TEXT:
        return value
    return {"length": len(encoded), "sha256": hashlib.sha256(encoded).hexdigest()}


def event_headers(columns: pa.Table) -> pa.Array:
    """The RFC 8785 headers (binary) of the event leaves that ``columns`` (as `HEADER_INPUT`) describe, row for row.

    Raises:
        ValueError: a column is missing, a value is null that must not be, an integer is beyond ±(2^53 − 1), or a header
            is longer than a leaf may be.
    """
    rows = columns.num_rows
    if rows == 0:
        return pa.array([], pa.binary())
    parts: list[str | pa.Array] = []
    for key in sorted(EVENT_KEYS):
        parts.append(f',"{key}":' if parts else f'{{"{key}":')
        parts += _member(key, columns)
    headers = pc.binary_join_element_wise(*_fused([*parts, "}"]), "").cast(pa.binary())
    longest = pc.max(pc.binary_length(headers)).as_py()
    if longest > LARGEST_LEAF:
        raise ValueError(f"a header of {longest} bytes is longer than a leaf may be ({LARGEST_LEAF})")
    return headers


def log_leaf(
    log_id: str,
    class_: str,
    position: tuple[int, int] | None,
    arrival_time: int,
    reference_epoch: int,
    body: JsonValue,
) -> bytes:
    """A leaf that the log itself originates (evidence format, section 9).

    Texts in ``body`` are the caller's to pass through `header_text`: not every string there is a *text*.

    Raises:
        ValueError: ``body`` has no canonical form, or the leaf is longer than a leaf may be.
    """
    leaf = canonical_json(
        {
            "v": 1,
            "log_id": log_id,
            "class": header_text(class_),
            "position": None if position is None else list(position),
            "arrival_time": str(arrival_time),
            "reference_epoch": reference_epoch,
            "body": body,
        }
    )
    if len(leaf) > LARGEST_LEAF:
        raise ValueError(f"a leaf of class {class_} of {len(leaf)} bytes is longer than a leaf may be ({LARGEST_LEAF})")
    return leaf


def parse_header(leaf: bytes) -> dict[str, Any]:
    """The object in an event leaf or a log leaf.

    Raises:
        ValueError: the leaf is not canonical JSON of version 1 with exactly the keys and types of section 8 or 9.
    """
    header = _load(leaf)
    if not isinstance(header, dict):
        raise ValueError("the leaf is no JSON object")  # noqa: TRY004 -- every fault of a leaf is one kind of error
    if header.get("v") != 1 or header["v"] is True:
        raise ValueError(f"the leaf has version {header.get('v')!r}, not 1")
    keys = LOG_KEYS if "body" in header else EVENT_KEYS
    if header.keys() != keys:
        wrong = ", ".join(sorted(header.keys() ^ keys))
        raise ValueError(f"the leaf does not have exactly the keys of its kind: {wrong}")
    for key in keys - {"v", "body"}:
        if not _fits(key, header[key], log="body" in header):
            raise ValueError(f"the leaf has {key} = {header[key]!r}")
    return header


def _load(leaf: bytes) -> Any:
    try:
        value = json.loads(leaf, object_pairs_hook=_distinct, parse_float=_refuse, parse_constant=_refuse)
        if canonical_json(value) != leaf:
            raise ValueError("the leaf is not in canonical form")
    except UnicodeDecodeError as error:
        raise ValueError("the leaf is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"the leaf is no JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("the leaf is nested too deeply") from error
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("the leaf has a key twice")
    return value


def _refuse(literal: str) -> Any:
    raise ValueError(f"the leaf has the number {literal}, which is no integer")


def _fits(key: str, value: Any, *, log: bool) -> bool:
    if value is None:
        return key in _MAY_BE_NULL or (log and key == "position")
    if key == "flagged":
        return isinstance(value, bool)
    if key == "log_id":
        return isinstance(value, str) and is_log_id(value)
    if key == "time_basis":
        return isinstance(value, str) and is_time_basis(value)
    if key == "position":
        return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value))
    if key in _INTEGERS:
        return _is_count(value)
    if key in _TIMES:
        return isinstance(value, str) and _is_time(value)
    if key in _HASHES:
        return _is_hash(value)
    if key in _LISTS:
        return isinstance(value, list) and all(map(_is_text, value)) and are_sorted(value)
    return _is_text(value)


def is_log_id(value: str) -> bool:
    """Whether ``value`` is 32 hexadecimal digits in lower case."""
    return len(value) == 32 and set(value) <= _HEX_DIGITS


def is_time_basis(value: str) -> bool:
    """Whether ``value`` is one that evidence format section 4 knows."""
    return value in ("event", "both", "arrival")


def are_sorted(texts: Sequence[Any]) -> bool:
    """Whether the texts of a list are in the order of code points, long ones aside, of which only the hash is left."""
    shown = [text for text in texts if isinstance(text, str)]
    return shown == sorted(shown)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_INTEGER


def _is_time(value: str) -> bool:
    return len(value) <= 20 and value.isascii() and value.isdigit() and str(int(value)) == value and int(value) < 2**64


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= _HEX_DIGITS


def _is_text(value: Any) -> bool:
    if isinstance(value, str):
        return len(value.encode(errors="surrogatepass")) <= LONGEST_TEXT
    return (
        isinstance(value, dict)
        and value.keys() == {"length", "sha256"}
        and _is_count(value["length"])
        and value["length"] > LONGEST_TEXT
        and _is_hash(value["sha256"])
    )


def _member(key: str, columns: pa.Table) -> list[str | pa.Array]:
    """The fragments that, joined, are the JSON value of ``key``."""
    if key == "v":
        return ["1"]
    if key == "position":
        return ["[", _integers(columns, "offset"), ",", _integers(columns, "ordinal"), "]"]
    if key in _INTEGERS:
        return [_integers(columns, key)]
    if key in _TIMES:
        return ['"', _decimal(_column(columns, key)), '"']
    if key in _HASHES:
        return [_hexadecimal(_column(columns, key))]
    if key == "flagged":
        return [pc.if_else(_column(columns, key), "true", "false")]
    if key in _LISTS:
        return [_per_distinct(_column(columns, key), _json_lists)]
    return [_per_distinct(_column(columns, key), _json_texts)]


def _column(columns: pa.Table, name: str) -> pa.Array:
    try:
        chunked = columns.column(name)
    except KeyError as error:
        raise ValueError(f"the column {name} is missing") from error
    column = chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()
    if column.null_count and name not in _MAY_BE_NULL:
        raise ValueError(f"the column {name} has a null")
    return column


def _integers(columns: pa.Table, name: str) -> str | pa.Array:
    column = _column(columns, name)
    bounds = pc.min_max(column).as_py()
    if bounds["min"] is None:
        return "null"
    if max(-bounds["min"], bounds["max"]) > LARGEST_INTEGER:
        raise ValueError(f"the column {name} has an integer beyond ±(2^53 − 1)")
    text = _decimal(column)
    return text if isinstance(text, str) else text.fill_null("null")


def _decimal(column: pa.Array) -> str | pa.Array:
    bounds = pc.min_max(column).as_py()
    if bounds["min"] == bounds["max"] and not column.null_count:
        return str(bounds["min"])
    return column.cast(pa.string())


_HEX: Final = np.frombuffer(bytes(range(256)).hex().encode(), dtype=np.uint16)


def _hexadecimal(column: pa.Array) -> str | pa.Array:
    """The hexadecimal of 32-byte values as JSON strings, ``null`` for null."""
    rows = len(column)
    if column.null_count == rows:
        return "null"
    raw = np.frombuffer(column.buffers()[1], dtype=np.uint8, count=32 * rows, offset=32 * column.offset)
    quoted = np.full((rows, 66), ord('"'), dtype=np.uint8)
    quoted[:, 1:65] = _HEX[raw].view(np.uint8).reshape(rows, 64)
    offsets = np.arange(rows + 1, dtype=np.int32) * 66
    text = pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(quoted))
    return pc.if_else(pc.is_valid(column), text, "null") if column.null_count else text


def _per_distinct(column: pa.Array, encode: Callable[[pa.Array], pa.Array]) -> str | pa.Array:
    """``encode`` of a column, worked out once for each entry of its dictionary if it has one; ``null`` for null."""
    if column.null_count == len(column):
        return "null"
    if not isinstance(column, pa.DictionaryArray):
        return encode(column).fill_null("null")
    bounds = pc.min_max(column.indices).as_py()
    if bounds["min"] == bounds["max"] and not column.null_count:
        return encode(column.dictionary.slice(bounds["min"], 1)).fill_null("null")[0].as_py()
    return encode(column.dictionary).take(column.indices).fill_null("null")


def _json_texts(values: pa.Array) -> pa.Array:
    """JSON of strings by evidence format section 1 (long text as length and hash); null stays null."""
    if values.null_count:
        values = _compact(values)
    odd = _odd(values)
    quoted = pc.binary_join_element_wise('"', values, '"', "")
    if not odd.any():
        return quoted
    rows = pa.array(odd)
    replaced = [canonical_json(header_text(text)).decode() for text in values.filter(rows).to_pylist()]
    return pc.replace_with_mask(quoted, rows, pa.array(replaced, pa.string()))


def _json_lists(values: pa.Array) -> pa.Array:
    """JSON arrays of lists of strings."""
    if values.values.null_count:
        raise ValueError("a list of texts has a null in it")
    texts = _per_distinct(values.values.dictionary_encode(), _json_texts)
    elements = pa.array([texts] * len(values.values), pa.string()) if isinstance(texts, str) else texts
    rebuilt = pa.ListArray.from_arrays(values.offsets, elements)
    return pc.binary_join_element_wise("[", pc.binary_join(rebuilt, ","), "]", "")


_NEEDS_ESCAPE: Final = np.zeros(256, dtype=bool)
_NEEDS_ESCAPE[:32] = True
_NEEDS_ESCAPE[[ord('"'), ord("\\")]] = True


def _odd(values: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Rows that are long, or have a character that RFC 8785 escapes."""
    rows = len(values)
    offsets = np.frombuffer(values.buffers()[1], dtype=np.int32, count=rows + 1, offset=4 * values.offset)
    odd = np.diff(offsets) > LONGEST_TEXT
    data = values.buffers()[2]
    if data is None or offsets[-1] == offsets[0]:
        return odd
    text = np.frombuffer(data, dtype=np.uint8, count=int(offsets[-1] - offsets[0]), offset=int(offsets[0]))
    places = np.flatnonzero(_NEEDS_ESCAPE[text]) + offsets[0]
    if len(places):
        odd[np.searchsorted(offsets, places, side="right") - 1] = True
    return odd


def _compact(values: pa.Array) -> pa.Array:
    """The same without bytes behind null rows."""
    return values.take(pa.array(np.arange(len(values))))


def _fused(parts: list[str | pa.Array]) -> list[str | pa.Array]:
    """``parts`` with neighbouring constants joined."""
    fused: list[str | pa.Array] = []
    for part in parts:
        if isinstance(part, str) and fused and isinstance(fused[-1], str):
            fused[-1] += part
        else:
            fused.append(part)
    return fused
