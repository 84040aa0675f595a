"""What is read by templates is what `parse_header` reads, one by one; whatever differs is left to it."""

from __future__ import annotations

import json
import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_header import COUNTS, HASHES, ROW, TEXTS, column, table

from auditspan.canonical import canonical_json
from auditspan.ledger import header_json, header_templates
from auditspan.ledger.header import HEADER_INPUT, event_headers, log_leaf, parse_header
from auditspan.ledger.header_json import read_plain_headers
from auditspan.ledger.header_templates import HeaderTemplates

VARYING = {
    "record_id": st.text('abé"\\\x7f 7', min_size=3, max_size=3),
    "stream": st.none() | st.text("ab", min_size=2, max_size=2),
    "asset": st.none() | st.text("ab\n", min_size=1, max_size=2),
    "sequence": st.none() | st.integers(0, 300),
    "offset": st.integers(0, 2**53 - 1) | st.integers(0, 99),
    "ordinal": st.integers(0, 2**31 - 1) | st.integers(0, 9),
    "event_time": st.integers(0, 2**64 - 1) | st.integers(10**18, 10**18 + 99),
    "arrival_time": st.integers(0, 2**63 - 1) | st.integers(10**18, 10**18 + 99),
    "payload_length": COUNTS | st.integers(100, 999),
    "payload_hash": HASHES,
    "facts_hash": st.none() | HASHES,
    "outcome": st.sampled_from(["success", "started"]),
    "rule_ids": st.sampled_from([[], ["a", "b"]]),
}


def read(header: bytes) -> dict[str, Any] | None:
    """The columns of one header as `parse_header` has them; None where it has no such columns."""
    try:
        parsed = parse_header(header)
    except ValueError:
        return None
    long = [value for value in parsed.values() if isinstance(value, dict)]
    if (
        "body" in parsed
        or long
        or any(isinstance(text, dict) for name in ("faults", "rule_ids") for text in parsed[name])
    ):
        return None
    offset, ordinal = parsed.pop("position")
    parsed |= {"offset": offset, "ordinal": ordinal}
    for name in ("event_time", "arrival_time"):
        parsed[name] = int(parsed[name])
    for name in ("facts_hash", "payload_hash"):
        parsed[name] = None if parsed[name] is None else bytes.fromhex(parsed[name])
    return {name: parsed[name] for name in HEADER_INPUT.names}


def check(headers: list[bytes]) -> int:
    """That what templates read, and all that is read together, is what each header says; how many templates read."""
    # Of a slice of more, as headers of a window are.
    array = pa.array([b"before", *headers, b"after"], pa.binary()).slice(1, len(headers))
    templates = HeaderTemplates()
    for _ in range(2):
        # The second time there are templates already.
        columns, taken = templates.read(array)
        columns.validate(full=True)
        assert columns.schema == HEADER_INPUT
        wanted = [read(header) for header, each in zip(headers, taken.tolist(), strict=True) if each]
        assert columns.to_pylist() == wanted
    plain, rest = read_plain_headers(array)
    others = set(rest.tolist())
    assert plain.to_pylist() == [read(header) for row, header in enumerate(headers) if row not in others]
    return int(taken.sum())


@pytest.fixture(autouse=True)
def _read_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's reader takes what templates leave, however few."""
    monkeypatch.setattr(header_json, "_FEW", 0)


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    st.fixed_dictionaries({field.name: column(field) for field in HEADER_INPUT}),
    st.lists(st.fixed_dictionaries({}, optional=VARYING), min_size=20, max_size=60),
    st.randoms(use_true_random=False),
    st.integers(0, 8),
)
def test_headers_read_by_templates_are_those_that_each_is(
    base: dict[str, Any], rows: list[dict[str, Any]], chance: random.Random, altered: int
) -> None:
    headers = event_headers(table(*({**base, **row} for row in rows))).to_pylist()
    for _ in range(altered):
        place = chance.randrange(len(headers))
        header = bytearray(headers[place])
        at = chance.randrange(len(header))
        header[at] = chance.choice(b'0a"\\ \x00\xff{}[],:' + bytes([header[at] ^ 1]))
        headers[place] = bytes(header)
    check(headers)


def rows_like(count: int, **values: Any) -> list[dict[str, Any]]:
    """Rows as a log has them."""
    return [
        {
            **ROW,
            "offset": 1_000 + number,
            "sequence": number % 10,
            "record_id": f"record-{number:05d}",
            "event_time": 10**18 + number,
            "arrival_time": 10**18 + number,
            "payload_hash": number.to_bytes(32, "big"),
            **values,
        }
        for number in range(count)
    ]


def test_headers_of_one_shape_are_all_read_by_templates() -> None:
    headers = event_headers(table(*rows_like(500))).to_pylist()
    assert check(headers) == 500


def test_of_several_shapes_too_and_of_what_differs_only_that_is_left() -> None:
    rows = rows_like(100) + rows_like(100, stream=None, sequence=None) + rows_like(100, asset="another")
    headers = event_headers(table(*rows)).to_pylist()
    random.Random(5).shuffle(headers)
    odd = [log_leaf("ab" * 16, "audit.heartbeat", (5, 0), 77, 1, {}), b"", b"{", headers[7][:-1]]
    assert check([*headers[:50], *odd, *headers[50:]]) == 300


@pytest.mark.parametrize(
    "alter",
    [
        {"arrival_time": "9999999999999999999"},
        {"arrival_time": "0999999999999999999"},
        {"event_time": "100000000000000000x"},
        {"payload_hash": "G" * 64},
        {"payload_hash": "A" * 64},
        {"record_id": "record-\u00e9000"},
        {"record_id": 'record-"0'},
        {"position": [999, 0]},
        {"reference_epoch": -1},
        {"log_id": "g" * 32},
    ],
    ids=str,
)
def test_what_cannot_stand_in_its_place_is_left(alter: dict[str, Any]) -> None:
    """Some have the length of the others and the same bytes everywhere else."""
    headers = event_headers(table(*rows_like(50))).to_pylist()
    headers[30] = canonical_json({**json.loads(headers[30]), **alter})
    assert check(headers) == 49


@pytest.mark.parametrize("place", [0, 7, 8, 63])
def test_in_a_hash_stand_small_hexadecimal_digits_and_nothing_else(place: int) -> None:
    plain = event_headers(table(*rows_like(20))).to_pylist()
    begin = plain[11].index(b'"payload_hash":"') + len(b'"payload_hash":"')
    for byte in range(256):
        header = bytearray(plain[11])
        header[begin + place] = byte
        assert check([*plain[:11], bytes(header), *plain[12:]]) == 19 + (byte in b"0123456789abcdef")


@pytest.mark.parametrize("place", range(0, 700, 7))
def test_one_other_byte_anywhere_is_read_as_it_is_or_left(place: int) -> None:
    headers = event_headers(table(*rows_like(20))).to_pylist()
    header = bytearray(headers[11])
    header[place % len(header)] ^= 1
    headers[11] = bytes(header)
    check(headers)


def test_what_no_template_fits_costs_little() -> None:
    """Each of its own length or shape: given up soon, and read another way."""
    rows = [{**row, "outcome": f"{number:03d}"} for number, row in enumerate(rows_like(200))]
    assert check(event_headers(table(*rows)).to_pylist()) <= 10


@given(st.lists(TEXTS, min_size=16, max_size=40))
@settings(max_examples=30, deadline=None)
def test_texts_of_any_kind_are_read_as_they_are(texts: list[str]) -> None:
    rows = [{**row, "record_id": text, "asset": text} for row, text in zip(rows_like(len(texts)), texts, strict=True)]
    check(event_headers(table(*rows)).to_pylist())


def test_templates_of_one_batch_serve_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[bytes] = []

    def counted(leaf: bytes) -> Any:
        learned.append(leaf)
        return parse_header(leaf)

    monkeypatch.setattr(header_templates, "parse_header", counted)
    templates = HeaderTemplates()
    for number in range(3):
        rows = rows_like(60, outcome="success") + rows_like(60, outcome="failure")
        headers = event_headers(table(*({**row, "reference_epoch": number + 1} for row in rows)))
        assert templates.read(headers)[1].all()
    assert len(learned) == 2


def test_a_template_that_fits_none_of_the_next_batch_is_passed_over() -> None:
    templates = HeaderTemplates()
    for outcome in ("success", "failure", "success"):
        headers = event_headers(table(*rows_like(60, outcome=outcome)))
        columns, taken = templates.read(headers)
        assert taken.all()
        assert columns.to_pylist() == [read(header) for header in headers.to_pylist()]


def test_templates_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_templates, "_MOST_KEPT", 3)
    templates = HeaderTemplates()
    for width in range(1, 12):
        headers = event_headers(table(*rows_like(40, outcome="x" * width)))
        assert templates.read(headers)[1].all()


def test_nothing_is_read_of_nothing() -> None:
    assert check([]) == 0
