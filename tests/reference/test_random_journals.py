"""Random journals, many of them hostile: the product seals byte for byte what the slow deriver derives."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .derive import OUTCOMES, Batch, Entry, Log, derive, jcs
from .product import GivenFacts, product_leaves
from .requests import SCOPE, delimited, request, resource, span, varint

SECOND = 10**9
NOW = 1_795_500_000 * SECOND
LOG = Log("random", "sqlite:random", "0f" * 16, "events-0", 1, NOW)
SALT_KEY = b"\x07" * 32

KEYS = [
    "audit.event.class",
    "audit.record.id",
    "audit.action",
    "audit.outcome",
    "audit.target.id",
    "audit.sequence.number",
    "export_control.end_user",
    "export_control.quantity",
    "export_control.weights_published",
    "http.route",
    "",
]
CLASSES = [
    "model.access",
    "accelerator.inventory",
    "export.request",
    "license.used",
    "evidence.x",
    "other",
    "audit.gap",
    "audit.stream.closed",
    "audit.conflict",
    "Model.Access",
]
SHIFTS = [0, 1, -1, 60 * SECOND, 300 * SECOND, 300 * SECOND + 1, -7 * 86_400 * SECOND, -7 * 86_400 * SECOND - 1]

texts = st.one_of(
    st.sampled_from(["", "a", "x" * 256, "x" * 257, "✓" * 86, '"\\/\n\0\x7f\u2028', "\U0001f512"]), st.text(max_size=8)
)
values = st.one_of(
    texts,
    st.sampled_from([0, -1, 3, 2**53, True, 1.5, None, b"\xff", ["a", [1]]]),
)
classes = st.tuples(st.just("audit.event.class"), st.sampled_from(CLASSES))
sequences = st.tuples(st.just("audit.sequence.number"), st.integers(0, 7))
odd = st.tuples(st.sampled_from(KEYS), values)
pairs = st.lists(st.one_of(classes, sequences, odd), max_size=5)
times = st.one_of(st.just(0), st.sampled_from(SHIFTS).map(lambda shift: NOW + shift), st.sampled_from([1, 2**64 - 1]))
ids = st.one_of(st.none(), st.none(), st.none(), st.sampled_from([b"", bytes(16), bytes(8), b"\x01" * 16, b"\x02" * 8]))
resources = st.one_of(
    st.lists(
        st.one_of(
            st.tuples(st.just("audit.source.id"), st.sampled_from(["s", "t", "", "é" * 65, 4])),
            st.tuples(st.sampled_from(["service.name", "export_control.end_user", "x"]), values),
        ),
        max_size=3,
    ).map(resource),
    st.just(resource({"audit.source.id": "s"})),
)


@st.composite
def spans(draw: st.DrawFn) -> bytes:
    made = span(
        draw(st.integers(1, 4)),
        draw(pairs),
        start=draw(times),
        end=draw(times),
        trace_id=draw(ids),
        span_id=draw(ids),
    )
    return made + draw(
        st.sampled_from([b"", b"", b"", b"\x0a\xff", varint(40 << 3 | 3) + varint(40 << 3 | 4), b"\x28\x05"])
    )


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    kind = draw(st.integers(0, 9))
    body = request(draw(resources), draw(st.lists(spans(), min_size=1, max_size=4)), SCOPE)
    if kind == 0:
        return draw(st.binary(max_size=12))
    if kind == 1:
        place = draw(st.integers(0, len(body) - 1))
        return body[:place] + bytes([draw(st.integers(0, 255))]) + body[place + 1 :]
    if kind == 2:
        twice = delimited(1, draw(resources)) * 2
        return body + delimited(1, twice + delimited(2, delimited(2, draw(spans()))))
    if kind == 3:
        return body + delimited(1, delimited(2, delimited(1, SCOPE) * 2 + delimited(2, draw(spans()))))
    return body


@st.composite
def journals(draw: st.DrawFn) -> tuple[list[Entry], list[Batch]]:
    entries: list[Entry] = []
    before: list[bytes] = []
    arrival = NOW
    for offset in range(draw(st.integers(1, 9))):
        arrival += draw(st.sampled_from([0, 1, SECOND, -SECOND, 59 * SECOND, 61 * SECOND, 7 * 86_400 * SECOND]))
        kind = draw(st.sampled_from(["otlp"] * 12 + ["undecodable", "heartbeat", "heartbeat"]))
        body = draw(st.one_of(bodies(), st.sampled_from(before)) if before else bodies()) if kind == "otlp" else b"{}"
        if kind == "otlp":
            before.append(body)
        emitter = draw(st.sampled_from(["a", "a", "a", "b", "é" * 128]))
        entries.append(Entry(offset, kind, emitter, "bearer", arrival, "otlp_proto", body))
    ends = sorted({*draw(st.lists(st.integers(1, len(entries)), max_size=3)), len(entries)})
    epoch = [Batch(end, 1, "ab" * 32, "software ✓") for end in ends]
    return entries, epoch


class MadeFacts(GivenFacts):
    """Facts for whatever is asked, made from the position."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, int], bytes] = {}
        super().__init__(self.made)

    def determine(self, spans: pa.Table) -> pa.Table:
        columns = [spans[name].to_pylist() for name in ("entry", "ordinal", "time_basis")]
        for entry, ordinal, basis in zip(*columns, strict=True):
            offset = self.first_offset + entry
            one, two = (self._document(offset, ordinal, number) for number in (0, 1))
            self.made[offset, ordinal] = jcs({"v": 1, "both": [one, two]} if basis == "both" else one)
        return super().determine(spans)

    @staticmethod
    def _document(offset: int, ordinal: int, number: int) -> dict[str, Any]:
        chance = hashlib.sha256(f"{offset}/{ordinal}/{number}".encode()).digest()
        governing = OUTCOMES[chance[0] % 5]
        rules = [{"id": f"r{chance[place] % 4}", "governs": bool(chance[place] & 16)} for place in (1, 2)]
        return {
            "v": 1,
            "rules": sorted(rules, key=lambda rule: str(rule["id"])),
            "governing": governing,
            "flagged": bool(chance[3] & 1),
            "destination": ["DE", "CN", None][chance[4] % 3],
            "eccn": ["4E091", None][chance[5] % 2],
        }


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(journals())
def test_product_and_deriver_agree(journal: tuple[list[Entry], list[Batch]]) -> None:
    entries, batches = journal
    facts = MadeFacts()
    product = product_leaves(LOG, entries, batches, SALT_KEY, facts)
    derived = derive(LOG, entries, batches, SALT_KEY, facts.made).leaves
    for made, expected in zip(product, derived, strict=False):
        assert json.loads(made) == json.loads(expected)
    assert product == derived


def test_the_deriver_shares_no_code_with_the_product() -> None:
    code = (
        "import sys; import reference.derive, reference.journal, reference.tree, reference.notes, reference.requests;"
        "print([name for name in sys.modules if name.split('.')[0] in {'auditspan', 'pyarrow', 'numpy', 'ptars'}])"
    )
    tests = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=tests, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
