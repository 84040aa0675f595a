"""Hypothesis strategies for OTLP bytes: ordinary, odd but legal, and broken."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from auditspan import semconv
from auditspan.otlp.projection import MESSAGES

KNOWN = [*semconv.READ_FROM_SPAN, *semconv.READ_FROM_RESOURCE]
WIRE = {"bool": 0, "int32": 0, "int64": 0, "uint32": 0, "fixed32": 5, "fixed64": 1, "double": 1}


def varint(value: int, width: int = 0) -> bytes:
    """``value`` in at least ``width`` bytes, more than needed when that is wider."""
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 127 or len(out) + 1 < width:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def delimited(number: int, content: bytes, width: int = 0) -> bytes:
    return varint(number << 3 | 2, width) + varint(len(content), width) + content


# Hypothesis likes the ends of a range: what is strange sits in the middle, so that most messages parse.
RARELY = st.integers(0, 200).map(lambda number: number == 77)
WIDTHS = st.one_of([st.just(0)] * 30 + [st.sampled_from([2, 4, 5])] + [st.sampled_from([0] * 6 + [6, 9, 10, 11])])
TEXTS = st.one_of(st.sampled_from(["", "a", "é", "\0", "a" * 300, *KNOWN[:3]]), st.text(max_size=8)).map(str.encode)
BROKEN_TEXTS = st.sampled_from([b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\x80"])
KEYS = st.one_of(st.sampled_from(KNOWN), st.sampled_from(["k", "", "http.route"])).map(str.encode)
NESTED = st.integers(1, 250).map(lambda depth: nest(depth))


def nest(depth: int) -> bytes:
    """An ``ArrayValue`` in an ``ArrayValue`` …"""
    value = delimited(1, b"x")
    for _ in range(depth):
        value = delimited(1, delimited(5, value))
    return value


@st.composite
def field(draw: Any, name: str, kind: str, number: int) -> bytes:
    kind = kind.removeprefix("repeated ")
    width = draw(WIDTHS)
    if name == "attributes":
        return delimited(number, draw(message("KeyValue")), width)
    if name in ("resource", "scope", "spans"):
        inner = {"resource": "Resource", "scope": "Scope", "spans": "Span"}[name]
        return delimited(number, draw(message(inner)), width)
    if kind in MESSAGES:
        return delimited(number, draw(message(kind)), width)
    if name == "trace_id":
        return delimited(number, draw(st.sampled_from([b"\1" * 16] * 20 + [b"\0" * 16, b"", b"\1" * 15])), width)
    if name == "span_id":
        return delimited(number, draw(st.sampled_from([b"\2" * 8] * 20 + [b"\0" * 8, b"\2" * 9])), width)
    if name == "key":
        return delimited(number, draw(KEYS), width)
    if kind == "string":
        return delimited(number, draw(BROKEN_TEXTS if draw(RARELY) else TEXTS), width)
    if kind == "bytes":
        return delimited(number, draw(st.one_of(st.binary(max_size=9), NESTED)), width)
    wire = WIRE[kind]
    if wire == 0:
        return varint(number << 3, width) + varint(
            draw(st.sampled_from([0, 1, 2, 127, 128, 2**31, 2**53, -1, -(2**63)])), width
        )
    return varint(number << 3 | wire, width) + draw(
        st.binary(min_size=4 if wire == 5 else 8, max_size=4 if wire == 5 else 8)
    )


GROUP = varint(99 << 3 | 3) + varint(7 << 3) + b"\1" + varint(99 << 3 | 4)
NUMBERS = st.sampled_from([17, 99, 1000, 2**29 - 1])
LENGTHS = st.sampled_from([2**31, 2**32 + 1, 2**63, 2**64 - 1, 2**64 - 10, 2**64 - 9])
STRANGE = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([GROUP, varint(1 << 3 | 3) + varint(1 << 3 | 4), varint(99 << 3 | 3), varint(1 << 3 | 4)]),
    st.builds(lambda number, content: delimited(number, content), NUMBERS, st.binary(max_size=5)),
    st.builds(lambda number, wire: varint(number << 3 | wire) + b"\1" * 8, st.integers(0, 20), st.integers(0, 7)),
    st.builds(lambda high: varint((1 << 3 | 2) + (high << 32)) + b"\1a", st.integers(1, 2**31)),
    st.builds(lambda number, length: varint(number << 3 | 2) + varint(length) + b"a", st.integers(1, 20), LENGTHS),
    st.sampled_from([b"\x18" + b"\xff" * 9 + b"\x7f", b"\x18" + b"\xff" * 10 + b"\x01"]),
)
ONCE = {"Span": [("trace_id", "span_id")], "KeyValue": [("key", "value")] * 8 + [("key",), ("value", "key"), ()]}
ONCE["AnyValue"] = (
    [("string_value",)] * 4 + [("int_value",)] * 2 + [("bool_value",), ("array_value",), ("bytes_value",)]
)
ONCE |= {name: [tuple(MESSAGES[name])[:2]] for name in ("Request", "ResourceSpans", "ScopeSpans")}
SELDOM_MORE = set(ONCE) - {"Span"}


@st.composite
def message(draw: Any, name: str) -> bytes:
    """Bytes of a message: the fields that it usually has once, then some more, now and then in another order."""
    fields = MESSAGES[name]
    parts = [
        draw(field(each, fields[each][1], fields[each][0])) for each in draw(st.sampled_from(ONCE.get(name, [()])))
    ]
    for _ in range(draw(st.integers(0, 12)) - (9 if name in SELDOM_MORE else 5)):
        each = draw(st.sampled_from([*fields, *(["attributes"] * 6 if "attributes" in fields else [])]))
        parts.append(draw(field(each, fields[each][1], fields[each][0])))
    if draw(RARELY):
        parts.append(draw(STRANGE))
    if draw(st.integers(0, 9)) == 7:
        parts = draw(st.permutations(parts))
    return b"".join(parts)


REQUESTS = message("Request")
"""Bodies of requests."""
