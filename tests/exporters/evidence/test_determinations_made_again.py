"""The verifier makes every revealed determination again, from the enclosed packs and the sealed facts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from auditspan.exporters.evidence.judging import Judge, JudgeFailed, Limits
from auditspan.exporters.evidence.report import Report
from auditspan.exporters.evidence.verify import verify_package
from exported import export
from judged_world import ARTIFACTS, CHINA, GERMANY, SOFTWARE, UNKNOWN, changed, judged, judged_world, milder
from sealed_world import SECOND, T0, World, jcs

from auditspan.policy.rules import Rules
from auditspan.store.clickhouse import ClickHouseStore

Verified = Callable[..., Report]
DAY = 86_400 * SECOND


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseStore]:
    made = ClickHouseStore.embedded(tmp_path_factory.mktemp("judged") / "store")
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def verified(shared: ClickHouseStore, tmp_path: Path) -> Verified:
    """Exports a deployment and verifies the package."""

    def make(world: World, **options: Any) -> Report:
        world.store_into(shared)
        folder = tmp_path / f"package-{len(list(tmp_path.iterdir()))}"
        export(shared, world, folder, **{"time_from": 0, "time_to": 2**62} | options)
        return verify_package(folder, world.trust)

    return make


def both(event: dict[str, Any], arrival: dict[str, Any]) -> dict[str, Any]:
    return {"v": 1, "both": [event, arrival]}


def test_the_facts_of_the_tests_are_judged_in_different_ways() -> None:
    outcomes = [judged(each)["governing"] for each in (CHINA, GERMANY, UNKNOWN)]
    assert outcomes[0] in ("license_required", "prohibited") and len(set(outcomes)) > 1
    assert judged(CHINA)["flagged"]


def test_honest_determinations_are_made_again(verified: Verified) -> None:
    world = judged_world("honest")
    log = world.logs[0]
    for number in range(3, 60):
        log.event(T0 + number * SECOND, sequence=number, facts=judged((CHINA, GERMANY, UNKNOWN)[number % 3]))
    old = T0 + 61 * SECOND - 400 * DAY
    log.event(
        T0 + 61 * SECOND,
        sequence=61,
        event_time=old,
        basis="both",
        faults=["time.outside_window"],
        facts=both(judged(CHINA, old), judged(CHINA, T0 + 61 * SECOND)),
        determination=judged(CHINA)["governing"],
    )
    log.event(T0 + 62 * SECOND, sequence=62, kind="other", facts=None)
    world.batch(T0 + 63 * SECOND)
    report = verified(world)
    assert report.verdict == "VALID", report.faults[:5]
    assert report.determinations == {"facts": 61, "made_again": 61, "documents": 4, "differing": 0, "not_confirmed": 0}
    assert any("registry, lists and addresses" in sentence for sentence in report.not_proven)


def test_a_milder_determination_with_all_hashes_made_to_fit_is_found(verified: Verified) -> None:
    world = judged_world("milder")
    honest = judged(CHINA)
    leaf = world.logs[0].event(T0 + 2 * SECOND, sequence=3, facts=changed(honest, milder))
    world.logs[0].event(T0 + 3 * SECOND, sequence=4, facts=honest)
    world.batch(T0 + 4 * SECOND)
    report = verified(world)
    assert report.fault_counts == {"determination.mismatch": 1}
    (fault,) = report.faults
    assert fault.leaf == (world.logs[0].log_id, leaf)
    assert f"governing {honest['governing']}" in fault.expected
    assert "governing no_license_required" in fault.actual
    assert report.determinations["differing"] == 1


TERM = Rules.of(ARTIFACTS).packs.definitions[0].fact
"""What a pack defines follows from facts."""


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "text": lambda it: it.update(text="review"),
    "enforced": lambda it: it.update(enforced="review"),
    "flagged": lambda it: it.update(flagged=not it["flagged"]),
    "a rule less": lambda it: it["rules"].pop(),
    "a rule that governs no more": lambda it: next(r for r in it["rules"] if r["governs"]).update(governs=False),
    "in_force": lambda it: it["in_force"].update({"from": "0"}),
    "destination": lambda it: it.update(destination="DE"),
    "eccn": lambda it: it.update(eccn="EAR99"),
    "groups": lambda it: it["facts"].update(destination_groups=["A:5"]),
    "a term": lambda it: it["facts"].update(
        {name: not it["facts"][name] for name in [next(n for n, how in it["known_by"].items() if how == "definition")]}
    ),
}


def test_whatever_follows_from_the_facts_is_compared(verified: Verified) -> None:
    world = judged_world("changed")
    honest = judged(CHINA)
    leaves = {}
    for number, (name, change) in enumerate(CHANGES.items()):
        false = changed(honest, change)
        assert false != honest, name
        leaves[world.logs[0].event(T0 + 2 * SECOND + number, sequence=3 + number, facts=false)] = name
    world.batch(T0 + 4 * SECOND)
    report = verified(world)
    assert set(report.fault_counts) == {"determination.mismatch"}, report.faults
    assert {fault.leaf for fault in report.faults} == {(world.logs[0].log_id, leaf) for leaf in leaves}


def test_the_law_of_another_day_is_found(verified: Verified) -> None:
    world = judged_world("another day")
    leaf = world.logs[0].event(T0 + 2 * SECOND, sequence=3, facts=judged(CHINA, T0 - 2_000 * DAY))
    world.batch(T0 + 4 * SECOND)
    report = verified(world)
    assert report.fault_counts == {"determination.mismatch": 1}
    assert report.faults[0].leaf == (world.logs[0].log_id, leaf)


def test_a_single_document_where_both_times_count_is_found(verified: Verified) -> None:
    world = judged_world("single")
    leaf = world.logs[0].event(
        T0 + 2 * SECOND,
        sequence=3,
        event_time=T0 - 400 * DAY,
        basis="both",
        faults=["time.outside_window"],
        facts=judged(CHINA, T0),
    )
    world.batch(T0 + 4 * SECOND)
    report = verified(world)
    assert report.fault_counts == {"determination.mismatch": 1}
    assert report.faults[0].leaf == (world.logs[0].log_id, leaf)


def test_an_older_pack_of_the_same_name_is_found(verified: Verified) -> None:
    """The epoch is sealed with it, and what was determined under the newer one does not follow from it."""
    world = judged_world("older pack")
    law = ARTIFACTS["us-ear.yaml"].replace(b"outcome: license_required", b"outcome: review")
    world.artifacts = {**ARTIFACTS, "us-ear.yaml": law}
    world.activate(2)
    world.logs[0].event(T0 + 2 * SECOND, sequence=3, facts=judged(CHINA))
    world.batch(T0 + 3 * SECOND)
    leaf = world.logs[0].event(T0 + 4 * SECOND, sequence=4, facts=judged(CHINA))
    world.batch(T0 + 5 * SECOND)
    report = verified(world)
    assert report.fault_counts == {"determination.mismatch": 1}, report.faults
    assert report.faults[0].leaf == (world.logs[0].log_id, leaf)


def test_many_are_counted_and_few_are_told(verified: Verified) -> None:
    world = judged_world("many")
    false = changed(judged(CHINA), milder)
    for number in range(450):
        world.logs[0].event(T0 + SECOND + number, sequence=number + 3, facts=false)
    world.batch(T0 + 4 * SECOND)
    report = verified(world)
    assert report.fault_counts == {"determination.mismatch": 450}
    assert len(report.faults) < 450 and report.determinations["documents"] == 4


@pytest.mark.parametrize("sealed_by", ["test", "auditspan 99.0.0", "auditspan unknown", "auditspan", ""])
def test_what_software_sealed_that_is_not_known_here_is_said_and_is_no_fault(
    sealed_by: str, verified: Verified
) -> None:
    world = judged_world(f"by {sealed_by}", software=sealed_by)
    leaf = world.logs[0].event(T0 + 2 * SECOND, sequence=3, facts=changed(judged(CHINA), milder))
    world.batch(T0 + 4 * SECOND)
    report = verified(world)
    assert report.verdict == "VALID", report.faults[:5]
    assert report.determinations["not_confirmed"] == 1 and report.determinations["made_again"] == 4
    (said,) = [sentence for sentence in report.not_proven if "does not know" in sentence]
    assert repr(sealed_by) in said and f"leaf {leaf} of {world.logs[0].log_id}" in said


def test_each_batch_is_held_to_the_software_that_sealed_it(verified: Verified) -> None:
    """Three batches in one window of the verifier, and one over several."""
    world = judged_world("several")
    log = world.logs[0]
    false = changed(judged(CHINA), milder)
    wrong = []
    for number, sealed_by in enumerate(("auditspan 99.0.0", SOFTWARE, "other")):
        log.software = sealed_by
        wrong.append(log.event(T0 + (2 + number) * SECOND, sequence=3 + number, facts=false))
        world.batch(T0 + (2 + number) * SECOND)
    report = verified(world)
    assert [fault.leaf for fault in report.faults] == [(log.log_id, wrong[1])]
    assert report.determinations["not_confirmed"] == 2
    assert f"leaf {wrong[0]} " in "".join(report.not_proven) and f"leaf {wrong[2]} " in "".join(report.not_proven)


PACK = b"""\
pack: own
version: "1"
title: own rules
source: nobody
rules:
  - id: own/one
    title: one
    citations: [internal note 1]
    authority: company_policy
    status: verified
    effective: {from: 2026-01-01}
    when: [%s]
    outcome: review
    explanation: one
"""
TABLES = {name: content for name, content in ARTIFACTS.items() if name.endswith(".csv")}
BROKEN: dict[str, dict[str, bytes]] = {
    "no YAML": {"own.yaml": b"rules: [\n"},
    "no UTF-8": {"own.yaml": b"\xff\xfe\x00"},
    "no pack": {"own.yaml": b"rules: []\n"},
    "anchors": {"own.yaml": b"a: &a [1]\nb: [*a, *a]\n"},
    "deep": {"own.yaml": b"[" * 10_000},
    "an undeclared fact": {"own.yaml": PACK % b"secrets == 'x'"},
    "a call": {"own.yaml": PACK % b"matches(act, '(a+)+$')"},
    "a tag": {"own.yaml": b"!!python/object/apply:os.system ['true']\n"},
    "a long expression": {"own.yaml": PACK % (b"act == '" + b"x" * 5_000 + b"'")},
    "too large": {"own.yaml": b"#" * (5 << 20)},
    "far too large": {f"own-{number}.yaml": b"#" * (4 << 20) for number in range(5)},
    "no table": {"countries.csv": b"x"},
    "a pack twice": {"one.yaml": PACK % b"itar", "two.yaml": PACK % b"itar"},
    "adopted that is none": {"adoptions.yaml": b"adopted: [{pack: x, by: y, reason: z}]\n"},
}


def test_packs_that_cannot_be_loaded_are_a_fault(verified: Verified) -> None:
    """An epoch for each way in which they may be broken; each is told once, at the first leaf that needs it."""
    world = judged_world("broken")
    log = world.logs[0]
    leaves = {}
    for number, (name, artifacts) in enumerate(BROKEN.items()):
        world.artifacts = {**TABLES, **artifacts}
        world.activate(number + 2)
        world.batch(T0 + 2 * number * SECOND)
        log.event(T0 + 2 * number * SECOND, sequence=10 + 3 * number, kind="other", facts=None)
        leaves[log.event(T0 + 2 * number * SECOND + 1, sequence=11 + 3 * number, facts=judged(CHINA))] = name
        log.event(T0 + 2 * number * SECOND + 2, sequence=12 + 3 * number, facts=judged(CHINA))
        world.batch(T0 + (2 * number + 1) * SECOND)
    report = verified(world)
    assert report.fault_counts == {"reference.malformed": len(BROKEN)}, report.faults
    assert {fault.leaf for fault in report.faults} == {(log.log_id, leaf) for leaf in leaves}
    assert report.determinations["made_again"] == 3


def test_an_epoch_without_tables_is_a_fault(verified: Verified) -> None:
    world = World("no tables", 1, artifacts={"own.yaml": PACK % b"itar"}, software=SOFTWARE)
    leaf = world.logs[0].event(T0 + 1, sequence=1, facts=judged(CHINA))
    world.batch(T0 + SECOND)
    report = verified(world)
    assert report.fault_counts == {"reference.malformed": 1}
    assert report.faults[0].leaf == (world.logs[0].log_id, leaf)


STRANGE: list[Any] = [
    {"v": 2},
    {"both": []},
    {"facts": {"act": 5, "destination_country": {"a": []}, "tpp_low": "x", "end_user_listings": [1, None]}},
    {"facts": {"act": [[]], "transit_countries": {"x": 1}}},
    {"known_by": {"act": ["x"]}},
    {"facts": {"tpp_low": 2**53 - 1, "tpp_high": -1, "act": "\u0000" * 500}},
    {"facts": {"act": "\ud800"}},
]


def test_facts_of_any_kind_are_a_mismatch_and_raise_nothing() -> None:
    honest = judged(CHINA)
    documents = [json.dumps({**honest, **strange}).encode() for strange in STRANGE]
    judge = Judge(ARTIFACTS)
    try:
        told = judge.compare((document, [T0]) for document in [*documents, b"", b"[]", b"\xff", jcs(honest)])
    finally:
        judge.close()
    assert all(told[:-1]) and told[-1] is None


def test_a_judge_that_ends_is_said_to_have(tmp_path: Path) -> None:
    judge = Judge(ARTIFACTS)
    judge._process.kill()
    with pytest.raises(JudgeFailed, match="status -9"):
        judge.compare([(jcs(judged(CHINA)), [T0])])


def test_packs_that_take_too_much_are_refused() -> None:
    heavy = PACK % b"itar" + b"obligations: [" + b",".join([b"[]"] * 200_000) + b"]\n"
    assert len(heavy) < 4 << 20
    with pytest.raises(JudgeFailed, match="more time than"):
        Judge({**TABLES, "own.yaml": heavy}, Limits(loading_seconds=1))
    with pytest.raises(JudgeFailed):
        Judge({**TABLES, "own.yaml": heavy}, Limits(memory=200 << 20))
