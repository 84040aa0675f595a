from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from strange_messages import delimited, varint

from auditspan.otlp.projection import KEY_VALUE, MESSAGES, REQUEST, SPAN, projection
from auditspan.otlp.weight import encoded_sizes, lengths

OFFICIAL = {
    "Request": trace_service_pb2.ExportTraceServiceRequest,
    "ResourceSpans": trace_pb2.ResourceSpans,
    "ScopeSpans": trace_pb2.ScopeSpans,
    "Resource": resource_pb2.Resource,
    "EntityRef": common_pb2.EntityRef,
    "Scope": common_pb2.InstrumentationScope,
    "Span": trace_pb2.Span,
    "Event": trace_pb2.Span.Event,
    "Link": trace_pb2.Span.Link,
    "Status": trace_pb2.Status,
    "KeyValue": common_pb2.KeyValue,
    "AnyValue": common_pb2.AnyValue,
}
DELIMITED = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE}
INTEGERS = {
    FieldDescriptor.TYPE_ENUM: "int32",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
}
NAMES = INTEGERS | {
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_FIXED32: "fixed32",
    FieldDescriptor.TYPE_FIXED64: "fixed64",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_every_projection_is_wire_compatible_with_the_message_it_stands_for(name: str) -> None:
    official = OFFICIAL[name].DESCRIPTOR.fields_by_name
    assert MESSAGES[name].keys() <= set(official)
    for field_name, (number, kind) in MESSAGES[name].items():
        field = official[field_name]
        assert field.number == number
        plain = kind.removeprefix("repeated ")
        if plain in MESSAGES or (plain == "bytes" and field.type == FieldDescriptor.TYPE_MESSAGE):
            assert field.type in DELIMITED
        else:
            assert plain == NAMES[field.type]
        assert kind.startswith("repeated ") == (field.is_repeated or (name, field_name) in REPEATED_ON_PURPOSE)


REPEATED_ON_PURPOSE = {("ResourceSpans", "resource"), ("ScopeSpans", "scope")}


def test_every_text_of_the_official_messages_is_read_as_text() -> None:
    """What is left out would be an unknown field, and text that is no UTF-8 would go unnoticed."""
    for name, official in OFFICIAL.items():
        left_out = set(official.DESCRIPTOR.fields_by_name) - MESSAGES[name].keys()
        assert not left_out, (name, left_out)


TEXT = st.text(max_size=200)
VALUES = st.one_of(
    st.builds(common_pb2.AnyValue, string_value=TEXT),
    st.builds(common_pb2.AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
    st.builds(common_pb2.AnyValue, bool_value=st.booleans()),
    st.builds(common_pb2.AnyValue, double_value=st.floats()),
    st.builds(common_pb2.AnyValue, bytes_value=st.binary(max_size=200)),
    st.just(common_pb2.AnyValue(array_value=common_pb2.ArrayValue(values=[common_pb2.AnyValue(int_value=7)]))),
    st.just(common_pb2.AnyValue()),
)
PAIRS = st.lists(st.builds(common_pb2.KeyValue, key=TEXT, value=VALUES), max_size=4)
UINT32 = st.integers(0, 2**32 - 1)
SPANS = st.builds(
    trace_pb2.Span,
    trace_id=st.binary(max_size=16),
    span_id=st.binary(max_size=8),
    trace_state=TEXT,
    name=TEXT,
    kind=st.integers(-1, 5),
    flags=UINT32,
    start_time_unix_nano=st.integers(0, 2**64 - 1),
    attributes=PAIRS,
    dropped_attributes_count=UINT32,
    events=st.lists(st.builds(trace_pb2.Span.Event, name=TEXT, attributes=PAIRS), max_size=2),
    links=st.lists(st.builds(trace_pb2.Span.Link, trace_id=st.binary(max_size=16), attributes=PAIRS), max_size=2),
    status=st.one_of(st.none(), st.builds(trace_pb2.Status, message=TEXT, code=st.integers(-3, 2))),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(SPANS, min_size=1, max_size=5))
def test_an_ordinary_message_weighs_what_it_is_long(spans: list[Any]) -> None:
    data = pa.array([span.SerializeToString() for span in spans], pa.binary())
    batch, bad = projection(SPAN).read(data)
    assert not bad.any()
    assert encoded_sizes(projection(SPAN).descriptor, batch).tolist() == lengths(data).tolist()
    assert batch.column("name").fill_null("").to_pylist() == [span.name for span in spans]
    attributes = pa.array([pair.SerializeToString() for span in spans for pair in span.attributes], pa.binary())
    pairs, bad = projection(KEY_VALUE).read(attributes)
    assert not bad.any()
    assert encoded_sizes(projection(KEY_VALUE).descriptor, pairs).tolist() == lengths(attributes).tolist()


@pytest.mark.parametrize(
    "odd",
    [
        delimited(1, b"k") + delimited(1, b"k"),
        delimited(1, b"k", 2),
        delimited(1, b"k") + delimited(9, b""),
        delimited(2, delimited(1, b"a") + delimited(7, b"b")),
        varint(3 << 3) + b"\x80\x00",
    ],
)
def test_a_message_out_of_the_ordinary_weighs_less_than_it_is_long(odd: bytes) -> None:
    batch = projection(KEY_VALUE)._try(pa.array([odd]))
    assert encoded_sizes(projection(KEY_VALUE).descriptor, batch)[0] != len(odd)


def test_rows_that_do_not_parse_are_null_and_told() -> None:
    good = delimited(1, b"k") + delimited(2, delimited(1, b"v"))
    batch, bad = projection(KEY_VALUE).read(pa.array([good, b"\x0a", good, delimited(1, b"\xff"), b""]))
    assert np.flatnonzero(bad).tolist() == [1, 3]
    assert batch.column("key").to_pylist() == ["k", None, "k", None, None]


def test_sliced_arrays_are_read_from_their_slice() -> None:
    keys = pa.array([delimited(1, b"a"), delimited(1, b"b") + delimited(9, b"x"), delimited(1, b"c")])
    batch, bad = projection(KEY_VALUE).read(keys.slice(1))
    assert batch.column("key").to_pylist() == ["b", "c"]
    assert not bad.any()


def test_an_error_that_is_no_verdict_on_the_bytes_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def array_to_record_batch(self, _messages: pa.Array) -> pa.RecordBatch:
            raise KeyboardInterrupt

    read = projection(REQUEST)
    monkeypatch.setattr(read, "_handler", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        read.read(pa.array([b""]))
