"""What a determination lacks: named once, the most basic first, the same in the explanation as in the cases."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditspan.policy import Reference
from auditspan.policy.argument import argue
from auditspan.policy.cases import answered, next_step, question_text, registry, subject_text
from auditspan.policy.engine import Determination
from auditspan.policy.facts import BASE_FACTS
from auditspan.policy.given_facts import facts_from
from auditspan.policy.parties import Parties
from auditspan.policy.rule_time import parse_instant

REFERENCE = Reference.packaged()
ENGINE = REFERENCE.engine()
MISSING = REFERENCE.missing_facts()
H100 = "NVIDIA H100 80GB HBM3"
COMPLETE: dict[str, Any] = {
    "act": "transfer", "item_kind": "accelerator", "accelerator_model": H100, "destination_country": "SG",
    "destination_subdivision": "", "actor_known": True, "actor_party": "acme", "actor_country": "US",
    "actor_parent_country": "US", "end_user_party": "lion", "end_user_country": "SG", "end_user_parent_country": "SG",
    "end_user_listings": [],
}  # fmt: skip
ACCESS = {name: value for name, value in COMPLETE.items() if not name.startswith(("end_user", "accelerator"))} | {
    "act": "access",
    "item_kind": "model",
}
ACTS = (("transfer", "accelerator"), ("transfer", "model_weights"), ("access", "model"), ("provision", "accelerator"))
REGISTRY = b"""
version: "1"
parties:
  - {id: acme, name: Acme, country: US, ultimate_parent: self, credentials: ["sha256:aa"]}
  - {id: lion, name: Lion, country: SG}
  - {id: fox, name: Fox, ultimate_parent: {name: Nobody knows where}}
"""


def judge(given: dict[str, Any], date: str = "2026-11-24", same: bool = False) -> Determination:
    facts = facts_from(REFERENCE, given)
    if same:
        facts.known_by["end_user_party"] = "audit.actor.id"
    return ENGINE.determine([facts], parse_instant(date))


def lacking(*names: str, of: dict[str, Any] = COMPLETE, **more: Any) -> tuple[str, ...]:
    return MISSING.of(judge({name: value for name, value in of.items() if name not in names} | more))


def test_nothing_is_missing_where_the_rules_decide() -> None:
    assert judge(COMPLETE).verdict.governing == "no_license_required"
    assert lacking() == ()
    assert lacking("actor_country", destination_country="CN") == (), "a licence is required, whoever the actor is"


def test_the_fact_that_is_missing_is_named() -> None:
    assert lacking("end_user_parent_country") == ("end_user_parent_country",)
    assert lacking("destination_country", "destination_subdivision") == ("destination_country",)


def test_who_it_was_comes_before_what_is_known_of_them() -> None:
    nobody = [name for name in ACCESS if name.startswith("actor_")]
    assert lacking(*nobody, of=ACCESS, actor_known=False) == ("actor_party",)
    both = lacking(*nobody, "destination_country", "destination_subdivision", of=ACCESS, actor_known=False)
    assert both == ("actor_party", "destination_country")
    end_user = [name for name in COMPLETE if name.startswith("end_user_")]
    assert lacking(*end_user) == ("end_user_party",)


def test_an_end_user_that_is_the_actor_lacks_nothing_of_its_own() -> None:
    alone = ACCESS | {"end_user_party": "acme", "end_user_country": "US", "end_user_listings": []}
    del alone["actor_parent_country"]
    assert MISSING.of(judge(alone, same=True)) == ("actor_parent_country",)


def test_a_number_that_does_not_decide_is_named_as_rules_compare_it() -> None:
    assert lacking(accelerator_model="NVIDIA H20", destination_country="CN") == ("tpp", "performance_density")


def test_an_accelerator_of_no_table_is_one_missing_fact() -> None:
    assert lacking("accelerator_model", destination_country="CN") == ("accelerator_model",)


def test_the_explanation_names_no_other_facts() -> None:
    given = {name: value for name, value in COMPLETE.items() if name != "end_user_parent_country"}
    assert "(unknown: end user parent country)" in REFERENCE.explainer().why(judge(given))


@settings(max_examples=150, deadline=None)
@given(
    hidden=st.sets(st.sampled_from([name for name in COMPLETE if name not in ("act", "item_kind")])),
    act=st.sampled_from(
        [("transfer", "accelerator"), ("transfer", "model_weights"), ("access", "model"), ("provision", "accelerator")]
    ),
    country=st.sampled_from(["SG", "CN", "AE", "US"]),
)
def test_an_undecided_rule_always_says_what_it_waits_for(hidden: set[str], act: tuple[str, str], country: str) -> None:
    given = COMPLETE | {"act": act[0], "item_kind": act[1], "destination_country": country}
    determination = judge({name: value for name, value in given.items() if name not in hidden})
    verdict = determination.verdict
    found = MISSING.of(determination)
    undecided = [entry for entry in verdict.entries if entry.governs and not entry.certain]
    assert bool(found) == bool(undecided and verdict.governing == "review")
    assert len(set(found)) == len(found)
    assert set(found) <= {*BASE_FACTS, "tpp", "performance_density"}
    assert not {name for name in found if determination.facts.values.get(name) is not None}


def registry_of(text: bytes) -> Parties:
    artifacts = {a.name: a.content for a in Reference.packaged(text).artifacts}
    return registry(artifacts)


@pytest.mark.parametrize(
    ("subject", "question", "known"),
    [
        ("actor:sha256:aa", "actor_party", True),
        ("actor:sha256:bb", "actor_party", False),
        ("actor:sha256:aa", "destination_country", False),
        ("party:acme", "parent_country", True),
        ("party:lion", "parent_country", False),
        ("party:lion", "country", True),
        ("party:fox", "country", False),
        ("party:fox", "parent_country", False),
        ("party:gone", "country", False),
        ("emitter:gateway", "actor_party", False),
    ],
)
def test_the_registry_answers_what_it_knows(subject: str, question: str, known: bool) -> None:
    assert answered(registry_of(REGISTRY), subject, question) is known


def test_every_question_has_words_and_a_next_step() -> None:
    asked = {name.removeprefix("actor_").removeprefix("end_user_") for name in BASE_FACTS} | {"actor_party", "more"}
    for question in (*sorted(asked), "fault:time.missing", "rule:house/h200"):
        for subject, grouped in (("party:lion", 0), ("emitter:gateway", 7), ("everyone", 7)):
            said = f"{subject_text(subject, grouped)} {question_text(question)} {next_step(subject, question, grouped)}"
            assert "{" not in said and "  " not in said
    step = next_step("party:lion", "parent_country")
    assert step.startswith("add the country of the ultimate parent of lion to the party registry")
    assert subject_text("emitter:gateway", 2995) == "2,995 unknown actors at gateway"


def _terms(number: int, reads: int, rules: int = 1) -> Reference:
    """Terms that each build on the ``reads`` before it, and ``rules`` that read the last one."""
    lines = ['pack: house\nversion: "1"\ntitle: Terms upon terms\nsource: its board\ndefinitions:']
    common = "citations: [none], status: verified, effective: {from: 1970-01-01}"
    for k in range(number):
        before = [f"term_{j}" for j in range(max(0, k - reads), k)]
        when = f"[{{any: [{', '.join(before)}]}}]" if k >= reads else "[us_origin]"
        lines.append(f"  - {{id: house/term-{k}, fact: term_{k}, title: term {k}, {common}, when: {when}}}")
    lines.append("rules:")
    for k in range(rules):
        lines.append(f"  - {{id: house/rule-{k}, title: rule {k}, {common}, authority: company_policy,")
        lines.append(f"     when: [term_{number - 1}], outcome: prohibited, explanation: it holds}}")
    return Reference.load({**Reference.packaged_artifacts(), "house.yaml": "\n".join(lines).encode()}, 1)


@pytest.mark.parametrize(
    ("terms", "reads", "rules"),
    [(60, 2, 1), (1_000, 1, 1), (1_000, 8, 500)],
    ids=["each reads two", "a long chain", "many rules read the last"],
)
def test_what_is_missing_is_found_however_terms_build_upon_each_other(terms: int, reads: int, rules: int) -> None:
    reference = _terms(terms, reads, rules)
    facts = facts_from(reference, COMPLETE)
    began = time.thread_time()
    found = reference.engine().determine([facts], parse_instant("2026-11-24"))
    assert found.verdict.governing == "review"
    assert reference.missing_facts().of(found) == ("us_origin",)
    assert f"rule {rules - 1} (unknown: us origin)" in reference.explainer().why(found)
    argument = argue(reference, found)
    assert argument.missing_facts == ("us_origin",)
    # Without its memory the first takes hours, and the last as long as its rules are many.
    assert time.thread_time() - began < 5.0
