from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow as pa
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from auditspan.canonical import LARGEST_INTEGER, canonical_json
from auditspan.ledger.header import (
    EVENT_KEYS,
    HEADER_INPUT,
    event_headers,
    header_text,
    log_leaf,
    parse_header,
)

TEXTS = st.one_of(
    st.sampled_from(
        ["", "a", "x" * 256, "x" * 257, "é" * 128, "é" * 129, 'q"uote\\', "\0\x1f\x7f\u2028", "\U0001f600"]
    ),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
COUNTS = st.integers(0, LARGEST_INTEGER)
HASHES = st.binary(min_size=32, max_size=32)


def column(field: pa.Field) -> st.SearchStrategy[Any]:
    special = {
        "log_id": st.sampled_from(["ab" * 16, "00" * 16]),
        "time_basis": st.sampled_from(["event", "both", "arrival"]),
        "ordinal": st.integers(0, 2**31 - 1),
        "event_time": st.integers(0, 2**64 - 1),
        "arrival_time": st.integers(0, 2**63 - 1),
        "flagged": st.booleans(),
        "rule_ids": st.lists(TEXTS, max_size=3).map(sorted),
        "faults": st.lists(st.sampled_from(["class.unknown", "time.missing"]), max_size=2, unique=True).map(sorted),
    }
    value = special.get(field.name)
    if value is None and pa.types.is_integer(field.type):
        value = COUNTS
    if value is None:
        value = HASHES if pa.types.is_fixed_size_binary(field.type) else TEXTS
    return st.one_of(st.none(), value) if field.nullable else value


ROWS = st.lists(st.fixed_dictionaries({field.name: column(field) for field in HEADER_INPUT}), min_size=1, max_size=6)


def expected(row: dict[str, Any]) -> dict[str, Any]:
    """The header of evidence format section 8, built one row at a time."""
    header = {key: value for key, value in row.items() if key not in ("offset", "ordinal")}
    for key, value in header.items():
        if isinstance(value, str):
            header[key] = header_text(value)
        elif isinstance(value, bytes):
            header[key] = value.hex()
        elif isinstance(value, list):
            header[key] = [header_text(item) for item in value]
        elif key.endswith("_time"):
            header[key] = str(value)
    return header | {"v": 1, "position": [row["offset"], row["ordinal"]]}


def plain(schema: pa.Schema) -> pa.Schema:
    """The same columns without dictionaries."""
    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in schema])


ROW: dict[str, Any] = {
    **dict.fromkeys(HEADER_INPUT.names),
    "log_id": "ab" * 16,
    "offset": 7,
    "ordinal": 0,
    "emitter": "edge",
    "authentication": "bearer",
    "encoding": "otlp_proto",
    "record_id": "r-1",
    "class": "model.access",
    "event_time": 5,
    "arrival_time": 6,
    "time_basis": "event",
    "flagged": False,
    "rule_ids": [],
    "faults": [],
    "reference_epoch": 1,
    "payload_hash": b"\1" * 32,
    "payload_length": 9,
}


def table(*rows: dict[str, Any], schema: pa.Schema = HEADER_INPUT) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema)


def one(**changes: Any) -> bytes:
    leaf: bytes = event_headers(table(ROW | changes))[0].as_py()
    return leaf


@settings(deadline=None, max_examples=100)
@given(ROWS)
def test_headers_are_the_canonical_json_of_their_rows(rows: list[dict[str, Any]]) -> None:
    headers = event_headers(table(*rows)).to_pylist()
    assert headers == [canonical_json(expected(row)) for row in rows]
    assert headers == [rfc8785.dumps(expected(row)) for row in rows]
    assert event_headers(table(*rows, schema=plain(HEADER_INPUT))).to_pylist() == headers
    assert [parse_header(header) for header in headers] == [expected(row) for row in rows]


@settings(deadline=None, max_examples=30)
@given(ROWS)
def test_slices_and_chunks_make_no_difference(rows: list[dict[str, Any]]) -> None:
    headers = event_headers(table(*rows)).to_pylist()
    chunked = pa.concat_tables([table(row) for row in rows])
    assert event_headers(chunked).to_pylist() == headers
    assert event_headers(table(ROW, *rows, ROW).slice(1, len(rows))).to_pylist() == headers
    assert event_headers(table(*rows, schema=plain(HEADER_INPUT)).slice(1)).to_pylist() == headers[1:]


def test_a_header_has_exactly_the_keys_of_the_format() -> None:
    keys = (
        "v log_id position emitter authentication encoding stream sequence record_id class event_time arrival_time "
        "time_basis action outcome asset eccn destination determination flagged rule_ids faults facts_hash "
        "reference_epoch payload_hash payload_length"
    )
    assert frozenset(keys.split()) == EVENT_KEYS == parse_header(one()).keys()


def test_lists_may_be_dictionaries_of_lists() -> None:
    lists = pa.DictionaryArray.from_arrays(
        pa.array([1, 0, 1], pa.int32()), pa.array([[], ["a", "b"]], pa.list_(pa.string()))
    )
    rows = table(ROW, ROW, ROW)
    rows = rows.set_column(rows.column_names.index("rule_ids"), "rule_ids", lists)
    headers = event_headers(rows).to_pylist()
    assert [json.loads(header)["rule_ids"] for header in headers] == [["a", "b"], [], ["a", "b"]]


def test_text_longer_than_256_bytes_stands_as_length_and_hash() -> None:
    long = "é" * 200
    wanted = {"length": 400, "sha256": hashlib.sha256(long.encode()).hexdigest()}
    header = parse_header(one(asset=long, rule_ids=["a", long]))
    assert (header["asset"], header["rule_ids"]) == (wanted, ["a", wanted])
    assert header_text("é" * 128) == "é" * 128


@pytest.mark.parametrize("name", [field.name for field in HEADER_INPUT if not field.nullable])
def test_a_null_where_none_may_be_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        event_headers(table(ROW, ROW | {name: None}))


def test_missing_columns_and_integers_that_a_double_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="asset"):
        event_headers(table(ROW).drop_columns(["asset"]))
    with pytest.raises(ValueError, match="sequence"):
        one(sequence=2**53)
    assert parse_header(one(sequence=2**53 - 1))["sequence"] == 2**53 - 1


def test_a_header_longer_than_a_leaf_may_be_is_refused() -> None:
    with pytest.raises(ValueError, match="65535"):
        one(rule_ids=["x" * 250 + f"{number:06}" for number in range(300)])
    with pytest.raises(ValueError, match="65535"):
        log_leaf("ab" * 16, "audit.gap", None, 1, 1, {"text": "x" * 65_536})


def test_no_rows_give_no_headers() -> None:
    assert len(event_headers(HEADER_INPUT.empty_table())) == 0


def test_a_log_leaf_is_the_object_of_section_9() -> None:
    leaf = log_leaf("ab" * 16, "audit.heartbeat", (3, 0), 1795500000000000000, 2, {})
    assert leaf == (
        b'{"arrival_time":"1795500000000000000","body":{},"class":"audit.heartbeat","log_id":"abababababababababababababababab",'
        b'"position":[3,0],"reference_epoch":2,"v":1}'
    )
    assert parse_header(leaf)["position"] == [3, 0]
    assert parse_header(log_leaf("ab" * 16, "audit.batch", None, 5, 0, {"from": 0}))["position"] is None


def changed(**changes: Any) -> bytes:
    return canonical_json(parse_header(one()) | changes)


GOOD = one()


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"\xff", "UTF-8"),
        (b"[" * 100_000, "JSON|nested"),
        (GOOD + b"\n", "canonical"),
        (
            GOOD.replace(b'{"action":null,', b'{"asset":null,"action":null,').replace(b',"asset":null', b"", 1),
            "canonical",
        ),
        (GOOD.replace(b'"v":1', b'"v":1,"v":1'), "twice"),
        (GOOD.replace(b'"v":1', b'"v":1.0'), "number 1.0"),
        (GOOD.replace(b'"payload_length":9', b'"payload_length":NaN'), "number NaN"),
        (GOOD.replace(b'"payload_length":9', b'"payload_length":9e0'), "number 9e0"),
        (GOOD.replace(b"r-1", b"r\\u002d1"), "canonical"),
        (GOOD.replace(b"r-1", b"\\ud800"), "surrogate|record_id|canonical"),
        (GOOD.replace(b'"v":1', b'"v":2'), "version 2"),
        (GOOD.replace(b'"v":1', b'"v":true'), "version True"),
        (changed(extra=1), "extra"),
        (canonical_json({k: v for k, v in json.loads(GOOD).items() if k != "asset"}), "asset"),
        (changed(body={}), "keys"),
        (changed(payload_length=2**53 - 1).replace(b"9007199254740991", b"9007199254740992"), "beyond"),
        (changed(payload_length=-1), "payload_length"),
        (changed(payload_length="9"), "payload_length"),
        (changed(payload_length=True), "payload_length"),
        (changed(flagged=0), "flagged"),
        (changed(flagged=None), "flagged"),
        (changed(position=[1]), "position"),
        (changed(position=[1, -1]), "position"),
        (changed(position=None), "position"),
        (changed(event_time=5), "event_time"),
        (changed(event_time="05"), "event_time"),
        (changed(event_time="-5"), "event_time"),
        (changed(event_time=str(2**64)), "event_time"),
        (changed(event_time="٥"), "event_time"),
        (changed(payload_hash="AB" * 32), "payload_hash"),
        (changed(payload_hash="ab" * 31), "payload_hash"),
        (changed(log_id="ab"), "log_id"),
        (changed(time_basis="whenever"), "time_basis"),
        (changed(record_id="x" * 257), "record_id"),
        (changed(record_id={"length": 3, "sha256": "ab" * 32}), "record_id"),
        (changed(record_id={"length": 300, "sha256": "ab" * 32, "more": 1}), "record_id"),
        (changed(record_id=5), "record_id"),
        (changed(record_id=None), "record_id"),
        (changed(rule_ids=["b", "a"]), "rule_ids"),
        (changed(faults=[1]), "faults"),
        (changed(faults=None), "faults"),
        (log_leaf("ab" * 16, "audit.gap", None, 1, 1, {}).replace(b'"v":1', b'"v":1,"w":1'), "w"),
        (log_leaf("ab" * 16, "audit.gap", None, 1, 1, {}).replace(b'"body":{}', b'"body":1.5'), "number 1.5"),
    ],
)
def test_what_is_no_leaf_is_refused_with_the_reason(leaf: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_header(leaf)
