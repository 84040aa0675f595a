"""What is read by templates is what `read_payloads` reads; whatever differs is left to it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from auditspan import semconv
from auditspan.ledger import payload_templates
from auditspan.ledger.payload_templates import PayloadTemplates, Read
from auditspan.ledger.typed_columns import PayloadReader, read_payloads
from auditspan.otlp.classify import READ

MADE_OF = {*READ, semconv.AUDIT_ACTOR_ID, semconv.AUDIT_TARGET_TYPE, semconv.CLIENT_ADDRESS, semconv.SERVICE_NAME}
MADE_OF |= {"trace_id", "span_id", "start_time", "attribute_count", "duplicate_key", "wrong_type", "quarantine"}

RESOURCE = Resource(
    attributes=[
        KeyValue(key=semconv.SERVICE_NAME, value=AnyValue(string_value="gateway")),
        KeyValue(key=semconv.AUDIT_SOURCE_ID, value=AnyValue(string_value="6f1d2c3b4a596877")),
    ]
).SerializeToString()


def key_value(key: str, value: Any) -> KeyValue:
    kind = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value", bytes: "bytes_value"}
    if isinstance(value, list):
        return KeyValue(
            key=key, value=AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=v) for v in value]))
        )
    return KeyValue(key=key, value=AnyValue(**{kind[type(value)]: value}))


def payload(span: bytes, resource: bytes = RESOURCE, scope: bytes = b"") -> bytes:
    return b"".join(len(part).to_bytes(4) + part for part in (resource, scope, span))


def span(number: int, attributes: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """A span as a gateway sends it."""
    said = {
        semconv.AUDIT_EVENT_CLASS: "model.access",
        semconv.AUDIT_ACTION: "chat",
        semconv.AUDIT_RECORD_ID: f"record-{number:08d}",
        semconv.AUDIT_SEQUENCE_NUMBER: 1_000 + number % 15_000,
        semconv.AUDIT_ACTOR_ID: f"actor-{number % 7}",
        semconv.CLIENT_ADDRESS: f"192.0.2.{number % 250:03d}",
        "http.response.status_code": 200 + number % 50,
        "app.note": f"note {number % 10}",
        "app.share": 0.5,
        **(attributes or {}),
    }
    values: dict[str, Any] = {
        "trace_id": (number + 1).to_bytes(16),
        "span_id": (number + 1).to_bytes(8),
        "parent_span_id": number.to_bytes(8),
        "name": "POST /v1/chat/completions",
        "start_time_unix_nano": 10**18 + number,
        "end_time_unix_nano": 10**18 + 2 * number,
        "attributes": [key_value(key, value) for key, value in said.items() if value is not None],
        **fields,
    }
    return Span(**values).SerializeToString()


@pytest.fixture(autouse=True)
def _few_are_worth_a_template(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(payload_templates, "_WORTH_TRYING", 2)
    monkeypatch.setattr(payload_templates, "_WORTH_LEARNING", 2)
    yield


@pytest.fixture
def asked() -> list[int]:
    """How many payloads `counted` was given, each time."""
    return []


@pytest.fixture
def counted(asked: list[int]) -> Read:
    """Reads payloads in full, and takes note of it."""

    def read(payloads: pa.Array) -> pa.Table:
        asked.append(len(payloads))
        return read_payloads(payloads)

    return read


def check(payloads: list[bytes | None], reader: PayloadReader | None = None) -> int:
    """That all is read as it is; how many of them templates read."""
    # Of a slice of more, as payloads of a window are.
    array = pa.array([b"before", *payloads, b"after"], pa.binary()).slice(1, len(payloads))
    wanted = read_payloads(array)
    reader = reader or PayloadReader()
    for _ in range(2):
        # The second time there are templates already.
        found = reader.read(array)
        found.validate(full=True)
        assert set(found.column_names) >= MADE_OF
        assert found.to_pylist() == wanted.select(found.column_names).to_pylist()
    templates = PayloadTemplates(read_payloads)
    columns, taken = templates.read(array)
    if columns is None:
        assert not taken.any()
        return 0
    columns.validate(full=True)
    assert columns.schema.equals(wanted.schema)
    assert columns.to_pylist() == wanted.filter(pa.array(taken)).to_pylist()
    return int(taken.sum())


def test_payloads_of_one_shape_are_all_read_by_templates() -> None:
    assert check([payload(span(number)) for number in range(300)]) == 300


def test_of_several_shapes_too_and_what_differs_alone_is_left() -> None:
    shapes: list[dict[str, Any]] = [
        {},
        {semconv.AUDIT_ACTOR_ID: None, semconv.AUDIT_SEQUENCE_NUMBER: None},
        {semconv.AUDIT_TARGET_ID: "frontier-7", semconv.AUDIT_RECORD_ID: None},
        {semconv.CLIENT_ADDRESS: 7, semconv.AUDIT_SEQUENCE_NUMBER: "seven"},
    ]
    alike = [payload(span(number, shapes[number % 4])) for number in range(400)]
    random.Random(3).shuffle(alike)
    odd: list[bytes | None] = [None, b"", b"\0\0\0\1", payload(b"\xff"), alike[0][:-1], payload(span(5), b"\xff")]
    assert check([*alike[:200], *odd, *alike[200:]]) == 400


def test_a_template_of_one_batch_serves_the_next(asked: list[int], counted: Read) -> None:
    templates = PayloadTemplates(counted)
    for first in (0, 100, 200):
        _, taken = templates.read(pa.array([payload(span(number)) for number in range(first, first + 100)]))
        assert taken.all()
    assert asked == [1]


def test_each_emitter_has_templates_of_its_own(asked: list[int], counted: Read) -> None:
    """Whose resources have the same length, so that payloads of all of them do."""
    resources = [
        Resource(attributes=[key_value(semconv.SERVICE_NAME, f"gateway-{number:02d}")]).SerializeToString()
        for number in range(20)
    ]
    templates = PayloadTemplates(counted)
    for first in (0, 400, 800):
        payloads = [payload(span(number), resources[number % 20]) for number in range(first, first + 400)]
        columns, taken = templates.read(pa.array(payloads))
        assert taken.all()
        assert columns is not None
        assert columns.to_pylist() == read_payloads(pa.array(payloads)).to_pylist()
    assert asked == [20]


def test_where_templates_fit_few_they_are_made_ever_more_seldom(asked: list[int], counted: Read) -> None:
    templates = PayloadTemplates(counted)
    for batch in range(64):
        each = [payload(span(number, {"list": [f"{batch:03d}{number:05d}"]})) for number in range(40)]
        assert not templates.read(pa.array(each))[1].sum() > 2
    assert len(asked) < 16
    # Another kind is not concerned.
    assert templates.read(pa.array([payload(span(number)) for number in range(40)]))[1].all()


@pytest.mark.parametrize("place", range(0, 500, 3))
def test_one_other_bit_anywhere_is_read_as_it_is_or_left(place: int) -> None:
    payloads = [payload(span(number)) for number in range(6)]
    for bit in (0, 7):
        altered = bytearray(payloads[3])
        altered[place % len(altered)] ^= 1 << bit
        check([*payloads[:3], bytes(altered), *payloads[4:]])


@pytest.mark.parametrize(
    "other",
    [
        span(3, trace_id=bytes(16)),
        span(3, span_id=bytes(8)),
        span(3, start_time_unix_nano=0),
        span(3, {semconv.AUDIT_RECORD_ID: "r\u00e9cord-0000003"}),
        span(3, {"app.note": "not\u00e9 3"[:6]}),
        span(3, {semconv.AUDIT_SEQUENCE_NUMBER: -1}),
        span(3, {semconv.AUDIT_SEQUENCE_NUMBER: 127}),
        span(3, {semconv.AUDIT_SEQUENCE_NUMBER: 2**63 - 1}),
        span(3, {semconv.AUDIT_EVENT_CLASS: "model.excess"}),
        span(3) + Span(trace_id=b"t" * 16).SerializeToString(),
        span(3, {"list": ["a", "b"]}),
        span(3, events=[Span.Event(name="e", time_unix_nano=3)]),
        span(3) + b"\x4a\x02\x0a\x00",
        # The same number in more bytes than it needs, at the same length.
        span(3).replace(b"\xeb\x07", b"\xeb\x00", 1),
    ],
    ids=range(14),
)
def test_what_cannot_stand_in_its_place_is_left(other: bytes) -> None:
    payloads = [payload(span(number)) for number in range(40)]
    check([*payloads[:20], payload(other), *payloads[20:]])
    # And as the first, which a template would be made of.
    check([payload(other), payload(other), *payloads])


VALUES = st.one_of(
    st.text("ab\u00e9\x00 ", max_size=3),
    st.sampled_from(["model.access", "chat", "success"]),
    st.integers(-3, 300),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.binary(max_size=2),
    st.floats(allow_nan=False),
    st.lists(st.text("a", max_size=1), max_size=2),
)
KEYS = st.sampled_from(
    [
        semconv.AUDIT_EVENT_CLASS,
        semconv.AUDIT_RECORD_ID,
        semconv.AUDIT_SEQUENCE_NUMBER,
        semconv.AUDIT_TARGET_ID,
        semconv.AUDIT_ACTOR_ID,
        semconv.END_USER,
        semconv.CLIENT_ADDRESS,
        semconv.USER_ID,
        "app.note",
    ]
)
IDS = st.sampled_from([b"", bytes(16), b"t" * 16, b"u" * 16, b"s" * 8])
TIMES = st.sampled_from([0, 1, 10**18, 2**64 - 1])
SPANS = st.builds(
    lambda pairs, **fields: Span(attributes=[key_value(*pair) for pair in pairs], **fields).SerializeToString(),
    st.lists(st.tuples(KEYS, VALUES), max_size=4),
    trace_id=st.just(b"t" * 16) | IDS,
    span_id=st.just(b"s" * 8) | IDS,
    parent_span_id=IDS,
    name=st.sampled_from(["", "a", "b"]),
    start_time_unix_nano=TIMES,
    end_time_unix_nano=TIMES,
    flags=st.sampled_from([0, 1]),
    dropped_attributes_count=st.sampled_from([0, 1]),
)
RESOURCES = st.sampled_from(
    [b"", RESOURCE, Resource(attributes=[key_value(semconv.END_USER, "of the resource")]).SerializeToString()]
)


@settings(max_examples=80, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    st.lists(st.tuples(SPANS, RESOURCES), min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=2, max_size=24),
    st.randoms(use_true_random=False),
    st.integers(0, 6),
)
def test_payloads_read_by_templates_are_those_that_each_is(
    kinds: list[tuple[bytes, bytes]], order: list[int], chance: random.Random, altered: int
) -> None:
    payloads = [payload(*kinds[number % len(kinds)]) for number in order]
    for _ in range(altered):
        place = chance.randrange(len(payloads))
        changed = bytearray(payloads[place])
        at = chance.randrange(len(changed))
        changed[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, changed[at] ^ 1])
        payloads[place] = bytes(changed)
    check(payloads)


def test_a_payload_that_is_too_long_is_no_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_templates, "_LONGEST", 64)
    assert check([payload(span(number)) for number in range(10)]) == 0


def test_kinds_and_templates_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_templates, "_MOST_KINDS", 2)
    monkeypatch.setattr(payload_templates, "_MOST", 3)
    templates = PayloadTemplates(read_payloads)
    for number in range(12):
        of_other_lengths = [payload(span(each, {semconv.AUDIT_ACTION: "x" * number})) for each in range(10)]
        of_other_actions = [payload(span(each, {semconv.AUDIT_ACTION: f"{number:04d}"})) for each in range(10)]
        assert templates.read(pa.array(of_other_lengths))[1].all()
        assert templates.read(pa.array(of_other_actions))[1].all()
        assert len(templates._known) <= 2
        assert all(len(known.templates) <= 3 for known in templates._known.values())


def test_nothing_is_read_of_nothing() -> None:
    columns, taken = PayloadTemplates(read_payloads).read(pa.array([], pa.binary()))
    assert columns is None
    assert taken.tolist() == []
    assert check([None, None]) == 0
    assert check([b"x"] * 9) == 0
