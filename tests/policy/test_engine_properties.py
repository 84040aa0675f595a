"""Properties: unknown never clears, more restrictive facts never clear, the same in gives the same out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditspan.canonical import canonical_json
from auditspan.policy import Reference
from auditspan.policy.engine import Verdict
from auditspan.policy.given_facts import facts_from
from auditspan.policy.packs import OUTCOMES
from auditspan.policy.rule_time import parse_instant
from auditspan.policy.vocabulary import WORDS

REFERENCE = Reference.packaged()
ENGINE = REFERENCE.engine()
COUNTRIES = st.sampled_from(
    ["US", "CN", "HK", "MO", "JP", "SG", "AE", "IL", "VN", "KH", "IR", "RU", "CU", "UA", "UA-43", "SA", "KE"]
)
MODELS = ["H100 SXM", "A30", "T4", "H20", "TPUv4", "MI300X", "B200", "RTX4090D", "RTX5090", "A800 SXM"]
DATES = st.sampled_from(
    [
        "2022-10-20",
        "2022-10-21",
        "2023-01-17",
        "2023-11-16",
        "2023-11-17",
        "2025-01-13",
        "2025-05-13",
        "2026-01-15",
        "2026-07-10",
        "2026-11-10",
        "2027-01-01",
    ]
)
LISTS = st.sampled_from(["denied-persons", "entity-list", "military-end-user", "unverified-list", "sdn", "cmic"])
USES = st.sampled_from(["military", "military_intelligence", "nuclear", "supercomputer", "advanced_ic_production"])
CERTIFICATIONS = ("parameters", "us_orders", "aggregate_share", "end_use", "know_your_customer", "laboratory_test")
ITEMS = st.one_of(
    st.fixed_dictionaries(
        {
            "act": st.sampled_from(["transfer", "provision", "inventory"]),
            "item_kind": st.just("accelerator"),
            "accelerator_model": st.sampled_from(MODELS),
        }
    ),
    st.fixed_dictionaries(
        {
            "act": st.just("transfer"),
            "item_kind": st.just("model_weights"),
            "training_exaoperations": st.sampled_from([1, 99_999_999, 100_000_000]),
            "weights_published": st.booleans(),
        }
    ),
    st.fixed_dictionaries({"act": st.just("access"), "item_kind": st.just("model")}),
)
PARTIES = st.fixed_dictionaries(
    {
        "destination_country": COUNTRIES,
        "actor_known": st.just(True),
        "actor_country": COUNTRIES,
        "actor_parent_country": COUNTRIES,
        "end_user_country": COUNTRIES,
        "end_user_parent_country": COUNTRIES,
        "end_user_listings": st.sampled_from([[], ["uae-740-supplement-8"]]),
    }
)
SOME = st.fixed_dictionaries(
    {},
    optional={
        "origin_country": COUNTRIES,
        "us_origin": st.booleans(),
        "us_content": st.sampled_from([0, 100, 101, 250, 251]),
        "foreign_direct_product": st.booleans(),
        "itar": st.booleans(),
        "lading_date": st.sampled_from([0, "2023-01-16", "2023-01-18"]),
        "available_in_us": st.booleans(),
        "end_to_end_encrypted": st.booleans(),
        "storage_country": COUNTRIES,
        "end_user_nationality": COUNTRIES,
        "end_user_government_affiliated": st.booleans(),
        "listed_ownership": st.sampled_from([0, 49, 50]),
        "actor_listings": st.lists(LISTS, max_size=1),
        "known_violation": st.booleans(),
        "known_end_uses": st.lists(USES, max_size=2),
        "certifications": st.sampled_from([[], list(CERTIFICATIONS)]),
        "transit_countries": st.lists(COUNTRIES, max_size=2),
        "declared_license": st.sampled_from(["NAC", "ACA", "TMP", "GOV", "ACM", "AIA", "LPP", "D1234567"]),
        "exception_conditions": st.sampled_from([[], sorted(WORDS["exception_conditions"])]),
        "exception_notice_date": st.sampled_from(["2022-11-01", "2023-01-01"]),
        "red_flags": st.sampled_from([[], ["vague_address"]]),
    },
)
FACTS = st.builds(lambda item, parties, some: {**item, **parties, **some}, ITEMS, PARTIES, SOME)


def judge(facts: dict[str, Any], date: str) -> Verdict:
    return ENGINE.determine([facts_from(REFERENCE, facts)], parse_instant(date)).verdict


def rank(outcome: str) -> int:
    return OUTCOMES.index(outcome)  # type: ignore[arg-type]


@given(FACTS, DATES, st.data())
@settings(max_examples=400, deadline=None)
def test_hiding_a_fact_never_clears(facts: dict[str, Any], date: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(facts.keys() - {"act", "item_kind", "actor_known"})))
    hidden = {**facts, name: None}
    if name == "accelerator_model":
        del hidden[name]
    full, less = judge(facts, date), judge(hidden, date)
    for outcome in ("text", "enforced", "governing"):
        known, unknown = rank(getattr(full, outcome)), rank(getattr(less, outcome))
        assert unknown >= min(known, rank("review")), (outcome, name)


@given(FACTS, DATES)
@settings(max_examples=200, deadline=None)
def test_a_controlled_parent_never_gives_a_less_restrictive_outcome(facts: dict[str, Any], date: str) -> None:
    # An exception may be for such parties alone: who names the wrong one is asked for a licence elsewhere.
    facts = {name: value for name, value in facts.items() if name != "declared_license"}
    friendly, controlled = ({**facts, "end_user_parent_country": country} for country in ("US", "CN"))
    assert rank(judge(controlled, date).governing) >= rank(judge(friendly, date).governing)


@given(FACTS, DATES, st.data())
@settings(max_examples=300, deadline=None)
def test_what_tells_against_a_party_or_a_use_never_gives_a_less_restrictive_outcome(
    facts: dict[str, Any], date: str, data: st.DataObject
) -> None:
    worse = data.draw(
        st.sampled_from(
            [
                {"known_violation": True},
                {"red_flags": ["no_business_case"]},
                {"listed_ownership": 50},
                {"itar": True},
                {"known_end_uses": [*facts.get("known_end_uses", []), data.draw(USES)]},
                {"end_user_listings": [*facts["end_user_listings"], data.draw(LISTS)]},
                {"actor_listings": [*facts.get("actor_listings", []), data.draw(LISTS)]},
            ]
        )
    )
    before, after = judge({"listed_ownership": 0, **facts}, date), judge({**facts, **worse}, date)
    for outcome in ("text", "enforced", "governing"):
        assert rank(getattr(after, outcome)) >= rank(getattr(before, outcome)), (outcome, worse)


@given(FACTS, DATES)
@settings(max_examples=200, deadline=None)
def test_text_is_never_less_restrictive_than_what_is_enforced(facts: dict[str, Any], date: str) -> None:
    verdict = judge(facts, date)
    assert rank(verdict.text) >= rank(verdict.enforced) == rank(verdict.governing)


@given(FACTS, DATES)
@settings(max_examples=200, deadline=None)
def test_several_candidates_take_the_most_restrictive(facts: dict[str, Any], date: str) -> None:
    instant = parse_instant(date)
    elsewhere = {**facts, "destination_country": "CN"}
    both = [facts_from(REFERENCE, facts), facts_from(REFERENCE, elsewhere)]
    ranks = [ENGINE.determine([one], instant).verdict.rank for one in both]
    assert ENGINE.determine(both, instant).verdict.rank == max(ranks)
    assert ENGINE.determine(both[::-1], instant).verdict.rank == max(ranks)


@given(st.lists(st.tuples(FACTS, DATES), min_size=2, max_size=4), st.data())
@settings(max_examples=60, deadline=None)
def test_what_was_judged_before_changes_nothing(events: list[tuple[dict[str, Any], str]], data: st.DataObject) -> None:
    # Beside events of all kinds those that differ from another in few facts, and come right after it.
    near = []
    for facts, date in events:
        names = data.draw(st.lists(st.sampled_from(sorted(facts.keys() - {"act", "item_kind"})), max_size=2))
        others = {name: data.draw(FACTS).get(name) for name in names if name != "accelerator_model"}
        near += [(facts, date), ({**facts, **others}, date), ({**facts, "exporter": "somebody"}, date)]
    engine = REFERENCE.engine()
    for facts, date in near:
        given_facts, instant = facts_from(REFERENCE, facts), parse_instant(date)
        alone = REFERENCE.engine().determine([given_facts], instant)
        assert engine.determine([given_facts], instant).document_bytes() == alone.document_bytes()
        assert engine.determine([given_facts], instant).verdict == alone.verdict


LETTER = b"""pack: directive-acme
version: "1"
title: A letter
source: the letter
rules:
  - id: directive-acme/weights
    title: Weights need a licence
    citations: ["letter of 1 December"]
    authority: directive
    status: verified
    addressee: acme
    effective: {from: 2020-01-01}
    when: [act == 'transfer', item_kind == 'model_weights', destination_country == 'JP']
    outcome: license_required
    explanation: "a letter binds {exporter}"
"""


@pytest.mark.parametrize(
    ("facts", "name", "values"),
    [
        ({"act": "transfer", "item_kind": "other"}, "declared_eccn", ["5A992.c", "5D992.c", "EAR99", "5A992.c"]),
        (
            {"act": "transfer", "item_kind": "model_weights", "destination_country": "JP"},
            "exporter",
            ["acme", "other", None, "acme"],
        ),
    ],
)
def test_what_a_verdict_rests_on_beside_conditions_is_looked_at_again(
    facts: dict[str, Any], name: str, values: list[str | None]
) -> None:
    """No condition reads these: the ECCN stands in the verdict, and a letter binds its addressee alone."""
    reference = Reference.load({**Reference.packaged_artifacts(), "directive-acme.yaml": LETTER}, 1)
    instant, engine, seen = parse_instant("2026-11-10"), reference.engine(), []
    for value in values:
        given_facts = facts_from(reference, {**facts, **({} if value is None else {name: value})})
        alone = reference.engine().determine([given_facts], instant)
        assert engine.determine([given_facts], instant).verdict == alone.verdict
        seen.append((alone.verdict.eccn, alone.verdict.rank))
    assert len({*map(repr, seen)}) > 1


@given(FACTS, DATES)
@settings(max_examples=60, deadline=None)
def test_the_same_facts_and_date_give_the_same_bytes(facts: dict[str, Any], date: str) -> None:
    instant = parse_instant(date)
    fresh = Reference.packaged().engine() if date == "2022-10-20" else REFERENCE.engine()
    one = ENGINE.determine([facts_from(REFERENCE, facts)], instant).document_bytes()
    assert one == fresh.determine([facts_from(REFERENCE, facts)], instant).document_bytes()
    assert canonical_json(json.loads(one)) == one
    start, end = (json.loads(one)["in_force"][key] for key in ("from", "to"))
    assert int(start) <= instant and (end is None or instant < int(end))
