from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from test_header import GOOD, ROW, ROWS, expected, plain, table

from auditspan.canonical import canonical_json
from auditspan.journal.contract import Entry, EntryKind
from auditspan.ledger.commitments import payload_of
from auditspan.ledger.header import HEADER_INPUT, event_headers, header_text, log_leaf, parse_header
from auditspan.ledger.payloads import payload_array, split_payloads
from auditspan.ledger.typed_columns import (
    from_decoded,
    from_header_input,
    from_headers,
    from_parsed,
    from_payloads,
    read_headers,
)
from auditspan.otlp.columns import decode
from auditspan.store.schema import HEADER_COLUMNS, PAYLOAD_COLUMNS

LOG_ID = "ab" * 16
LOG_LEAVES = [
    log_leaf(LOG_ID, "audit.heartbeat", (5, 0), 77, 1, {}),
    log_leaf(LOG_ID, "audit.batch", None, 2**63, 3, {"from": 0, "text": "x" * 300}),
]


def typed(header: dict[str, Any]) -> dict[str, Any]:
    """Typed columns of one parsed header, by section 14 of the evidence format."""

    def text(value: Any) -> Any:
        return "sha256:" + value["sha256"] if isinstance(value, dict) else value

    def moment(value: str | None) -> int | None:
        return None if value is None or int(value) >= 2**63 else int(value)

    row = {name: header.get(name) for name in HEADER_COLUMNS.names}
    row["destination_country"] = header.get("destination")
    row = {name: text(value) or None if isinstance(value, str | dict) else value for name, value in row.items()}
    row["event_time"], row["arrival_time"] = moment(header.get("event_time")), moment(header["arrival_time"])
    row["rule_ids"] = [text(value) for value in header.get("rule_ids", [])]
    row["faults"] = [text(value) for value in header.get("faults", [])]
    row["flagged"] = header.get("flagged", False)
    return row


def as_rows(columns: pa.Table) -> list[dict[str, Any]]:
    columns.validate(full=True)
    for name in ("event_time", "arrival_time"):
        place = columns.column_names.index(name)
        columns = columns.set_column(place, name, columns.column(name).cast(pa.int64()))
    rows: list[dict[str, Any]] = columns.to_pylist()
    return rows


def binary(*values: bytes | None) -> pa.Array:
    return pa.array(values, pa.binary())


@settings(deadline=None, max_examples=100)
@given(ROWS, st.data())
def test_headers_written_and_read_give_the_same_columns(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    wanted = [typed(expected(row)) for row in rows]
    direct = from_header_input(table(*rows))
    assert direct.schema == HEADER_COLUMNS
    assert as_rows(direct) == wanted
    assert as_rows(from_header_input(table(*rows, schema=plain(HEADER_INPUT)))) == wanted
    read = from_headers(event_headers(table(*rows)))
    assert read.schema == HEADER_COLUMNS
    assert as_rows(read) == wanted
    leaves = data.draw(st.permutations([*event_headers(table(*rows)).to_pylist(), *LOG_LEAVES]))
    assert as_rows(from_headers(binary(*leaves))) == [typed(json.loads(leaf)) for leaf in leaves]


def test_empty_text_stands_as_null_and_long_text_as_its_hash() -> None:
    long = "é" * 200
    digest = "sha256:" + hashlib.sha256(long.encode()).hexdigest()
    rows = table(ROW | {"asset": "", "action": long, "stream": "", "faults": []}, ROW | {"asset": long, "action": "a"})
    for columns in (from_header_input(rows), from_headers(event_headers(rows))):
        assert columns["asset"].to_pylist() == [None, digest]
        assert columns["action"].to_pylist() == [digest, "a"]
        assert columns["stream"].null_count == 2


def test_a_time_after_2262_is_null() -> None:
    rows = table(ROW | {"event_time": 2**63}, ROW | {"event_time": 2**63 - 1})
    for columns in (from_header_input(rows), from_headers(event_headers(rows))):
        assert columns["event_time"].cast(pa.int64()).to_pylist() == [None, 2**63 - 1]


def test_log_leaves_have_what_their_leaf_says() -> None:
    row = as_rows(from_headers(binary(LOG_LEAVES[0])))[0]
    said = {"log_id": LOG_ID, "class": "audit.heartbeat", "arrival_time": 77, "reference_epoch": 1}
    assert row == dict.fromkeys(HEADER_COLUMNS.names) | {"flagged": False, "rule_ids": [], "faults": []} | said


def changed(**changes: Any) -> bytes:
    return canonical_json(parse_header(GOOD) | changes)


MALFORMED = {
    "space": GOOD.replace(b'"v":1', b'"v": 1'),
    "key twice": GOOD.replace(b'"asset":null', b'"asset":null,"asset":null'),
    "key twice, differently": GOOD.replace(b'"asset":null', b'"asset":"a","asset":null'),
    "escape": GOOD.replace(b"r-1", b"r\\u002d1"),
    "float": GOOD.replace(b'"payload_length":9', b'"payload_length":9.0'),
    "version": GOOD.replace(b'"v":1', b'"v":2'),
    "version null": GOOD.replace(b'"v":1', b'"v":null'),
    "another key": changed(extra=1),
    "no key": GOOD.replace(b'"asset":null,', b""),
    "log id": changed(log_id="xyz"),
    "time basis": changed(time_basis="whenever"),
    "hash": changed(payload_hash="zz" * 32),
    "hash in capitals": changed(payload_hash="AB" * 32),
    "short hash": changed(payload_hash="ab"),
    "time with zero": changed(event_time="07"),
    "time below zero": changed(arrival_time="-7"),
    "offset below zero": changed(position=[-1, 0]),
    "position": changed(position=[1, 2, 3]),
    "large integer": GOOD.replace(b'"reference_epoch":1', b'"reference_epoch":9007199254740993'),
    "null": changed(record_id=None),
    "long text": changed(record_id="x" * 257),
    "unsorted": changed(rule_ids=["b", "a"]),
    "null in list": changed(faults=[None]),
    "not UTF-8": GOOD.replace(b"r-1", b"r\xff1"),
    "lone surrogate": GOOD.replace(b"r-1", b"\\udc00"),
    "line": GOOD.replace(b",", b",\n", 1),
    "two lines": GOOD + b"\n" + GOOD,
    "nothing": b"",
    "open": b"{",
    "no object": b'"text"',
    "no header": b'{"action":null}',
    "log leaf with more": LOG_LEAVES[0].replace(b'"v":1', b'"v":1,"w":0'),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_header_is_named_and_its_neighbours_are_read(name: str) -> None:
    with pytest.raises(ValueError):
        parse_header(MALFORMED[name])
    rows = read_headers(binary(GOOD, MALFORMED[name], LOG_LEAVES[0], GOOD))
    assert list(rows.malformed) == [1]
    assert rows.columns["record_id"].to_pylist() == ["r-1", None, None, "r-1"]
    assert rows.columns["class"].to_pylist() == ["model.access", None, "audit.heartbeat", "model.access"]
    with pytest.raises(ValueError, match="header 1"):
        from_headers(binary(GOOD, MALFORMED[name], GOOD))


def test_many_headers_with_some_of_every_kind() -> None:
    leaves = [changed(record_id=f"r-{number}", rule_ids=["a\nb", "c"]) for number in range(1500)]
    leaves[700:700] = [*LOG_LEAVES, changed(record_id=header_text("x" * 300))]
    leaves[30:30] = MALFORMED.values()
    rows = read_headers(binary(*leaves))
    assert sorted(rows.malformed) == list(range(30, 30 + len(MALFORMED)))
    good = [row for place, row in enumerate(as_rows(rows.columns)) if place not in rows.malformed]
    assert good == [typed(json.loads(leaf)) for place, leaf in enumerate(leaves) if place not in rows.malformed]


def test_headers_that_were_parsed_give_the_same_columns() -> None:
    leaves = [GOOD, *LOG_LEAVES, changed(record_id=header_text("x" * 300)), changed(rule_ids=["a\nb", "c"])]
    rows = from_parsed([*map(parse_header, leaves), {}])
    assert rows.slice(0, len(leaves)).equals(from_headers(binary(*leaves)))
    assert as_rows(rows)[-1] == as_rows(read_headers(binary(b"{")).columns)[0]


def test_no_headers() -> None:
    assert from_headers(binary()).schema == HEADER_COLUMNS
    assert from_payloads(binary()).schema == PAYLOAD_COLUMNS


def test_headers_of_a_slice() -> None:
    rows = from_headers(binary(changed(record_id="a"), changed(record_id="b"), LOG_LEAVES[0]).slice(1))
    assert rows["record_id"].to_pylist() == ["b", None]


PARTS = st.tuples(st.binary(max_size=5), st.binary(max_size=300), st.binary(max_size=5))


@settings(deadline=None)
@given(st.lists(PARTS, max_size=6))
def test_payloads_are_put_together_and_cut_again(rows: list[tuple[bytes, bytes, bytes]]) -> None:
    parts = [binary(*(row[place] for row in rows)) for place in range(3)]
    payloads = payload_array(*parts)
    assert payloads.to_pylist() == [payload_of(*row) for row in rows]
    again = payload_array(parts[0].dictionary_encode(), parts[1].dictionary_encode(), parts[2])
    assert again.to_pylist() == payloads.to_pylist()
    cut = split_payloads(payloads)
    assert list(zip(cut.resource.to_pylist(), cut.scope.to_pylist(), cut.span.to_pylist(), strict=True)) == rows
    assert cut.whole.all()


def test_what_is_no_payload_is_cut_into_nothing() -> None:
    good = payload_of(b"r", b"s", b"p")
    bad = [
        None,
        b"",
        b"\0\0\0",
        good[:-1],
        good + b"x",
        b"\xff\xff\xff\xff" + good,
        b"\0\0\0\1",
        payload_of(b"", b"", b"")[:-1],
    ]
    cut = split_payloads(binary(good, *bad, good))
    assert cut.whole.tolist() == [True, *[False] * len(bad), True]
    assert cut.span.to_pylist() == [b"p", *[b""] * len(bad), b"p"]
    assert cut.resource.to_pylist() == [b"r", *[b""] * len(bad), b"r"]


KEYS = ["audit.actor.id", "audit.actor.type", "audit.target.id", "audit.target.type", "client.address", "service.name"]
VALUES = st.one_of(
    st.builds(AnyValue, string_value=st.sampled_from(["", "a", "é", "203.0.113.7"])),
    st.builds(AnyValue, int_value=st.integers(0, 3)),
)
PAIRS = st.lists(st.builds(KeyValue, key=st.sampled_from(KEYS), value=VALUES), max_size=7)
SPANS = st.builds(
    Span,
    trace_id=st.sampled_from([b"\1" * 16] * 9 + [b"\0" * 16]),
    span_id=st.sampled_from([b"\1" * 8] * 9 + [b"\1" * 7]),
    name=st.sampled_from(["", "chat"]),
    attributes=PAIRS,
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(PAIRS, st.lists(SPANS, max_size=3), st.sampled_from(range(8))), max_size=4))
def test_decoded_spans_and_their_payloads_give_the_same_columns(groups: list[Any]) -> None:
    bodies = []
    for resource, spans, damage in groups:
        request = ExportTraceServiceRequest()
        request.resource_spans.add().resource.attributes.extend(resource)
        request.resource_spans[0].scope_spans.add().spans.extend(spans)
        body = request.SerializeToString()
        if damage == 1:
            # A second resource makes the request non-canonical, and leaves payloads that can be read.
            inner = request.resource_spans[0].SerializeToString() + b"\x0a\0"
            body = ExportTraceServiceRequest.DESCRIPTOR.fields[0].number.to_bytes(1) and frame(inner)
        bodies.append(
            {
                2: body[:-1],
                3: body.replace(b"chat", b"ch\xfft"),
                4: spans[0].SerializeToString() if spans else b"x",
            }.get(damage, body)
        )
    decoded = decode([Entry("e", 0, EntryKind.OTLP, "", "", 1, "", body) for body in bodies])
    payloads = payload_array(*(decoded.column(name).combine_chunks() for name in ("resource", "scope", "span")))
    direct, again = from_decoded(decoded), from_payloads(payloads)
    assert direct.schema == again.schema == PAYLOAD_COLUMNS
    direct.validate(full=True)
    assert direct.to_pylist() == again.to_pylist() == [payload_row(payload) for payload in payloads.to_pylist()]


def frame(content: bytes) -> bytes:
    length, prefix = len(content), bytearray(b"\x0a")
    while length > 127:
        prefix.append(length & 127 | 128)
        length >>= 7
    return bytes([*prefix, length]) + content


def payload_row(payload: bytes) -> dict[str, Any]:
    """Typed columns of one payload, read with opentelemetry-proto."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    cut = split_payloads(binary(payload))
    try:
        resource, span = Resource.FromString(cut.resource[0].as_py()), Span.FromString(cut.span[0].as_py())
    except DecodeError:
        return dict.fromkeys(PAYLOAD_COLUMNS.names)
    if len(span.trace_id) != 16 or len(span.span_id) != 8 or not any(span.trace_id) or not any(span.span_id):
        return dict.fromkeys(PAYLOAD_COLUMNS.names)

    def text(attributes: Any, name: str) -> str | None:
        values = [attribute.value for attribute in attributes if attribute.key == name]
        return (values[0].string_value or None) if values and values[0].HasField("string_value") else None

    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "span_name": span.name or None,
        "actor_id": text(span.attributes, "audit.actor.id"),
        "actor_type": text(span.attributes, "audit.actor.type"),
        "target_id": text(span.attributes, "audit.target.id"),
        "target_type": text(span.attributes, "audit.target.type"),
        "client_address": text(span.attributes, "client.address"),
        "service_name": text(resource.attributes, "service.name"),
    }


def test_payloads_that_are_null_or_unreadable_give_nulls_and_their_neighbours_do_not() -> None:
    span = Span(trace_id=b"\1" * 16, span_id=b"\1" * 8, name="chat").SerializeToString()
    good = payload_of(b"", b"", span)
    columns = from_payloads(
        binary(None, good, b"garbage", payload_of(b"", b"", b"\xff"), payload_of(b"\xff", b"", span), good)
    )
    assert columns["span_name"].to_pylist() == [None, "chat", None, None, None, "chat"]
    assert columns["trace_id"].to_pylist() == [None, b"\1" * 16, None, None, None, b"\1" * 16]


def test_a_hundred_thousand_rows_a_second() -> None:
    headers = event_headers(table(*(ROW | {"offset": number, "record_id": f"r-{number}"} for number in range(20_000))))
    begin = time.process_time()
    assert len(from_headers(headers)) == 20_000
    # Leaf by leaf it takes more than half a second, by columns a fifth of that.
    assert time.process_time() - begin < 0.5
