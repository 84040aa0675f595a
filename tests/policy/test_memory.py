"""Whatever is asked and sent: what is remembered of it is bounded in bytes, and forgetting changes no answer."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from epoch_in_force import PARTIES

from auditspan.errors import AuditSpanError
from auditspan.policy.conditions import Compiler
from auditspan.policy.decision import Decider, FactsInvalid
from auditspan.policy.given_facts import facts_from
from auditspan.policy.memory import Memory, weigh
from auditspan.policy.reference import Reference
from auditspan.policy.yaml_text import Document

REFERENCE = Reference.packaged(PARTIES)
GIVEN = {"act": "transfer", "accelerator_model": "H200", "destination_country": "CN"}
RECORD = {"audit.event.class": "accelerator.provision", "audit.actor.id": "sha256:harbour", "cloud.region": "us-east-1"}
MEGABYTE = 1 << 20


def large_facts(number: int) -> dict[str, Any]:
    """A question of 250 KB that rules look into, like no other."""
    return {**GIVEN, "known_end_uses": [f"{number}-{k}".ljust(1_000, "x") for k in range(250)]}


def large_record(number: int) -> dict[str, Any]:
    texts = ("export_control.end_user", "cloud.provider", "host.type", "export_control.destination.country")
    return {**RECORD, **{name: f"{number}-{name}".ljust(62_000, "é") for name in texts}}


@pytest.mark.parametrize("question", [large_facts, large_record])
def test_distinct_questions_of_250_kilobytes_leave_nothing_behind(
    question: Callable[[int], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What may be kept of small ones is more: here it must show after few questions.
    monkeypatch.setattr("auditspan.policy.resolve._MOST_BYTES", MEGABYTE)
    decider = Decider(REFERENCE)
    decider.decide(question(-1), "2026-11-01")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(80):
            decider.decide(question(number), "2026-11-01")
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 5 * MEGABYTE, f"80 questions of 250 KB, 20 MB in all, left {grown:,} bytes"


def test_forgetting_by_bytes_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Decider(REFERENCE).decide(RECORD, "2026-11-01"), Decider(REFERENCE).decide(GIVEN, "2026-11-01")
    monkeypatch.setattr("auditspan.policy.resolve._MOST_BYTES", 20_000)
    monkeypatch.setattr("auditspan.policy.decision._MOST_BYTES", 600_000)
    decider = Decider(REFERENCE)
    for number in range(60):
        decider.decide({**RECORD, "export_control.quantity": number, "audit.actor.id": f"sha256:{number:064}"})
        decider.decide({**GIVEN, "quantity": number})
        assert decider._remembered.bytes <= 600_000
        assert sum(aspect.bytes for aspect in decider._resolver.aspects) <= 20_000 + 20 * 2_000
        assert (decider.decide(RECORD, "2026-11-01"), decider.decide(GIVEN, "2026-11-01")) == expected
    assert 0 < len(decider._remembered) < 120


def test_results_of_expressions_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditspan.policy.conditions._MOST_BYTES", 50_000)
    compiler = Compiler({"name": "string", "names": "strings"})
    document = Document("pack.yaml", {}, {})
    one = compiler.compile(document, (), "name == 'x1'").evaluate
    other = compiler.compile(document, (), "'x1' in names").evaluate
    memory = compiler._memory
    for number in range(500):
        assert one({"name": f"x{number}"}) is (number == 1)
        assert other({"names": (f"x{number}", "y")}) is (number == 1)
        assert memory._bytes <= 51_000
    assert 0 < sum(map(len, memory._results)) < 500
    held = memory._bytes
    assert other({"names": tuple(f"x{number}" for number in range(1_000))}) is True
    assert one({"name": "x" * 5_000}) is False
    assert memory._bytes == held, "what is long is worked out each time"


def test_a_memory_forgets_by_entries_and_by_bytes() -> None:
    few: Memory[int, str] = Memory(3, 1 << 20)
    for number in range(4):
        few.keep(number, "kept", 10)
    assert ([few.get(number) for number in range(4)], len(few)) == ([None, None, None, "kept"], 1)
    small: Memory[int, str] = Memory(1_000, 16_000)
    for number in range(100):
        small.keep(number, "kept", 800)
        assert small.get(number) == "kept"
        assert 0 < small.bytes <= 16_000
    before = len(small)
    small.keep(-1, "too large", 1_001)
    assert (small.get(-1), len(small)) == (None, before)
    small.clear()
    assert (len(small), small.bytes) == (0, 0)
    assert weigh(("é" * 1_000, ("x" * 1_000, 7, None))) > 2_000


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"declared_license": "x" * 1_025}, "'declared_license' has 1,025 characters"),
        ({"certifications": ["x" * 1_025]}, "'certifications' has 1,025 characters"),
        ({"certifications": ["x"] * 257}, "'certifications' has 257 entries"),
        ({"lading_date": "9" * 5_000}, "'lading_date'"),
        ({"itar": "no" * 400}, "'itar'"),
    ],
)
def test_a_stated_fact_that_is_too_long_is_refused_and_not_quoted(given: dict[str, Any], says: str) -> None:
    with pytest.raises(AuditSpanError, match=says) as caught:
        facts_from(REFERENCE, given)
    assert caught.value.remedy
    assert len(str(caught.value)) < 400
    with pytest.raises(FactsInvalid, match=says):
        Decider(REFERENCE).decide(given)


def test_stated_facts_may_be_as_long_as_is_said() -> None:
    facts = facts_from(REFERENCE, {"declared_license": "x" * 1_024, "known_end_uses": [f"c{k}" for k in range(256)]})
    assert len(str(facts.values["declared_license"])) == 1_024
    assert facts.values["known_end_uses"] == ("other",)
