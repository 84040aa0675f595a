"""The facts that follow from owners: by date, in the sealed document, and in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from auditspan.policy import PolicyError, Reference
from auditspan.policy.argument import argue
from auditspan.policy.decision import Decider
from auditspan.policy.engine import Determination
from auditspan.policy.given_facts import facts_from
from auditspan.policy.golden import Judge, parse_cases
from auditspan.policy.packs import OUTCOMES
from auditspan.policy.recompute import Recomputer
from auditspan.policy.rule_time import parse_instant
from auditspan.policy.stated_facts import state

REGISTRY = """
parties:
  - {id: acme, name: Acme Inc, country: US, ultimate_parent: self, credentials: ["sha256:a"]}
  - {id: kirin, name: Kirin Chips, country: CN, ultimate_parent: self, listings: [entity-list]}
  - id: lotus
    name: Lotus Trading
    country: SG
    owners: [{party: kirin, share: 60}, {name: Lim Wei, country: SG, share: 40}]
  - id: harbour
    name: Harbour Compute
    country: MY
    credentials: ["sha256:h"]
    owners:
      - {party: kirin, share: 30, from: 2026-11-20}
      - {name: Lim Wei, country: SG, share: 30, to: 2026-11-20}
      - {party: lotus, share: 25}
      - {name: dispersed shareholders, share: 45}
  - id: veiled
    name: Veiled Ltd
    country: MY
    owners: [{party: harbour, share: 45}, {name: Oleg, country: RU, listings: [sdn], share: null}]
  - {id: sister, name: Sister Pte, country: SG, owners: [{party: lotus, share: 100}]}
  - id: ours
    name: Ours Pte
    country: SG
    owners: [{name: Foe, listings: [our-own-list], share: 60}, {name: Ong, share: 40}]
"""
REFERENCE = Reference.packaged(REGISTRY.encode())
SALE = parse_instant("2026-11-20")
BEFORE, AFTER = SALE - 1, SALE


def judged(party: str, at: int, reference: Reference = REFERENCE, **given: Any) -> Determination:
    stated = {"act": "transfer", "accelerator_model": "T4", "destination_country": "MY", "end_user_party": party}
    return reference.engine().determine([facts_from(reference, {**stated, **given}, at)], at)


def test_a_share_counts_from_its_day_on() -> None:
    before, after = judged("harbour", BEFORE), judged("harbour", AFTER)
    assert (before.facts.values["listed_ownership"], after.facts.values["listed_ownership"]) == (25, 55)
    assert (before.verdict.governing, after.verdict.governing) == ("no_license_required", "license_required")
    # Nobody had as much as half before; then Kirin has 55, by itself and through Lotus.
    parents = [one.facts.values["end_user_parent_country"] for one in (before, after)]
    assert parents == ["MY", "CN"]


def test_the_day_is_a_boundary_of_the_engine_and_of_no_rule() -> None:
    engine = REFERENCE.engine()
    assert SALE in engine.boundaries and SALE not in Reference.packaged().engine().boundaries
    assert engine.segment(BEFORE) + 1 == engine.segment(AFTER)
    assert judged("harbour", BEFORE).in_force == judged("harbour", AFTER).in_force
    decider = Decider(REFERENCE)
    asked = {"act": "transfer", "accelerator_model": "T4", "destination_country": "MY", "end_user_party": "harbour"}
    found = [decider.decide(asked, at).governing for at in (BEFORE, AFTER, BEFORE)]
    assert found == ["no_license_required", "license_required", "no_license_required"]


def test_a_record_is_decided_as_of_its_time() -> None:
    record = {
        "audit.event.class": "accelerator.transfer",
        "audit.actor.id": "sha256:a",
        "export_control.end_user": "Harbour Compute",
        "export_control.accelerator.model": "T4",
        "export_control.destination.country": "MY",
    }
    decider = Decider(REFERENCE)
    found = [decider.decide(record, at).governing for at in (BEFORE, AFTER)]
    assert found == ["no_license_required", "license_required"]


def test_without_a_rule_time_what_depends_on_it_is_not_known() -> None:
    given = {"act": "transfer", "accelerator_model": "T4", "destination_country": "MY", "end_user_party": "harbour"}
    facts = facts_from(REFERENCE, given)
    assert "listed_ownership" not in facts.values
    assert facts.values["end_user_blocked_ownership"] is None
    assert REFERENCE.engine().determine([facts], AFTER).verdict.governing == "review"


def test_a_party_without_owners_has_the_document_it_had() -> None:
    """Byte for byte as where no owner is named anywhere."""
    plain = "".join(
        line for line in REGISTRY.splitlines(keepends=True) if line.startswith(("parties", "  - {id: acme"))
    )
    other = Reference.packaged(plain.encode())
    one, two = judged("acme", AFTER), judged("acme", AFTER, other)
    assert one.document_bytes() == two.document_bytes()
    assert "blocked_ownership" not in one.document_bytes().decode()


def test_the_document_says_what_is_known_of_owners_and_null_where_nothing_is() -> None:
    known, unknown = (json.loads(judged(party, AFTER).document_bytes()) for party in ("harbour", "veiled"))
    assert known["facts"]["end_user_blocked_ownership"] == 0
    assert known["known_by"]["end_user_blocked_ownership"] == "party registry"
    assert unknown["facts"]["end_user_blocked_ownership"] is None
    assert "end_user_blocked_ownership" not in unknown["known_by"]
    assert "actor_blocked_ownership" not in known["facts"]
    assert unknown["governing"] == "review"


@pytest.mark.parametrize("party", ["acme", "harbour", "veiled"])
@pytest.mark.parametrize("at", [BEFORE, AFTER])
def test_a_document_judged_again_is_the_same(party: str, at: int) -> None:
    document = judged(party, at).document_bytes()
    assert Recomputer(REFERENCE).document(document, [at]) == document


def test_facts_of_a_document_stated_again_do_not_clear() -> None:
    document = judged("veiled", AFTER).document()
    for reference in (REFERENCE, Reference.packaged()):
        again = state(reference, document, AFTER).facts
        assert reference.engine().determine([again], AFTER).verdict.governing == "review"


@pytest.mark.parametrize("name", ["end_user_blocked_ownership", "actor_blocked_ownership"])
def test_what_is_stated_as_unknown_does_not_clear(name: str) -> None:
    given = {"end_user_country": "US", "end_user_parent_country": "US", "actor_known": True, "actor_country": "US"}
    assert judged("acme", AFTER, **given).verdict.governing == "no_license_required"
    assert judged("acme", AFTER, **given, **{name: None}).verdict.governing == "review"


def test_a_list_of_ones_own_leaves_it_open_what_its_parties_own() -> None:
    assert judged("ours", AFTER).verdict.governing == "review"


def test_a_word_against_the_owners_never_makes_it_less() -> None:
    for word, party in ((0, "harbour"), (49, "harbour"), (50, "harbour"), (50, "lotus")):
        text = REGISTRY.replace(f"id: {party}\n", f"id: {party}\n    listed_ownership: {word}\n")
        for at in (BEFORE, AFTER):
            plain = judged("harbour", at).verdict
            stated = judged("harbour", at, Reference.packaged(text.encode())).verdict
            assert OUTCOMES.index(stated.governing) >= OUTCOMES.index(plain.governing)
    assert judged("harbour", BEFORE, Reference.packaged(text.encode())).facts.values["listed_ownership"] == 25


# In words


def test_the_chain_is_printed_with_its_shares() -> None:
    why = REFERENCE.explainer().why(judged("harbour", AFTER))
    assert (
        "Listed parties own 55 per cent of Harbour Compute (harbour) together: 30 per cent Kirin Chips (kirin), on "
        "entity-list; 25 per cent Lotus Trading (lotus) [owned 60 per cent Kirin Chips (kirin), on entity-list]."
    ) in why
    steps = argue(REFERENCE, judged("harbour", AFTER)).to_json()["steps"]
    (lists,) = (step for step in steps if step["question"] == "Does a list name a party?")
    assert any("[owned 60 per cent Kirin Chips (kirin), on entity-list]" in answer for answer in lists["answers"])


def test_what_is_open_is_printed() -> None:
    why = REFERENCE.explainer().why(judged("veiled", AFTER))
    assert "Up to 100 per cent of Veiled Ltd (veiled) may belong to listed parties, 45 surely" in why
    assert "55 per cent without an owner that is known, the share of Oleg not being known" in why
    assert "Up to 55 per cent of Veiled Ltd (veiled) may belong to blocked persons" in why


def test_the_parent_is_printed_with_the_way_to_it() -> None:
    why = REFERENCE.explainer().why(judged("sister", AFTER, accelerator_model="H100 SXM"))
    assert (
        "The ultimate parent of Sister Pte (sister) is Kirin Chips (kirin) of China (CN): 100 per cent Lotus Trading "
        "(lotus) [owned 60 per cent Kirin Chips (kirin), on entity-list]."
    ) in why
    unknown = REFERENCE.explainer().why(judged("veiled", AFTER, accelerator_model="H100 SXM"))
    assert "Who stands above Veiled Ltd (veiled) cannot be told: Harbour Compute (harbour) has 45 per cent" in unknown


def test_what_somebody_states_is_not_explained_by_the_registry() -> None:
    assert "Kirin" not in REFERENCE.explainer().why(judged("harbour", AFTER, listed_ownership=50))


def test_a_circle_is_said_to_be_one_and_a_wide_party_is_cut() -> None:
    ring = """
parties:
  - {id: one, name: One, country: SG, owners: [{party: two, share: 40}, {name: L, listings: [sdn], share: 60}]}
  - {id: two, name: Two, country: SG, owners: [{party: one, share: 100}]}
  - id: wide
    name: Wide
    country: SG
    owners: [%s]
""" % ", ".join(f"{{name: L{number}, listings: [sdn], share: 2}}" for number in range(50))  # noqa: UP031
    reference = Reference.packaged(ring.encode())
    why = reference.explainer().why(judged("one", AFTER, reference))
    assert "Blocked persons own 100 per cent of One (one) together: 60 per cent L, on sdn; 40 per cent Two (two)" in why
    assert "[in a circle]" in why
    assert "and 26 more" in reference.explainer().why(judged("wide", AFTER, reference))


# A registry in a file of golden cases

CASE = """
cases:
  - name: a party of the file
    at: 2026-11-21
    given: {act: transfer, accelerator_model: T4, destination_country: MY, end_user_party: harbour}
    text: license_required
    enforced: license_required
    governing: license_required
    flagged: true
    eccn: 3A991.p
    reviewed: false
"""


def test_golden_cases_may_bring_their_registry() -> None:
    judge = Judge(Reference.packaged())
    (case,) = parse_cases((REGISTRY + CASE).encode(), "own.yaml").cases
    assert judge.result(case).differences == ()
    (without,) = parse_cases(CASE.encode(), "own.yaml").cases
    assert judge.result(without).differences != ()


def test_a_registry_that_cannot_be_is_refused_at_its_line_in_the_file_of_cases() -> None:
    text = (REGISTRY.replace("share: 60}, {name: Lim", "share: 70}, {name: Lim") + CASE).encode()
    (case,) = parse_cases(text, "own.yaml").cases
    with pytest.raises(PolicyError, match="hold 110 per cent") as caught:
        Judge(Reference.packaged()).result(case)
    assert (caught.value.file, caught.value.line) == ("own.yaml", 8)
