"""Packs: what is refused, where the fault is said to be, and that nothing can make a condition explode."""

from __future__ import annotations

import time

import pytest

from auditspan.policy import PolicyError, Reference
from auditspan.policy.facts import FactSet
from auditspan.policy.packs import compile_packs
from auditspan.policy.rule_time import parse_instant

HEAD = "pack: own\nversion: '1'\ntitle: own rules\nsource: nobody\n"
RULE = """rules:
  - id: own/one
    title: a rule
    citations: [internal note 1]
    authority: company_policy
    status: verified
    effective: {from: 2026-01-01}
    when: [act == 'transfer']
    outcome: review
    explanation: because of {destination_country}
"""


def test_a_sound_pack_compiles() -> None:
    packs = compile_packs([("own.yaml", (HEAD + RULE).encode())])
    assert [rule.id for rule in packs.rules] == ["own/one"]
    assert packs.versions == {"own": "1"}


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (("act == 'transfer'", "acts == 'transfer'"), 12, "no such fact: acts"),
        (("act == 'transfer'", "act == 4"), 12, "no matching overload"),
        (("act == 'transfer'", "quantity"), 12, "not a condition"),
        (("act == 'transfer'", "act.matches('(a+)+$')"), 12, "outside the grammar"),
        (("act == 'transfer'", '"[1, 2].all(x, x > 0)"'), 12, "outside the grammar"),
        (("act == 'transfer'", "quantity * quantity > 3"), 12, "outside the grammar"),
        (("act == 'transfer'", "tpp >= 4800 || act == 'transfer'"), 12, "outside the grammar"),
        (("act == 'transfer'", "4800 <= tpp"), 12, "an interval is compared alone"),
        (("act == 'transfer'", '"tpp in [4800]"'), 12, "an interval is compared alone"),
        (("2026-01-01", "2026-02-30"), 11, "day is out of range"),
        (("{from: 2026-01-01}", "{from: 2026-01-01, to: 2025-01-01}"), 11, "`to` is not after `from`"),
        (("outcome: review", "outcome: forbidden"), 13, "forbidden"),
        (("{destination_country}", "{destination}"), 14, "no such fact: {destination}"),
        (("id: own/one", "id: other/one"), 6, "is not the pack's"),
        (("    outcome: review\n", "    outcome: review\n    outcome: prohibited\n"), 14, "occurs twice"),
        (("    outcome: review\n", "    outcome: review\n    colour: red\n"), 6, "colour"),
        (("outcome: review", "outcome: &x review"), 13, "anchors"),
        (("authority: company_policy", "authority: enforcement_policy"), 6, "lifts nothing"),
        (("    outcome: review\n", "    outcome: review\n    lifts: [own/one]\n"), 6, "cannot lift"),
        (("title: a rule", "title: !!python/name:os.system x"), 7, "tags"),
        (("title: a rule", "title: [unclosed"), 0, "not YAML"),
        (("title: a rule", 'title: "\\ud800"'), 7, ""),
    ],
)
def test_a_broken_pack_is_refused_with_its_place(change: tuple[str, str], line: int, says: str) -> None:
    text = (HEAD + RULE).replace(*change)
    assert text != HEAD + RULE
    with pytest.raises(PolicyError) as caught:
        compile_packs([("own.yaml", text.encode())])
    assert says in str(caught.value)
    assert caught.value.file == "own.yaml"
    assert caught.value.remedy
    if line:
        assert caught.value.line == line


def test_an_alias_bomb_is_refused_at_once() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    started = time.thread_time()
    with pytest.raises(PolicyError, match="anchors and aliases"):
        compile_packs([("bomb.yaml", bomb.encode())])
    assert time.thread_time() - started < 1


def test_deep_nesting_and_huge_files_are_refused() -> None:
    with pytest.raises(PolicyError, match="nested deeper"):
        compile_packs([("deep.yaml", b"[" * 25 + b"]" * 25)])
    # PyYAML has a limit of its own since 6.0.4, which it may meet first.
    with pytest.raises(PolicyError, match=r"nested deeper|nesting depth"):
        compile_packs([("deeper.yaml", b"[" * 100_000)])
    with pytest.raises(PolicyError, match="bytes"):
        compile_packs([("huge.yaml", b" " * (5 * 1024 * 1024))])


def test_an_id_in_two_rules_and_a_pack_given_twice_are_refused() -> None:
    twice = HEAD + RULE + RULE.removeprefix("rules:\n")
    with pytest.raises(PolicyError, match="'own/one' occurs twice"):
        compile_packs([("own.yaml", twice.encode())])
    with pytest.raises(PolicyError, match="given twice"):
        compile_packs([("a.yaml", (HEAD + RULE).encode()), ("b.yaml", (HEAD + RULE).encode())])


def test_a_definition_cannot_read_itself_or_a_later_one() -> None:
    common = "title: t, citations: [abc], status: verified, effective: {from: 2026-01-01}"
    definition = f"""definitions:
  - {{id: own/first, fact: first, {common}, when: [second]}}
  - {{id: own/second, fact: second, {common}, when: [data_centre]}}
"""
    with pytest.raises(PolicyError, match="before its last definition"):
        compile_packs([("own.yaml", (HEAD + definition + RULE).encode())])


def test_only_a_pack_that_is_there_can_be_adopted(reference: Reference) -> None:
    artifacts = {artifact.name: artifact.content for artifact in reference.artifacts}
    for text, says in (
        (b"adopted: [{pack: none, by: me, reason: x}]", "no pack 'none'"),
        (b"adopted: [us-ear]", "object"),
    ):
        with pytest.raises(PolicyError, match=says) as caught:
            Reference.load({**artifacts, "adoptions.yaml": text}, 2)
        assert (caught.value.file, caught.value.line) == ("adoptions.yaml", 1)


def test_dates_begin_at_midnight_in_washington_and_minutes_count() -> None:
    assert parse_instant("2025-05-13") == 1747108800 * 10**9  # 04:00 UTC, daylight time
    assert parse_instant("2026-01-15") == 1768453200 * 10**9  # 05:00 UTC, standard time
    assert parse_instant("2026-06-12T17:21") == parse_instant("2026-06-12T21:21:00Z")
    assert parse_instant("2024-02-29") + 86_400 * 10**9 == parse_instant("2024-03-01")
    for wrong in ("2023-02-29", "1969-01-01", "tomorrow", "2026-1-1", "2026-01-01 10:00"):
        with pytest.raises(ValueError, match=r"."):
            parse_instant(wrong)


def test_unknown_proposals_and_adoption(reference: Reference) -> None:
    from auditspan.policy.given_facts import facts_from

    given = {
        "act": "transfer",
        "item_kind": "model_weights",
        "weights_published": False,
        "training_exaoperations": 1,
        "destination_country": "SG",
        "end_user_country": "CN",
        "end_user_parent_country": "CN",
        "us_origin_compute": True,
    }
    facts: FactSet = facts_from(reference, given)
    shadow = reference.engine().determine([facts], parse_instant("2027-01-01"))
    proposed = [entry for entry in shadow.verdict.entries if entry.rule.pack == "controlled-ai-assets"]
    assert [(entry.outcome, entry.governs, entry.authority) for entry in proposed] == [
        ("license_required", False, "proposal")
    ]
    assert shadow.verdict.governing == "review"
    assert "controlled-ai-assets/model-transfer" not in shadow.rule_ids
    before = reference.engine().determine([facts], parse_instant("2026-12-31"))
    assert not [entry for entry in before.verdict.entries if entry.rule.pack == "controlled-ai-assets"]
    artifacts = {artifact.name: artifact.content for artifact in reference.artifacts}
    adoption = b"adopted: [{pack: controlled-ai-assets, by: officer@example.com, reason: board decision 7}]"
    adopted = Reference.load({**artifacts, "adoptions.yaml": adoption}, 2)
    assert adopted.digest != reference.digest
    bound = adopted.engine().determine([facts], parse_instant("2027-01-01"))
    assert (bound.verdict.enforced, bound.verdict.governing) == ("review", "license_required")
    assert "controlled-ai-assets/model-transfer" in bound.rule_ids


def test_no_rule_about_renting_access_or_embargoes_claims_more_than_its_source(reference: Reference) -> None:
    # The regulations name exports. What they mean for renting and access is a reading, and every determination says so.
    readings = [rule for rule in reference.packs.rules if rule.id.startswith(("us-ear/iaas-", "us-ear/access-"))]
    readings += [rule for rule in reference.packs.rules if rule.id == "us-ear/embargoed-items"]
    assert len(readings) == 7
    assert {rule.status for rule in readings} == {"secondary"}
    assert all("15 CFR 746.4" in rule.citations for rule in readings if "embargoed" in rule.id)
