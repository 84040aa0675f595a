"""Framing and splitting of OTLP requests, against opentelemetry-proto."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from auditspan.ledger.commitments import payload_of
from auditspan.otlp.split import SplitLimits, partition_of, split, split_request, stream_of
from auditspan.otlp.wire import TooManyParts, WireError, check_request, iterate_spans

# A busy machine is no fault of the code.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SMALL = SplitLimits(entry_spans=3, entry_bytes=200, span_bytes=150, resource_bytes=120)


def message(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def resource(stream: str | None = None, name: str = "") -> bytes:
    made = Resource()
    for key, value in (("service.name", name), ("audit.source.id", stream)):
        if value is not None:
            made.attributes.add(key=key).value.string_value = value
    return made.SerializeToString()


@st.composite
def requests(draw) -> bytes:
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 4))):
        resource_spans = request.resource_spans.add(schema_url=draw(st.sampled_from(["", "https://example/1"])))
        if draw(st.booleans()):
            stream = draw(st.sampled_from([None, "a", "b", "c"]))
            resource_spans.resource.ParseFromString(resource(stream, draw(st.text(max_size=20))))
        for _ in range(draw(st.integers(0, 3))):
            scope_spans = resource_spans.scope_spans.add(schema_url=draw(st.sampled_from(["", "s"])))
            if draw(st.booleans()):
                scope_spans.scope.name = draw(st.text(max_size=10))
            for _ in range(draw(st.integers(0, 5))):
                span = scope_spans.spans.add(name=draw(st.text(max_size=200)), span_id=draw(st.binary(max_size=8)))
                span.attributes.add(key="k").value.int_value = draw(st.integers(-(2**63), 2**63 - 1))
    return request.SerializeToString()


def spans_by_protobuf(body: bytes) -> list[tuple[bytes, bytes, bytes]]:
    return [
        (resource_spans.resource.SerializeToString(), scope_spans.scope.SerializeToString(), span.SerializeToString())
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def spans_on_wire(body: bytes) -> list[tuple[bytes, bytes, bytes]]:
    return [(one.resource, one.scope, one.span) for one in iterate_spans(body)]


@unhurried
@given(requests())
def test_the_walk_finds_what_protobuf_finds(body):
    assert spans_on_wire(body) == spans_by_protobuf(body)
    assert check_request(body).spans == len(spans_by_protobuf(body))


@settings(unhurried, max_examples=300)
@given(requests(), st.data())
def test_the_walk_accepts_whatever_protobuf_accepts_and_counts_the_same(body, data):
    """Over mutated requests: nothing that protobuf would read may be refused, nor a span be seen differently."""
    mutated = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        if mutated:
            mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        expected = ExportTraceServiceRequest.FromString(bytes(mutated))
    except DecodeError:
        try:
            check_request(bytes(mutated))
        except WireError:
            pass
        return
    count = sum(len(scope.spans) for one in expected.resource_spans for scope in one.scope_spans)
    assert check_request(bytes(mutated)).spans == count


@unhurried
@given(st.binary(max_size=300))
def test_random_bytes_are_framed_or_refused_never_anything_else(body):
    try:
        framing = check_request(body)
    except WireError as error:
        assert str(error)
    else:
        assert framing.spans == len(list(iterate_spans(body)))


@unhurried
@given(requests(), st.data())
def test_a_truncated_request_is_refused_wherever_it_is_cut(body, data):
    boundaries = set()
    at = 0
    for one in ExportTraceServiceRequest.FromString(body).resource_spans:
        boundaries.add(at)
        at += len(message(1, one.SerializeToString()))
    cut = data.draw(st.integers(0, len(body)))
    if cut in boundaries or cut == len(body):
        check_request(body[:cut])  # protobuf messages say nothing about their own end
    else:
        with pytest.raises(WireError):
            check_request(body[:cut])


@pytest.mark.parametrize(
    "body",
    [
        b"\x00\x00",  # field number 0
        b"\x0e",  # wire type 6
        b"\x0f",  # wire type 7
        b"\x0c",  # a group ends that never began
        b"\x0b\x08\x01",  # a group that never ends
        b"\x0b\x14",  # another group ends
        b"\x1b" * 200 + b"\x1c" * 200,  # groups nested without end
        b"\x0a",
        b"\x0a\x80",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a number of eleven bytes
        b"\x0a\xff\xff\xff\xff\x07",  # 2 GiB announced
        b"\xfa\xff\xff\xff\xff\x7f\x00",  # a tag beyond 32 bits
        b"\x09\x00",  # fixed64 cut off
        b"\x0d\x00",  # fixed32 cut off
        message(1, message(2, b"\x12\x05abc")),
        message(1, message(2, b"\x12\x85\x01abc")),
        message(1, message(2, b"\x12\x85\x80\x01abc")),
        message(1, message(2, message(2, b"span") + b"\x12")),
        message(1, b"\x12\x20" + message(2, b"span")),
    ],
)
def test_what_cannot_be_a_request_is_refused(body):
    with pytest.raises(WireError):
        check_request(body)
    with pytest.raises(DecodeError):
        ExportTraceServiceRequest.FromString(body)


def test_unknown_fields_groups_and_long_numbers_are_skipped_and_kept():
    group = b"\x7b\x08\x01\x7c"  # field 15, start group … end group
    unknown = b"\x78\x05" + message(15, b"future") + b"\x7d1234" + b"\x7912345678" + group
    scope = message(1, message(1, b"scope")) + unknown + message(2, b"") + b"\x92\x00\x84\x80\x00span" + unknown
    around = message(1, resource("a")) + unknown + message(2, scope)
    body = unknown + message(1, around) + message(2, b"not resource_spans")
    assert ExportTraceServiceRequest.FromString(message(1, message(1, resource("a")) + unknown))
    assert [one.span for one in iterate_spans(body)] == [b"", b"span"]
    # b"span" is no Span: framing ends at its boundary, the decoder judges the rest.
    [(_, piece), (_, second)] = split_request(body, "e", 1, 1, 1 << 20)
    assert [one.span for one in iterate_spans(piece)] == [b""]
    assert [one.span for one in iterate_spans(second)] == [b"span"]
    for part in (piece, second):
        assert part.count(b"future") == 3  # of the ResourceSpans once, of the ScopeSpans twice


def test_a_field_with_another_wire_type_is_an_unknown_field():
    body = message(1, b"\x10\x05" + message(2, b"\x10\x05" + message(2, b"")))
    assert check_request(body).spans == 1
    assert sum(len(s.spans) for s in ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans) == 1


def test_repeated_resource_and_scope_are_told_apart_and_survive_splitting():
    first, second = resource("a", "first"), resource("b", "second")
    doubled = message(1, message(1, first) + message(2, message(2, b"x") + message(2, b"y")) + message(1, second))
    scopes = message(1, message(2, message(1, b"") + message(2, b"z") + message(1, b"")))
    plain = message(1, message(1, first) + message(2, message(2, b"p")))
    body = doubled + scopes + plain
    assert [(one.span, one.canonical) for one in iterate_spans(body)] == [
        (b"x", False),
        (b"y", False),
        (b"z", False),
        (b"p", True),
    ]
    pieces = [piece for _, piece in split_request(body, "e", 4, 1, 1 << 20)]
    assert Counter((one.span, one.canonical) for piece in pieces for one in iterate_spans(piece)) == Counter(
        (one.span, one.canonical) for one in iterate_spans(body)
    )
    for piece in pieces:
        if b"\x12\x01x" in piece or b"\x12\x01y" in piece:
            assert message(1, first) + message(1, second) in piece


@unhurried
@given(requests(), st.integers(1, 5), st.integers(1, 4), st.integers(1, 400))
def test_splitting_keeps_every_span_once_untouched_and_in_order(body, partitions, max_spans, max_bytes):
    pieces = split_request(body, "emitter", partitions, max_spans, max_bytes)
    assert [partition for partition, _ in pieces] == sorted(partition for partition, _ in pieces)
    found = defaultdict(list)
    for partition, piece in pieces:
        spans = spans_by_protobuf(piece)
        assert 1 <= len(spans) <= max_spans
        assert len(piece) <= max_bytes or len(spans) == 1
        found[partition].extend(spans)
    expected = defaultdict(list)
    for spans in spans_by_protobuf(body):
        expected[partition_of(b"emitter", spans[0], partitions)].append(spans)
    assert found == expected  # order within a partition, and so within a stream, included


@unhurried
@given(requests(), st.integers(1, 5))
def test_pieces_keep_the_schema_urls(body, partitions):
    def urls(message):
        return Counter(
            (one.schema_url, scope.schema_url)
            for one in ExportTraceServiceRequest.FromString(message).resource_spans
            for scope in one.scope_spans
            for _ in scope.spans
        )

    pieces = split_request(body, "e", partitions, 2, 1 << 20)
    assert sum((urls(piece) for _, piece in pieces), Counter()) == urls(body)


@unhurried
@given(requests(), st.integers(1, 3))
def test_too_large_spans_and_resources_are_set_apart_whole(body, partitions):
    result = split(check_request(body), "e", partitions, SMALL)
    kept = [one for _, piece in result.entries for one in spans_by_protobuf(piece)]
    apart = [one for rejected in result.rejected for one in spans_by_protobuf(rejected.body)]
    assert sum(rejected.spans for rejected in result.rejected) == len(apart)
    assert Counter(kept + apart) == Counter(spans_by_protobuf(body))
    assert all(len(span) <= SMALL.span_bytes for _, _, span in kept)
    # What precedes a span has tags, lengths and two schema URLs besides: 50 bytes at most.
    assert all(len(span) + 3 > SMALL.span_bytes or len(r) + len(s) + 50 > SMALL.resource_bytes for r, s, span in apart)
    assert all(len(piece) <= SMALL.entry_bytes or len(spans_by_protobuf(piece)) == 1 for _, piece in result.entries)


def test_a_large_resource_cannot_be_multiplied():
    """Entries repeat what precedes their spans: that must not turn a small request into gigabytes."""
    heavy = message(1, message(1, resource("a", "x" * 60_000)) + message(2, message(2, b"") * 50_000))
    limits = SplitLimits(resource_bytes=50_000)
    [rejected] = split(check_request(heavy), "e", 1, limits).rejected
    assert rejected.spans == 50_000
    assert "resource" in rejected.reason
    allowed = split(check_request(heavy), "e", 1, SplitLimits(payload_bytes=1 << 40)).entries
    assert sum(len(piece) for _, piece in allowed) < 3 * len(heavy)


@unhurried
@given(requests(), st.integers(1, 3), st.integers(1, 300))
def test_the_payloads_of_an_entry_are_bounded(body, partitions, most):
    """A payload repeats resource and scope, so what an entry becomes when it is sealed is more than its bytes."""
    limits = SplitLimits(payload_bytes=most)
    pieces = [spans_by_protobuf(piece) for _, piece in split(check_request(body), "e", partitions, limits).entries]
    assert Counter(one for piece in pieces for one in piece) == Counter(spans_by_protobuf(body))
    assert all(sum(len(payload_of(*one)) for one in piece) <= most or len(piece) == 1 for piece in pieces)


def test_a_large_resource_before_many_spans_is_cut_into_entries_of_32_mib():
    body = message(1, message(1, resource("a", "x" * 1_000_000)) + message(2, message(2, b"") * 100))
    sizes = [len(spans_by_protobuf(piece)) for _, piece in split(check_request(body), "e", 1, SplitLimits()).entries]
    assert sum(sizes) == 100
    assert max(sizes) == 33


def test_a_request_that_fits_passes_through_as_it_came():
    body = message(1, message(1, resource("a")) + message(2, message(2, b"x")) + message(15, b"future"))
    for partitions in (1, 7):
        [(_, piece)] = split_request(body, "e", partitions, 10, 1000)
        assert piece is body
    assert split_request(b"", "e", 1, 10, 1000) == []
    assert split_request(message(1, message(1, resource("a"))), "e", 3, 10, 1000) == []


def test_a_stream_stays_in_its_partition_whatever_it_comes_with():
    """The rule of the partition is part of the journal's format: an independent computation."""

    def expected(emitter, kind, key, partitions):
        digest = hashlib.sha256(len(emitter).to_bytes(4, "big") + emitter + kind + key).digest()
        return int.from_bytes(digest[:8], "big") % partitions

    for partitions in (2, 3, 16):
        for stream in ("a", "é" * 64, "stream-7"):
            key = expected(b"emitter", b"s", stream.encode(), partitions)
            assert partition_of(b"emitter", resource(stream, "one"), partitions) == key
            assert partition_of(b"emitter", resource(stream, "two"), partitions) == key
        for made in (resource(None, "one"), resource(None, "two"), b""):
            assert partition_of(b"emitter", made, partitions) == expected(b"emitter", b"r", made, partitions)
    spread = Counter(partition_of(b"emitter", resource(f"stream-{number}"), 4) for number in range(400))
    assert len(spread) == 4
    assert min(spread.values()) > 50
    assert partition_of(b"a", resource("s"), 1 << 30) != partition_of(b"b", resource("s"), 1 << 30)


def stream_attribute(value: bytes, key: bytes = b"audit.source.id") -> bytes:
    return message(1, message(1, key) + message(2, value))


@pytest.mark.parametrize(
    ("made", "stream"),
    [
        (resource("a"), b"a"),
        (resource("x" * 128), b"x" * 128),
        (resource("x" * 129), None),
        (resource(""), None),
        (resource(None, "audit.source.id"), None),
        (stream_attribute(b"\x18\x05"), None),  # an integer
        (stream_attribute(b"\x0a\x01a\x18\x05"), None),  # the last member of a oneof counts
        (stream_attribute(b"\x18\x05\x0a\x01a"), b"a"),
        (message(1, message(2, b"\x0a\x01a") + message(1, b"audit.source.id")), b"a"),
        (message(1, message(1, b"x") + message(1, b"audit.source.id") + message(2, b"\x0a\x01a")), b"a"),
        (resource("a") + resource("b"), b"a"),  # the first attribute of the name counts
        (message(1, message(1, b"audit.source.id")), None),  # no value
        (resource("a")[:-1], None),  # broken: left to the decoder
        (resource("a", "y" * 2_000_000), None),  # too large to look into
    ],
)
def test_the_stream_is_read_as_protobuf_reads_it(made, stream):
    assert stream_of(made) == stream


@unhurried
@example(1000)
@given(st.integers(0, 2000))
def test_parts_are_bounded(parts):
    body = message(1, message(2, message(2, b"") * 500 + b"\x78\x01" * 498))
    if parts < 1000:
        with pytest.raises(TooManyParts):
            check_request(body, max_parts=parts)
    else:
        assert check_request(body, max_parts=parts).spans == 500


def test_empty_messages_in_millions_cost_little():
    for body in (b"\x0a\x00" * 500_000, message(1, b"\x12\x00" * 500_000), message(1, b"\x78\x01" * 500_000)):
        with pytest.raises(TooManyParts):
            check_request(body, max_parts=10_000)


@pytest.mark.parametrize("largest", [4_000, 30_000, 200_000])
def test_limits_within_a_journals_own_make_no_larger_entry(largest):
    limits = SplitLimits().within(largest)
    sizes = [10, limits.span_bytes - 60, 500, limits.span_bytes + 1, 20, *[largest // 7] * 40]
    request = ExportTraceServiceRequest()
    for resource_size in (0, limits.resource_bytes - 60):
        resource_spans = request.resource_spans.add()
        resource_spans.resource.attributes.add(key="pad").value.string_value = "r" * resource_size
        scope_spans = resource_spans.scope_spans.add()
        for size in sizes:
            scope_spans.spans.add(name="n" * size)
    result = split(check_request(request.SerializeToString()), "e", 4, limits)
    assert max(len(body) for _, body in result.entries) <= largest
    assert sum(one.spans for one in result.rejected) == 2
    kept = [
        len(span.name)
        for _, body in result.entries
        for one in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in one.scope_spans
        for span in scope.spans
    ]
    assert sorted(kept) == sorted(size for size in 2 * sizes if size <= limits.span_bytes - 60)
    assert SplitLimits().within(None) == SplitLimits()
