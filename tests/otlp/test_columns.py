from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from slow_reader import read_body
from strange_messages import REQUESTS, STRANGE, delimited, nest, varint

from auditspan import semconv
from auditspan.journal.contract import Entry, EntryKind
from auditspan.otlp.columns import DECLARED, SPANS, Quarantine, decode, decode_parts
from auditspan.otlp.values import key_values


def entry(body: bytes, kind: EntryKind = EntryKind.OTLP) -> Entry:
    return Entry("events-0", 0, kind, "edge", "bearer", 1, "otlp_proto", body)


def rows(*bodies: bytes) -> list[dict[str, Any]]:
    table = decode([entry(body) for body in bodies])
    table.validate(full=True)
    assert table.schema == SPANS
    return table.drop_columns([DECLARED]).to_pylist()


def request(spans: int = 3, resource: dict[str, Any] | None = None, **attributes: Any) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    resource_spans = made.resource_spans.add()
    set_attributes(
        resource_spans.resource, {"audit.source.id": "stream-1", "service.name": "gateway", **(resource or {})}
    )
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "auditspan"
    for number in range(spans):
        span = scope_spans.spans.add(name="chat", start_time_unix_nano=1000 + number, end_time_unix_nano=2000)
        span.trace_id, span.span_id = bytes([1]) * 16, (number + 1).to_bytes(8, "big")
        set_attributes(span, {"audit.event.class": "model.access", "audit.sequence.number": number, **attributes})
    return made


def set_attributes(target: Any, attributes: dict[str, Any]) -> None:
    for key, value in attributes.items():
        attribute = target.attributes.add(key=key)
        name = {bool: "bool_value", int: "int_value", str: "string_value", float: "double_value", bytes: "bytes_value"}
        setattr(attribute.value, name[type(value)], value)


def spans_of(made: ExportTraceServiceRequest) -> Any:
    return made.resource_spans[0].scope_spans[0].spans


def with_span(span: bytes, resource: bytes = b"", scope: bytes = b"") -> bytes:
    """A request with a good span, ``span``, and another good span."""
    good = request(2)
    first, last = (each.SerializeToString() for each in spans_of(good))
    scope_spans = delimited(1, scope) + b"".join(delimited(2, each) for each in (first, span, last))
    return delimited(1, delimited(1, resource) + delimited(2, scope_spans))


GOOD_SPAN = spans_of(request(1))[0].SerializeToString()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(REQUESTS, min_size=1, max_size=4))
def test_agrees_with_the_standard_parser(bodies: list[bytes]) -> None:
    assert rows(*bodies) == [{"entry": i} | row for i, body in enumerate(bodies) for row in read_body(body)]


@settings(max_examples=300, deadline=None)
@given(STRANGE, st.sampled_from(["span", "attribute", "value", "event", "status", "resource", "scope", "request"]))
def test_agrees_with_the_standard_parser_wherever_something_strange_stands(strange: bytes, place: str) -> None:
    attribute = delimited(1, b"audit.action") + delimited(2, delimited(1, b"chat"))
    inner = {
        "span": strange,
        "attribute": delimited(9, attribute + strange),
        "value": delimited(9, delimited(1, b"audit.action") + delimited(2, delimited(1, b"chat") + strange)),
        "event": delimited(11, strange),
        "status": delimited(15, strange),
    }.get(place, b"")
    body = with_span(
        GOOD_SPAN + inner,
        delimited(1, attribute) + (strange if place == "resource" else b""),
        strange if place == "scope" else b"",
    )
    body += strange if place == "request" else b""
    assert rows(body) == [{"entry": 0} | row for row in read_body(body)]


def test_reads_every_column_and_keeps_the_bytes() -> None:
    made = request(2, {"export_control.end_user": "party-1"}, **{"export_control.weights_published": True})
    body = made.SerializeToString()
    first, second = rows(body)
    assert (first["entry"], first["ordinal"], second["ordinal"]) == (0, 0, 1)
    assert first["span"] == spans_of(made)[0].SerializeToString()
    assert first["resource"] == made.resource_spans[0].resource.SerializeToString()
    assert first["scope"] == made.resource_spans[0].scope_spans[0].scope.SerializeToString()
    assert (first["trace_id"], first["span_id"]) == (b"\1" * 16, (1).to_bytes(8, "big"))
    assert (first["span_name"], first["start_time"], first["end_time"]) == ("chat", 1000, 2000)
    assert (first["attribute_count"], first["duplicate_key"], first["wrong_type"]) == (3, False, False)
    assert first["quarantine"] is None
    assert (first["audit.source.id"], first["service.name"], second["audit.sequence.number"]) == (
        "stream-1",
        "gateway",
        1,
    )
    assert first["export_control.weights_published"] is True
    assert first["export_control.end_user"] == "party-1"
    assert first["audit.action"] is None


def test_positions_count_spans_through_resources_and_scopes() -> None:
    two = request(1)
    two.resource_spans[0].scope_spans.add().spans.add().CopyFrom(spans_of(two)[0])
    two.resource_spans.add()
    two.resource_spans.add().scope_spans.add().spans.add().CopyFrom(spans_of(two)[0])
    table = rows(request(2).SerializeToString(), b"", two.SerializeToString())
    assert [(row["entry"], row["ordinal"]) for row in table] == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
    assert [row["service.name"] for row in table] == ["gateway", "gateway", "gateway", "gateway", None]


def test_a_resource_that_many_spans_share_is_held_once() -> None:
    made = request(5_000, {"padding": "x" * 1_000_000})
    table = decode([entry(made.SerializeToString())])
    assert table.nbytes < 10_000_000
    assert table.column("resource").chunk(0).dictionary.to_pylist() == [
        made.resource_spans[0].resource.SerializeToString()
    ]


def test_more_than_an_array_can_hold_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    body = request(1).SerializeToString()
    monkeypatch.setattr("auditspan.otlp.columns._LARGEST_ARRAY", 2 * len(body))
    assert len(rows(body, body)) == 2
    with pytest.raises(ValueError, match="fewer entries"):
        rows(body, body, body)


def test_no_entries_give_no_rows() -> None:
    assert decode([]).schema == SPANS
    assert rows(b"") == []


def codes(*bodies: bytes) -> list[str | None]:
    return [row["quarantine"] for row in rows(*bodies)]


def test_a_truncated_request_is_one_row_with_its_whole_body_between_its_neighbours() -> None:
    good, torn = request(2).SerializeToString(), request(2).SerializeToString()[:-1]
    table = rows(good, torn, good)
    assert [row["quarantine"] for row in table] == [None, None, Quarantine.REQUEST_UNDECODABLE, None, None]
    assert [row["ordinal"] for row in table] == [0, 1, 0, 0, 1]
    assert (table[2]["span"], table[2]["resource"], table[2]["audit.sequence.number"]) == (torn, b"", None)
    assert [row["audit.sequence.number"] for row in table] == [0, 1, None, 0, 1]


def test_an_undecodable_entry_is_not_even_tried() -> None:
    body = request(2).SerializeToString()
    table = decode([entry(body, EntryKind.UNDECODABLE), entry(body)]).to_pylist()
    assert [row["quarantine"] for row in table] == [Quarantine.REQUEST_UNDECODABLE, None, None]
    assert table[0]["span"] == body


def test_a_repeated_resource_quarantines_its_spans_alone_and_keeps_both() -> None:
    made = request(2)
    plain = made.resource_spans[0].SerializeToString()
    second = delimited(1, delimited(1, b"k"))
    body = delimited(1, plain + delimited(1, second)) + delimited(1, plain)
    table = rows(body)
    assert [row["quarantine"] for row in table] == [*[Quarantine.REQUEST_NON_CANONICAL] * 2, None, None]
    assert table[0]["resource"] == made.resource_spans[0].resource.SerializeToString() + second
    assert [row["ordinal"] for row in table] == [0, 1, 2, 3]


def test_a_repeated_scope_quarantines_the_spans_of_that_scope_alone() -> None:
    made = request(1)
    scope_spans = made.resource_spans[0].scope_spans[0].SerializeToString()
    body = delimited(1, delimited(2, scope_spans) + delimited(2, scope_spans + delimited(1, b"")))
    assert codes(body) == [None, Quarantine.REQUEST_NON_CANONICAL]


TEXT_FIELDS: dict[str, Callable[[Any], None]] = {
    "name": lambda s: setattr(s, "name", "@@"),
    "trace_state": lambda s: setattr(s, "trace_state", "@@"),
    "status": lambda s: setattr(s.status, "message", "@@"),
    "attribute key": lambda s: set_attributes(s, {"@@": 1}),
    "attribute value": lambda s: set_attributes(s, {"k": "@@"}),
    "event name": lambda s: s.events.add(name="@@"),
    "event attribute": lambda s: set_attributes(s.events.add(), {"k": "@@"}),
    "link state": lambda s: s.links.add(trace_state="@@"),
    "link attribute": lambda s: set_attributes(s.links.add(), {"k": "@@"}),
}


@pytest.mark.parametrize("place", TEXT_FIELDS)
def test_text_that_is_no_utf8_quarantines_its_span_alone(place: str) -> None:
    made = request(3)
    TEXT_FIELDS[place](spans_of(made)[1])
    good = made.SerializeToString()
    assert codes(good) == [None] * 3
    assert codes(good.replace(b"@@", b"\xff\xfe")) == [None, Quarantine.SPAN_UNDECODABLE, None]


def test_a_resource_or_scope_that_does_not_parse_quarantines_its_spans() -> None:
    broken = delimited(1, delimited(1, b"\xff"))
    assert codes(with_span(GOOD_SPAN, resource=broken)) == [Quarantine.SPAN_UNDECODABLE] * 3
    assert codes(with_span(GOOD_SPAN, scope=delimited(2, b"\xff"))) == [Quarantine.SPAN_UNDECODABLE] * 3
    assert codes(with_span(GOOD_SPAN, scope=delimited(3, b"\x0a"))) == [Quarantine.SPAN_UNDECODABLE] * 3


@pytest.mark.parametrize(
    ("trace_id", "span_id"),
    [(b"\1" * 15, b"\1" * 8), (b"\1" * 16, b"\1" * 9), (b"\0" * 16, b"\1" * 8), (b"\1" * 16, b"\0" * 8), (b"", b"")],
)
def test_ids_of_wrong_length_or_zero_are_quarantined(trace_id: bytes, span_id: bytes) -> None:
    made = request(3)
    spans_of(made)[1].trace_id, spans_of(made)[1].span_id = trace_id, span_id
    table = rows(made.SerializeToString())
    assert [row["quarantine"] for row in table] == [None, Quarantine.SPAN_INVALID_ID, None]
    assert table[1]["audit.event.class"] is None
    assert table[1]["span"] == spans_of(made)[1].SerializeToString()


def one(**attributes: Any) -> dict[str, Any]:
    (row,) = rows(request(1, **attributes).SerializeToString())
    return row


def test_nul_bytes_and_empty_strings_are_text() -> None:
    row = one(**{"audit.action": "a\0b", "audit.outcome": ""})
    assert (row["audit.action"], row["audit.outcome"], row["wrong_type"]) == ("a\0b", "", False)


@pytest.mark.parametrize("depth", [1, 99, 101, 200, 5000])
def test_nesting_has_no_depth(depth: int) -> None:
    value = delimited(9, delimited(1, b"k") + delimited(2, delimited(5, nest(depth))))
    body = with_span(GOOD_SPAN + value)
    assert codes(body) == [None] * 3
    assert rows(body)[1]["attribute_count"] == 3


@pytest.mark.parametrize("number", [5, 6])
def test_what_is_in_an_array_or_map_is_not_looked_at(number: int) -> None:
    value = delimited(9, delimited(1, b"audit.action") + delimited(2, delimited(number, b"\xff\xff\xff")))
    row = rows(with_span(GOOD_SPAN + value))[1]
    assert (row["quarantine"], row["audit.action"], row["wrong_type"]) == (None, None, True)


@pytest.mark.parametrize("value", [1, True, 1.5, b"x"])
def test_an_attribute_of_the_wrong_type_counts_as_absent(value: Any) -> None:
    row = one(**{"audit.action": value, "http.route": value})
    assert (row["audit.action"], row["wrong_type"]) == (None, True)


def test_only_known_attributes_at_their_place_can_have_the_wrong_type() -> None:
    assert one(**{"http.route": 1, "service.name": 1})["wrong_type"] is False
    made = request(2, {"export_control.end_user": 7})
    assert [row["wrong_type"] for row in rows(made.SerializeToString())] == [True, True]


def test_an_attribute_without_a_value_is_of_the_wrong_type() -> None:
    made = request(1)
    spans_of(made)[0].attributes.add(key="audit.action")
    spans_of(made)[0].attributes.add(key="http.route")
    assert rows(made.SerializeToString())[0]["wrong_type"] is True


def test_of_a_key_that_occurs_twice_the_first_is_read() -> None:
    made = request(3)
    set_attributes(spans_of(made)[1], {"audit.event.class": "other"})
    table = rows(made.SerializeToString())
    assert [row["duplicate_key"] for row in table] == [False, True, False]
    assert table[1]["audit.event.class"] == "model.access"
    assert table[1]["attribute_count"] == 3


def test_any_key_that_occurs_twice_counts_and_in_the_resource_too() -> None:
    made = request(2)
    for _ in range(2):
        made.resource_spans[0].resource.attributes.add(key="anything")
    assert [row["duplicate_key"] for row in rows(made.SerializeToString())] == [True, True]
    made = request(2, {"same": "x"}, same="y")
    assert [row["duplicate_key"] for row in rows(made.SerializeToString())] == [False, False]


def test_the_end_user_of_the_span_comes_before_that_of_the_resource() -> None:
    made = request(3, {"export_control.end_user": "process"})
    set_attributes(spans_of(made)[0], {"export_control.end_user": "request"})
    set_attributes(spans_of(made)[1], {"export_control.end_user": 1})
    table = rows(made.SerializeToString())
    assert [row["export_control.end_user"] for row in table] == ["request", "process", "process"]
    assert [row["wrong_type"] for row in table] == [False, True, False]


def test_the_last_of_a_repeated_singular_field_counts() -> None:
    twice = (
        GOOD_SPAN
        + delimited(1, b"\7" * 16)
        + delimited(5, b"renamed")
        + delimited(15, b"\x12\0")
        + delimited(15, b"\x18\1")
    )
    row = rows(with_span(twice))[1]
    assert (row["trace_id"], row["span_name"], row["quarantine"]) == (b"\7" * 16, "renamed", None)
    text, number = delimited(1, b"chat"), varint(3 << 3) + b"\7"
    for value in (delimited(2, text + number), delimited(2, text) + delimited(2, number)):
        row = rows(with_span(GOOD_SPAN + delimited(9, delimited(1, b"audit.action") + value)))[1]
        assert (row["audit.action"], row["wrong_type"]) == (None, True)
        row = rows(with_span(GOOD_SPAN + delimited(9, delimited(1, b"export_control.quantity") + value)))[1]
        assert (row["export_control.quantity"], row["wrong_type"]) == (7, False)


def test_unknown_fields_are_allowed_and_kept() -> None:
    span = GOOD_SPAN + delimited(500, b"new") + varint(5 << 3) + b"\1"
    row = rows(with_span(span))[1]
    assert (row["span"], row["span_name"], row["quarantine"]) == (span, "chat", None)


def test_a_group_does_not_parse() -> None:
    group = varint(99 << 3 | 3) + varint(99 << 3 | 4)
    assert codes(with_span(GOOD_SPAN + group)) == [None, Quarantine.SPAN_UNDECODABLE, None]
    assert codes(with_span(GOOD_SPAN + delimited(15, group))) == [None, Quarantine.SPAN_UNDECODABLE, None]
    assert codes(with_span(GOOD_SPAN) + group) == [Quarantine.REQUEST_UNDECODABLE]


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 9, 2**64 - 1])
def test_a_length_that_overflows_breaks_its_span_alone(length: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert codes(with_span(GOOD_SPAN + varint(5 << 3 | 2) + varint(length))) == [
        None,
        Quarantine.SPAN_UNDECODABLE,
        None,
    ]


def test_tags_and_lengths_longer_than_they_need_be_are_read() -> None:
    assert rows(with_span(GOOD_SPAN + delimited(5, b"renamed", 5)))[1]["span_name"] == "renamed"
    assert codes(with_span(GOOD_SPAN + delimited(5, b"renamed", 6)))[1] == Quarantine.SPAN_UNDECODABLE


def test_ten_thousand_attributes_and_a_megabyte_are_counted_and_kept() -> None:
    made = request(3)
    set_attributes(spans_of(made)[1], {f"key-{number}": number for number in range(10_000)})
    set_attributes(spans_of(made)[2], {"audit.action": "x" * 1_000_000})
    table = rows(made.SerializeToString())
    assert [row["attribute_count"] for row in table] == [2, 10_002, 3]
    assert [row["quarantine"] for row in table] == [None] * 3
    assert table[2]["audit.action"] == "x" * 1_000_000


def test_more_keys_than_sixteen_bits_can_number() -> None:
    made = request(2)
    set_attributes(spans_of(made)[0], {f"key-{number}": number for number in range(70_000)})
    set_attributes(spans_of(made)[1], {"audit.action": "a", "key-69999": 1})
    set_attributes(spans_of(made)[1], {"audit.action": "b"})
    table = rows(made.SerializeToString())
    assert [row["duplicate_key"] for row in table] == [False, True]
    assert table[1]["audit.action"] == "a"


def test_one_bad_span_among_thousands_costs_nobody_else() -> None:
    bodies = [request(100).SerializeToString() for _ in range(40)]
    bodies[20] = with_span(GOOD_SPAN + b"\xff")
    bodies[31] = b"\xff"
    table = decode([entry(body) for body in bodies])
    found = table.column("quarantine").to_pylist()
    assert found.index(Quarantine.SPAN_UNDECODABLE) == 2001
    assert (found.count(None), found.count(Quarantine.REQUEST_UNDECODABLE), len(found)) == (3802, 1, 3804)


def test_dictionaries_hold_each_text_once_even_when_attributes_are_written_in_several_ways() -> None:
    key, value = delimited(1, b"audit.action"), delimited(2, delimited(1, b"chat"))
    body = with_span(GOOD_SPAN + delimited(9, key + value)) + with_span(GOOD_SPAN + delimited(9, value + key))
    column = decode([entry(body)]).column("audit.action").chunk(0)
    assert column.dictionary.to_pylist() == ["chat"]
    assert column.to_pylist() == [None, "chat", None, None, "chat", None]


def test_parts_give_the_same_columns_and_only_the_attributes_asked_for() -> None:
    table = decode([entry(request(3, **{"audit.action": "chat"}).SerializeToString())])
    parts = [table.column(name).combine_chunks() for name in ("resource", "scope", "span")]
    again = decode_parts(*parts, attributes=["audit.action"])
    assert again.column_names == [*SPANS.names[5:14], "audit.action"]
    assert again.to_pylist() == table.select(again.column_names).to_pylist()


def test_speed_does_not_hang_on_one_row_at_a_time() -> None:
    entries = [entry(request(100, **{f"k{n}": "v" for n in range(20)}).SerializeToString()) for _ in range(100)]
    begin = time.process_time()
    assert decode(entries).num_rows == 10_000
    # A walk in Python takes more than a second for this; the columns take a twentieth of one.
    assert time.process_time() - begin < 0.5


def declared_by(*bodies: bytes) -> list[dict[str, Any] | None]:
    runs = decode([entry(body) for body in bodies]).column(DECLARED).to_pylist()
    return [None if run is None else key_values(run) for run in runs]


VALUES = st.one_of(st.text(max_size=300), st.booleans(), st.integers(-(2**63), 2**63 - 1))
NAMES = st.sampled_from([*semconv.READ_FOR_FACTS[:4], "audit.action", "other"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=6))
def test_what_is_read_for_the_determination_alone_is_kept_row_for_row(attributes: list[dict[str, Any]]) -> None:
    """Types do not matter here: who reads a fact says what it cannot read."""
    made = request(len(attributes))
    for span, each in zip(spans_of(made), attributes, strict=True):
        set_attributes(span, each)
    wanted = [{name: value for name, value in each.items() if name in semconv.READ_FOR_FACTS} for each in attributes]
    assert declared_by(made.SerializeToString()) == [each or None for each in wanted]


def test_the_first_of_two_declarations_stands_and_lists_are_read() -> None:
    made = request(1)
    (span,) = spans_of(made)
    set_attributes(span, {semconv.ORIGIN_COUNTRY: "US"})
    set_attributes(span, {semconv.ORIGIN_COUNTRY: "DE"})
    entries = span.attributes.add(key=semconv.TRANSIT_COUNTRIES).value.array_value
    entries.values.add(string_value="HK")
    entries.values.add(string_value="MO")
    assert declared_by(made.SerializeToString()) == [
        {semconv.ORIGIN_COUNTRY: "US", semconv.TRANSIT_COUNTRIES: ["HK", "MO"]}
    ]


def test_a_declaration_that_does_not_parse_is_told_apart_from_none() -> None:
    deep = delimited(1, b"")
    for _ in range(200):
        deep = delimited(5, delimited(1, deep))
    value = delimited(1, semconv.KNOWN_END_USES.encode()) + delimited(2, deep)
    body = with_span(GOOD_SPAN + delimited(9, value))
    run = decode([entry(body)]).column(DECLARED).to_pylist()[1]
    with pytest.raises(ValueError, match="do not parse"):
        key_values(run)
