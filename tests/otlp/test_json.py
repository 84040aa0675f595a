"""OTLP/JSON becomes the protobuf that protobuf's own JSON reader and deterministic writer would give."""

from __future__ import annotations

import base64
import json
import math
import threading

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from auditspan.otlp.json import OtlpJsonError, protobuf_from_json
from auditspan.otlp.wire import check_request

# A busy machine is no fault of the code.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

any_values = st.recursive(
    st.one_of(
        st.builds(AnyValue),
        st.builds(AnyValue, string_value=st.text()),
        st.builds(AnyValue, bool_value=st.booleans()),
        st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
        # JSON has one NaN only: neither its sign nor its payload can be written.
        st.builds(AnyValue, double_value=st.floats().map(lambda value: math.nan if math.isnan(value) else value)),
        st.builds(AnyValue, bytes_value=st.binary(max_size=40)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: AnyValue(array_value={"values": values})),
        st.lists(st.tuples(st.text(max_size=5), inner), max_size=3).map(
            lambda pairs: AnyValue(kvlist_value={"values": [{"key": key, "value": value} for key, value in pairs]})
        ),
    ),
    max_leaves=8,
)
attributes = st.lists(st.tuples(st.text(max_size=8), any_values), max_size=4)
uint64 = st.integers(0, 2**64 - 1)
uint32 = st.integers(0, 2**32 - 1)


def add(target, pairs):
    for key, value in pairs:
        target.add(key=key).value.CopyFrom(value)


@st.composite
def requests(draw) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        resource_spans = request.resource_spans.add(schema_url=draw(st.text(max_size=5)))
        if draw(st.booleans()):
            add(resource_spans.resource.attributes, draw(attributes))
            resource_spans.resource.dropped_attributes_count = draw(uint32)
            resource_spans.resource.SetInParent()
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name = draw(st.text(max_size=5))
        for _ in range(draw(st.integers(0, 3))):
            span = scope_spans.spans.add(
                trace_id=draw(st.binary(max_size=20)),
                span_id=draw(st.binary(max_size=8)),
                parent_span_id=draw(st.binary(max_size=8)),
                name=draw(st.text()),
                kind=draw(st.integers(0, 5)),
                flags=draw(uint32),
                start_time_unix_nano=draw(uint64),
                end_time_unix_nano=draw(uint64),
            )
            add(span.attributes, draw(attributes))
            if draw(st.booleans()):
                span.status.code = draw(st.integers(0, 2))
                add(span.events.add(time_unix_nano=draw(uint64), name="e").attributes, draw(attributes))
                span.links.add(trace_id=draw(st.binary(max_size=16)), span_id=b"\1" * 8, flags=draw(uint32))
    return request


def otlp_json(request: ExportTraceServiceRequest):
    """The OTLP/JSON document of ``request``: proto3 JSON, integer enums, hexadecimal ids."""

    def hexadecimal(value):
        if isinstance(value, dict):
            for key, member in value.items():
                if key in ("traceId", "spanId", "parentSpanId"):
                    value[key] = base64.b64decode(member).hex()
                else:
                    hexadecimal(member)
        elif isinstance(value, list):
            for member in value:
                hexadecimal(member)
        return value

    return hexadecimal(MessageToDict(request, use_integers_for_enums=True))


def of_span(**fields) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}).encode()


def of_value(value) -> bytes:
    return of_span(attributes=[{"key": "k", "value": value}])


def span_of(document: bytes):
    [resource_spans] = ExportTraceServiceRequest.FromString(protobuf_from_json(document)).resource_spans
    return resource_spans.scope_spans[0].spans[0]


def value_of(document: bytes):
    return span_of(document).attributes[0].value


@unhurried
@given(requests(), st.sampled_from([None, 2]))
def test_any_request_becomes_its_deterministic_serialization(request_, indent):
    document = json.dumps(otlp_json(request_), indent=indent).encode()
    assert protobuf_from_json(document) == request_.SerializeToString(deterministic=True)


@unhurried
@given(requests(), st.randoms())
def test_the_order_of_keys_and_what_is_unknown_change_nothing(request_, random):
    def disturbed(value):
        if isinstance(value, dict):
            members = [(key, disturbed(member)) for key, member in value.items()]
            members.append((f"unknown{random.random()}", {"deep": [1, None]}))
            random.shuffle(members)
            return dict(members)
        return [disturbed(member) for member in value] if isinstance(value, list) else value

    document = json.dumps(disturbed(otlp_json(request_))).encode()
    assert protobuf_from_json(document) == request_.SerializeToString(deterministic=True)


def test_ids_are_hexadecimal_of_either_case_and_any_length():
    span = span_of(of_span(traceId="5B8EFFF798038103D269B633813FC60C", spanId="eee19b7ec3c1b174", parentSpanId=""))
    assert span.trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    assert span.span_id.hex() == "eee19b7ec3c1b174"
    assert span_of(of_span(traceId="abcd")).trace_id == b"\xab\xcd"  # the decoder judges its length


@pytest.mark.parametrize("given_value", ["-5", -5, -5.0, "-5.0", "-5e0"])
def test_integers_come_as_numbers_or_text(given_value):
    assert value_of(of_value({"intValue": given_value})).int_value == -5


def test_the_largest_numbers_keep_every_digit():
    assert value_of(of_value({"intValue": "9223372036854775807"})).int_value == 2**63 - 1
    assert value_of(of_value({"intValue": 9223372036854775807})).int_value == 2**63 - 1
    assert span_of(of_span(startTimeUnixNano="18446744073709551615")).start_time_unix_nano == 2**64 - 1


@pytest.mark.parametrize("text", ["+/+/", "-_-_", "AQI=", "AQI"])
def test_bytes_are_base64_of_either_alphabet(text):
    expected = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
    assert value_of(of_value({"bytesValue": text})).bytes_value == expected


def test_nulls_count_as_absent_and_empty_members_as_present():
    assert span_of(of_span(name=None, attributes=None, status=None)).ByteSize() == 0
    assert value_of(of_value({"stringValue": ""})).WhichOneof("value") == "string_value"
    assert value_of(of_value({"intValue": 0})).WhichOneof("value") == "int_value"
    assert value_of(of_value({"arrayValue": {}})).WhichOneof("value") == "array_value"
    assert value_of(of_value({})).WhichOneof("value") is None


def test_enums_by_name_are_understood():
    assert span_of(of_span(kind="SPAN_KIND_CLIENT")).kind == 3
    assert span_of(of_span(kind=3)).kind == 3


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"resourceSpans": "\xc3\x28"}', "not UTF-8"),
        (b"[]", "the document is an array"),
        (b"null", "the document is null"),
        (b'{"resourceSpans": {}}', "resourceSpans is an object, not an array"),
        (b'{"resourceSpans": [3]}', r"resourceSpans\[0\] is 3, not an object"),
        (b'{"resourceSpans": [{"resource": {}, "resource": {}}]}', 'the key "resource" more than once'),
        (of_span(traceId="xyz"), r"resourceSpans\[0\].scopeSpans\[0\].spans\[0\].traceId is \"xyz\": not hexadecimal"),
        (of_span(traceId="abc"), "not hexadecimal"),
        (of_span(traceId=5), "not hexadecimal"),
        (of_span(name=5), "name is 5: not text"),
        (of_span(name="\ud800"), "surrogates not allowed"),
        (of_span(kind="SPAN_KIND_NONE"), "not"),
        (of_span(kind=2**31), "not from"),
        (of_span(startTimeUnixNano=-1), "not from 0"),
        (of_span(startTimeUnixNano="18446744073709551616"), "not from 0"),
        (of_span(startTimeUnixNano=" 1"), "not an integer"),
        (of_span(startTimeUnixNano="1_0"), "not an integer"),
        (of_span(startTimeUnixNano=True), "not an integer"),
        (of_span(droppedAttributesCount=2**32), "not from 0"),
        (of_value({"intValue": 1.5}), "not an integer"),
        (of_value({"intValue": "1e400"}), "intValue"),
        (of_value({"boolValue": "true"}), "neither true nor false"),
        (of_value({"doubleValue": "x"}), "doubleValue"),
        (of_value({"doubleValue": "nan"}), "not a number"),
        (of_value({"doubleValue": 10**400}), "doubleValue"),
        (of_value({"bytesValue": "A"}), "not base64"),
        (of_value({"bytesValue": "A*=="}), "not base64"),
        (of_value({"bytesValue": 1}), "not base64"),
        (of_value({"stringValue": "a", "intValue": 1}), "value has more than one value"),
        (b'{"resourceSpans": [{"x": NaN}]}', "NaN is not JSON"),
        (b'{"x": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(document, says):
    with pytest.raises(OtlpJsonError, match=says):
        protobuf_from_json(document)


def nested(levels: int, wrap) -> bytes:
    value = {"stringValue": "innermost"}
    for _ in range(levels):
        value = wrap(value)
    return of_value(value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: {"arrayValue": {"values": [value]}},
        lambda value: {"kvlistValue": {"values": [{"key": "k", "value": value}]}},
    ],
)
def test_two_hundred_levels_are_transcoded_and_endless_ones_refused(wrap):
    """In a thread of its own, as the collector does: the JSON parser's depth is bounded by the stack below it."""
    results = {}

    def transcode(document, levels):
        try:
            results[levels] = protobuf_from_json(document)
        except OtlpJsonError as error:
            results[levels] = error

    deep = nested(200, wrap)
    bottomless = b'{"resourceSpans":' + b"[" * 200_000
    for document, levels in ((deep, 200), (bottomless, 200_000)):
        thread = threading.Thread(target=transcode, args=(document, levels))
        thread.start()
        thread.join(30)
    assert b"innermost" in results[200]
    assert check_request(results[200]).spans == 1
    assert "nested too deep" in str(results[200_000])
