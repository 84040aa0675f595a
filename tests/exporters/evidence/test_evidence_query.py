from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from auditspan.exporters.evidence.headers import ParsedHeaders, parse_headers
from auditspan.exporters.evidence.query import FIELDS, QueryInvalid, compile_query
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_world import T0, World, varied_world


@pytest.fixture(scope="module")
def leaves() -> tuple[list[dict[str, Any]], ParsedHeaders]:
    world: World = varied_world()
    headers = [row["header"] for row in world.logs[0].rows if row["payload"] is not None]
    return [json.loads(header) for header in headers], parse_headers(pa.array(headers, pa.binary()))


def _value(header: dict[str, Any], field: str) -> Any:
    value = header[field]
    if isinstance(value, dict):
        return f"sha256:{value['sha256']}"
    return int(value) if field.endswith("_time") and isinstance(value, str) else value


QUERIES: dict[str, Any] = {
    "flagged = true": lambda h: h["flagged"],
    "not flagged = true": lambda h: not h["flagged"],
    "flagged != true and class = 'model.access'": lambda h: not h["flagged"] and h["class"] == "model.access",
    "class = 'other' or class = 'audit.conflict' and sequence > 5": lambda h: (
        h["class"] == "other" or (h["class"] == "audit.conflict" and h["sequence"] > 5)
    ),
    "(class = 'other' or class = 'audit.conflict') and not sequence is null": lambda h: (
        h["class"] in ("other", "audit.conflict") and h["sequence"] is not None
    ),
    "sequence in (1, 2,13)": lambda h: h["sequence"] in (1, 2, 13),
    "sequence != 1": lambda h: h["sequence"] is not None and h["sequence"] != 1,
    "not sequence = 1": lambda h: h["sequence"] != 1,
    "asset is null": lambda h: h["asset"] is None,
    "asset is not null": lambda h: h["asset"] is not None,
    "asset = ''": lambda h: h["asset"] == "",
    "asset >= 'g'": lambda h: h["asset"] is not None and _value(h, "asset") >= "g",
    "rule_ids contains 'us-ear.744.6'": lambda h: "us-ear.744.6" in h["rule_ids"],
    "faults contains 'span.undecodable' or faults contains 'x'": lambda h: "span.undecodable" in h["faults"],
    "arrival_time >= '2026-11-24T08:00:00Z'": lambda h: int(h["arrival_time"]) >= 1_795_507_200_000_000_000,
    "event_time > '2500-01-01T00:00:00Z'": lambda h: int(h["event_time"]) > 2**63,
    "reference_epoch <= 1 and determination in ('review', 'prohibited')": lambda h: h["determination"] == "review",
    "destination = 'CN' and\n\tflagged = true": lambda h: h["destination"] == "CN" and h["flagged"],
    "emitter != 'gate''way'": lambda h: True,
    "time_basis = 'event' and outcome != 'started' and eccn = '4E091' and stream = 'stream-1'": lambda h: (
        h["time_basis"] == "event"
        and h["outcome"] not in (None, "started")
        and h["eccn"] == "4E091"
        and h["stream"] is not None
    ),
}


@pytest.mark.parametrize("text", QUERIES)
def test_a_query_selects_what_it_says(text: str, leaves: tuple[list[dict[str, Any]], ParsedHeaders]) -> None:
    headers, parsed = leaves
    selected = compile_query(text).select(parsed.table).to_pylist()
    assert selected == [bool(QUERIES[text](header)) for header in headers]
    assert None not in selected


def test_every_field_can_be_asked_for(leaves: tuple[list[dict[str, Any]], ParsedHeaders]) -> None:
    examples = {
        "text": "= 'x'",
        "integer": "= 1",
        "time": "> '2026-01-01T00:00:00Z'",
        "boolean": "= false",
        "list": "contains 'x'",
    }
    for field, kind in FIELDS.items():
        assert len(compile_query(f"{field} {examples[kind]}").select(leaves[1].table)) == len(leaves[0])


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("flagd = true", 1, "Fields: class"),
        ("flagged > true", 9, "= and != only"),
        ("flagged = 'true'", 11, "true or false"),
        ("asset = 7", 9, "a text such as"),
        ("sequence = 'x'", 12, "an integer such as"),
        ("sequence = 99999999999999999999", 12, "an integer such as"),
        ("class = ", 9, "'text'"),
        ("class = 'a' nd", 13, "and, or, the end"),
        ("", 1, "a field"),
        ("((class = 'a')", 15, ")"),
        ("class 'a'", 7, "contains, in, is"),
        ("class = 'x", 9, "'text'"),
        ("arrival_time > '2026-13-01T00:00:00Z'", 16, "a time such as"),
        ("arrival_time > '2600-01-01T00:00:00Z'", 16, "a time such as"),
        ("arrival_time > '2026-1-1T00:00:00Z'", 16, "a time such as"),
        ("rule_ids = 'a'", 1, "contains"),
        ("rule_ids is null", 1, "contains nothing"),
        ("class contains 'a'", 1, "only rule_ids and faults"),
        ("class = 'a'; drop", 12, "and, or"),
        ("class in ()", 11, "'text'"),
        ("class = 'a' OR class = 'b'", 13, "and, or"),
    ],
)
def test_an_error_points_at_the_place_and_says_what_is_allowed(text: str, place: int, hint: str) -> None:
    with pytest.raises(QueryInvalid) as caught:
        compile_query(text)
    assert f"character {place}:" in str(caught.value) and hint in str(caught.value), str(caught.value)
    marked = str(caught.value).splitlines()
    assert marked[2].index("^") - 4 == place - 1


def test_limits() -> None:
    for text in (
        "not " * 200 + "flagged = true",
        "(" * 9_000,
        "class = '" + "x" * 20_000 + "'",
        "(" * 3000 + "a" + ")" * 3000,
    ):
        with pytest.raises(QueryInvalid):
            compile_query(text)
    compile_query(" or ".join(f"sequence = {number}" for number in range(500)))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="clas=not()'\"in <>!0123456789-.,rule_ids or and\n", max_size=60))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        compile_query(text)
    except QueryInvalid as error:
        assert str(error)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40).filter(lambda text: "\x00" not in text), st.integers(-(2**63), 2**63 - 1))
def test_literals_keep_their_value(text: str, number: int) -> None:
    quoted = text.replace("'", "''")
    table = pa.table(
        {"asset": pa.array([text, text + "x", None]).dictionary_encode(), "sequence": pa.array([number, None, 0])}
    )
    selected = compile_query(f"asset = '{quoted}' and sequence = {number}").select(table)
    assert selected.to_pylist() == [True, False, False]


def test_time_literals_are_nanoseconds(leaves: tuple[list[dict[str, Any]], ParsedHeaders]) -> None:
    assert T0 == 1_795_500_000_000_000_000
    exactly = compile_query("arrival_time = '2026-11-24T06:00:00Z'").select(leaves[1].table).to_pylist()
    assert exactly.count(True) == 1 and exactly[0]
