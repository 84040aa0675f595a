import pytest
from auditspan.instrumentation.encode import encode_resource, encode_sequence, encode_span, new_record_id
from hypothesis import given
from hypothesis import strategies as st
from loopback_collector import value_of
from opentelemetry import trace
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

values = (
    st.text()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary()
    | st.lists(st.text(), max_size=3)
)


def decode(span_bytes):
    span = Span.FromString(span_bytes)
    return span, {pair.key: value_of(pair.value) for pair in span.attributes}


def encode(attributes, **more):
    return encode_span(
        "model.access", attributes, **{"record_id": "r", "start_time": 1, "end_time": 2, "parent": None, **more}
    )


@given(st.dictionaries(st.text(min_size=1).filter(lambda key: not key.startswith("audit.")), values, max_size=30))
def test_attributes_come_back(attributes):
    _, found = decode(encode(attributes) + encode_sequence(7))
    assert found == {
        "audit.event.class": "model.access",
        "audit.record.id": "r",
        **attributes,
        "audit.sequence.number": 7,
    }


@given(st.integers(0, 2**53 - 1))
def test_a_sequence_is_appended_to_an_encoded_span(sequence):
    assert decode(encode({}) + encode_sequence(sequence))[1]["audit.sequence.number"] == sequence


class Secretive:
    def __repr__(self):
        return "secret"


@pytest.mark.parametrize(
    ("given_value", "found"),
    [
        ("a\udc80b", "a\\udc80b"),
        (2**63, str(2**63)),
        (Secretive(), "<Secretive>"),
        (["a", 1, None], ["a", 1, None]),
        ("nul\0inside", "nul\0inside"),
        ("x" * 1_000_000, "x" * 1_000_000),
    ],
)
def test_values_that_otlp_cannot_say_lose_nothing_else(given_value, found):
    assert decode(encode({"odd": given_value, "even": 2}))[1] == {
        "audit.event.class": "model.access",
        "audit.record.id": "r",
        "odd": found,
        "even": 2,
    }


def test_none_is_left_out_and_own_attributes_are_never_doubled():
    span, found = decode(encode({"a": None, "audit.sequence.number": 99, "audit.event.class": "other"}))
    assert len(span.attributes) == 2
    assert found["audit.event.class"] == "model.access"


def test_times_outside_what_otlp_can_say_are_brought_inside():
    span, _ = decode(encode({}, start_time=-5, end_time=2**70))
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (0, 2**64 - 1)


def test_an_unsampled_parent_is_joined():
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("host")
    with tracer.start_as_current_span("host") as parent:
        context = parent.get_span_context()
        assert not context.trace_flags.sampled
        span, _ = decode(encode({}))
    assert span.trace_id == context.trace_id.to_bytes(16, "big")
    assert span.parent_span_id == context.span_id.to_bytes(8, "big")
    assert span.span_id not in {b"", span.parent_span_id}
    assert span.flags & 1 == 0


def test_a_parent_may_be_given_as_context_or_span_context():
    tracer = TracerProvider().get_tracer("host")
    parent = tracer.start_span("host")
    by_context, _ = decode(encode({}, parent=trace.set_span_in_context(parent)))
    by_span_context, _ = decode(encode({}, parent=parent.get_span_context()))
    expected = parent.get_span_context().trace_id.to_bytes(16, "big")
    assert by_context.trace_id == by_span_context.trace_id == expected


def test_without_parent_ids_are_random_and_valid():
    spans = [decode(encode({}))[0] for _ in range(100)]
    assert len({span.trace_id for span in spans}) == len({span.span_id for span in spans}) == 100
    assert all(len(span.trace_id) == 16 and len(span.span_id) == 8 and not span.parent_span_id for span in spans)


def test_record_ids_are_uuids_of_version_7():
    import uuid

    ids = [uuid.UUID(new_record_id(1_795_500_000_000_000_000)) for _ in range(100)]
    assert len(set(ids)) == 100
    assert {item.version for item in ids} == {7}
    assert {item.variant for item in ids} == {uuid.RFC_4122}
    assert {item.int >> 80 for item in ids} == {1_795_500_000_000}


def test_a_resource_names_stream_and_service():
    message = ResourceMessage.FromString(encode_resource(Resource({"service.name": "serve"}), "s" * 32))
    found = {pair.key: value_of(pair.value) for pair in message.attributes}
    assert found["service.name"] == "serve"
    assert found["audit.source.id"] == "s" * 32
    assert found["audit.schema.version"]
