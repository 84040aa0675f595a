"""Licence exceptions: what one takes, why it applies or does not, and that none lifts on what nobody knows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from auditspan import semconv
from auditspan.policy import PolicyError, Reference
from auditspan.policy.argument import Argument, argue
from auditspan.policy.decision import Decider, Decision
from auditspan.policy.exceptions import Considered
from auditspan.policy.facts import SELDOM_FACTS
from auditspan.policy.packs import compile_packs
from auditspan.policy.parties import Parties
from auditspan.policy.recompute import Recomputer
from auditspan.policy.rule_time import parse_instant
from auditspan.policy.stated_facts import state
from auditspan.policy.vocabulary import WORDS, license_exception

NAC: dict[str, Any] = {
    "act": "transfer",
    "movement": "export",
    "accelerator_model": "RTX5090",
    "destination_country": "CN",
    "end_user_country": "CN",
    "end_user_parent_country": "CN",
    "license": "License Exception NAC",
    "exception_conditions": ["purchase_order", "notice_authorized"],
    "notice_date": "2026-09-01",
    "lading_date": "2026-10-01",
}
STATUSES = ("verified", "secondary", "unverified")


def argued(reference: Reference, at: str = "2026-11-01", **given: Any) -> Argument:
    facts = state(reference, given, parse_instant(at)).facts
    return argue(reference, reference.engine().determine([facts], parse_instant(at)))


def considered(argument: Argument, symbol: str) -> Considered:
    (found,) = (one for one in argument.exceptions if one.rule.exception == symbol)
    return found


def test_one_that_applies_says_what_it_sets_aside(reference: Reference) -> None:
    argument = argued(reference, **NAC)
    nac = considered(argument, "NAC")
    assert argument.determination.verdict.governing == "exception"
    assert (nac.relied_on, nac.applies) == (True, True)
    assert argument.exceptions[0] == nac
    assert nac.lifts == ("us-ear/3A090.a-d145", "us-ear/3A090.a-worldwide", "us-ear/headquarters")
    assert "NAC applies" in nac.why and "us-ear/headquarters" in nac.why
    assert all(met.holds for met in nac.requirements)
    assert "notice to BIS 30 calendar days" in argument.why


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"exception_conditions": ["notice_authorized"]}, "there is a purchase order in writing"),
        ({"notice_date": "2026-09-07"}, "BIS was notified at least 25 calendar days before the export"),
        ({"accelerator_model": "H100"}, "never 3A090.c"),
        ({"end_user_listings": ["unverified-list"]}, "no party stands on"),
        ({"known_end_uses": ["supercomputer"]}, "no end use is known"),
    ],
)
def test_one_that_fails_says_at_what_in_the_argument_and_in_the_log(
    reference: Reference, change: dict[str, Any], says: str
) -> None:
    argument = argued(reference, **{**NAC, **change})
    nac = considered(argument, "NAC")
    assert (nac.relied_on, nac.applies) == (True, False)
    assert [met.requirement.says for met in nac.requirements if met.holds is False] == [
        met.requirement.says for met in nac.requirements if says in met.requirement.says
    ]
    assert nac.why.startswith("NAC is relied on, and does not apply. Not met: ") and says in nac.why
    assert f"Licence exception {nac.why} [us-ear/exception-nac: 15 CFR 740.8; 88 FR 73458]" in argument.why
    assert argument.determination.verdict.governing == "license_required"


def test_one_that_cannot_be_told_names_what_is_not_known_and_lifts_nothing(reference: Reference) -> None:
    argument = argued(reference, **{name: value for name, value in NAC.items() if name != "lading_date"})
    nac = considered(argument, "NAC")
    assert (nac.applies, argument.determination.verdict.governing) == (None, "license_required")
    assert "whether it applies cannot be told" in nac.why and "(unknown: notice days)" in nac.why
    assert [met.missing_facts for met in nac.requirements if met.holds is None] == [("notice_days",)]


def test_those_for_the_item_and_the_place_are_considered_though_nobody_relies_on_them(reference: Reference) -> None:
    argument = argued(reference, **{name: value for name, value in NAC.items() if name != "license"})
    assert [one.rule.exception for one in argument.exceptions] == ["NAC", "TMP", "RPL", "GOV"]
    unused = "NAC does not apply, since it is not relied on; its other conditions are met."
    assert considered(argument, "NAC").why == unused
    fails = "GOV is not relied on, and would not apply. Not met: it is for an"
    assert considered(argument, "GOV").why.startswith(fails)
    assert "Licence exception" not in argument.why
    said = argument.to_json()["exceptions"]
    assert [(one["exception"], one["applies"]) for one in said] == [(s, False) for s in ("NAC", "TMP", "RPL", "GOV")]
    assert {"says", "holds", "missing_facts", "citations", "status"} <= said[0]["requirements"][0].keys()


def test_none_is_considered_where_nothing_asks_for_a_licence(reference: Reference) -> None:
    quiet = argued(reference, act="transfer", accelerator_model="T4", destination_country="DE", end_user_country="DE")
    access = argued(reference, act="access", destination_country="US", actor_country="US", actor_parent_country="US")
    assert quiet.exceptions == access.exceptions == ()


def test_one_before_its_first_day_says_from_when_it_is(reference: Reference) -> None:
    nac = considered(argued(reference, "2023-11-16", **NAC), "NAC")
    assert (nac.in_force, nac.applies) == (False, False)
    assert nac.why == "NAC does not apply: it is in force from 2023-11-17 only."


def test_one_relied_on_where_nothing_needs_it_is_told_so(reference: Reference) -> None:
    given = {**NAC, "accelerator_model": None, "item_kind": "accelerator", "declared_eccn": "5A992.z"}
    given |= {"destination_country": "US", "data_centre": False, "tpp": 5000, "performance_density": 4000}
    assert "nothing asks for a licence" in considered(argued(reference, **given), "NAC").why


def test_a_rule_is_as_sure_as_its_weakest_requirement(reference: Reference) -> None:
    exceptions = [rule for rule in reference.packs.rules if rule.exception]
    assert {rule.exception for rule in exceptions} == {
        "NAC", "ACA", "TMP", "RPL", "GOV", "TSU", "HBM", "ACM", "AIA", "LPP",
    }  # fmt: skip
    for rule in exceptions:
        weakest = max((one.status for one in rule.requirements if not one.general), key=STATUSES.index)
        assert STATUSES.index(rule.status) >= STATUSES.index(weakest), rule.id
        assert license_exception(f"License Exception {rule.exception}") == rule.exception


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("nac", "NAC"),
        ("Licence exception TMP", "TMP"),
        ("740.9(a)(6)", "TMP"),
        ("15 CFR 740.13(c)", "TSU"),
        ("740.8", None),
        ("D1234567", None),
        ("", None),
        ("exception", None),
    ],
)
def test_an_exception_is_known_by_its_usual_names(text: str, symbol: str | None) -> None:
    assert license_exception(text) == symbol


def test_every_word_of_a_condition_is_asked_for_by_some_exception(reference: Reference) -> None:
    assert reference.packs.compared["exception_conditions"] == frozenset(WORDS["exception_conditions"])
    assert reference.packs.compared["red_flags"] == frozenset(WORDS["red_flags"])


def test_red_flags_of_the_registry_are_those_of_the_rules(reference: Reference) -> None:
    registry = "parties:\n  - {{id: odd, name: Odd, country: DE, ultimate_parent: self, red_flags: [{0}]}}\n"
    for word in WORDS["red_flags"]:
        parties = Parties(registry.format(word).encode(), "parties.yaml", reference.countries)
        given = {"act": "transfer", "accelerator_model": "T4", "destination_country": "DE", "end_user_party": "odd"}
        argument = argued(reference.with_parties(parties), **given)
        assert argument.determination.verdict.governing == "review"
        assert "of the eleven red flags of BIS for such circuits six are known here" in argument.why
    with pytest.raises(PolicyError, match="red_flags"):
        Parties(registry.format("odd_smell").encode(), "parties.yaml", reference.countries)


# Packs of one's own

PACK = """\
pack: own
version: "1"
title: own rules
source: nobody
exception_requirements:
  - {says: only small lots, citations: [internal note 2], status: verified, when: [quantity < 10]}
rules:
  - id: own/licence
    title: a licence
    citations: [internal note 1]
    authority: law
    status: verified
    effective: {from: 2026-01-01}
    when: [act == 'transfer']
    outcome: license_required
    explanation: a licence
  - id: own/exception
    exception: OWN
    title: an exception
    citations: [internal note 1]
    authority: law
    status: verified
    effective: {from: 2026-01-01}
    when: [act == 'transfer']
    requirements:
      - says: to Germany
        citations: [internal note 3]
        status: verified
        scope: true
        when: [destination_country == 'DE']
    outcome: exception
    lifts: [own/licence]
    explanation: excepted
"""


def test_an_exception_of_a_pack_asks_what_it_and_its_pack_ask() -> None:
    rule = compile_packs([("own.yaml", PACK.encode())]).rules[1]
    sound = {"act": "transfer", "declared_license": "OWN", "destination_country": "DE", "quantity": 9}
    assert rule.when(sound) is True
    assert [(one.says, one.scope, one.general) for one in rule.requirements] == [
        ("to Germany", True, False),
        ("only small lots", False, True),
    ]
    for change in ({"quantity": 10}, {"destination_country": "FR"}, {"declared_license": "D123"}, {"act": "access"}):
        assert rule.when({**sound, **change}) is False
    for unknown in sound:
        assert rule.when({**sound, unknown: None}) is None


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("    exception: OWN\n", "", 16, "has a symbol and requirements"),
        ("    outcome: exception\n", "    outcome: no_license_required\n", 17, "does not lift rules by law"),
        ("    lifts: [own/licence]\n", "", 17, "does not lift rules by law"),
        ("exception: OWN", "exception: own", 17, "own"),
        ("destination_country == 'DE'", "destination == 'DE'", 29, "no such fact: destination"),
        ("quantity < 10", "quantities < 10", 6, "no such fact: quantities"),
    ],
)
def test_an_exception_that_is_none_is_refused_at_its_line(old: str, new: str, line: int, says: str) -> None:
    assert old in PACK
    with pytest.raises(PolicyError, match=says) as caught:
        compile_packs([("own.yaml", PACK.replace(old, new).encode())])
    assert (caught.value.file, bool(caught.value.remedy)) == ("own.yaml", True)
    assert abs(caught.value.line - line) <= 1


def test_the_attributes_are_read_for_facts() -> None:
    assert {semconv.EXCEPTION_CONDITIONS, semconv.EXCEPTION_NOTICE_TIME, semconv.RED_FLAGS} <= set(
        semconv.READ_FOR_FACTS
    )


# As a record declares it

REGISTRY = b"""\
parties:
  - {id: acme, name: Acme Inc, country: US, ultimate_parent: self, credentials: ["sha256:acme"]}
  - {id: lion, name: Lion Games, country: CN, ultimate_parent: self}
  - {id: odd, name: Odd Games, country: DE, ultimate_parent: self, red_flags: [vague_address]}
"""
RECORD = {
    "audit.event.class": "accelerator.transfer",
    "audit.actor.id": "sha256:acme",
    "export_control.accelerator.model": "RTX5090",
    "export_control.end_user": "lion",
    "export_control.destination.country": "CN",
    "export_control.origin.country": "US",
    "export_control.license": "License Exception NAC",
    "export_control.exception.conditions": ["purchase_order", "notice_authorized"],
    "export_control.exception.notice_time": "2026-09-06T09:00:00-04:00",
    "export_control.lading_time": "2026-10-01",
}


@pytest.fixture(scope="module")
def decider() -> Decider:
    return Decider(Reference.packaged(REGISTRY))


def facts_of(decision: Decision) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(decision.document)["facts"]
    return facts


def test_a_record_relies_on_an_exception_by_its_attributes(decider: Decider) -> None:
    found = decider.decide(RECORD, "2026-11-01")
    assert (found.governing, found.flagged, found.rule_ids) == ("exception", True, ("us-ear/exception-nac",))
    facts = facts_of(found)
    assert (facts["declared_license"], facts["exception_notice_date"], facts["notice_days"]) == ("NAC", 20260906, 25)
    late = decider.decide({**RECORD, "export_control.exception.notice_time": "2026-09-07"}, "2026-11-01")
    assert (late.governing, "Not met: BIS was notified" in late.why) == ("license_required", True)


def test_what_cannot_be_read_of_it_is_not_known(decider: Decider) -> None:
    for attribute, value in (
        ("export_control.exception.notice_time", "last month"),
        ("export_control.exception.conditions", ["purchase_order", "notice_authorized", "a good name"]),
        ("export_control.license", "NAC; or none"),
    ):
        found = decider.decide({**RECORD, attribute: value}, "2026-11-01")
        assert found.governing == "license_required", attribute
    unread = decider.decide({**RECORD, "export_control.exception.notice_time": "last month"}, "2026-11-01")
    assert (facts_of(unread)["exception_notice_date"], facts_of(unread)["notice_days"]) == (None, None)


def test_a_document_has_these_facts_only_where_something_is_said(decider: Decider) -> None:
    plain = {name: value for name, value in RECORD.items() if "exception" not in name and "license" not in name}
    assert not facts_of(decider.decide(plain, "2026-11-01")).keys() & (SELDOM_FACTS.keys())
    odd = decider.decide({**plain, "export_control.end_user": "odd"}, "2026-11-01")
    assert facts_of(odd)["red_flags"] == ["vague_address"]


@pytest.mark.parametrize("declared", [["no_business_case"], ["none of your business"]])
def test_a_declaration_adds_to_the_red_flags_of_the_registry_and_undoes_none(
    decider: Decider, declared: list[str]
) -> None:
    record = {**RECORD, "export_control.end_user": "odd", "export_control.red_flags": declared}
    found = decider.decide({**record, "export_control.destination.country": "DE"}, "2026-11-01")
    assert (found.governing, "us-ear/red-flag-vague-address" in found.rule_ids) == ("review", True)


@pytest.mark.parametrize("change", [{}, {"export_control.exception.notice_time": "last month"}])
def test_a_stored_document_is_judged_again_to_the_same_bytes(decider: Decider, change: dict[str, Any]) -> None:
    at = parse_instant("2026-11-01")
    document = decider.decide({**RECORD, **change}, "2026-11-01").document
    assert Recomputer(decider.reference).document(document, (at,)) == document


def test_a_document_from_before_these_facts_is_judged_as_without_them(reference: Reference) -> None:
    given = {"act": "transfer", "accelerator_model": "T4", "destination_country": "DE", "end_user_country": "DE"}
    engine, at = reference.engine(), parse_instant("2026-11-01")
    facts = state(reference, {**given, "end_user_parent_country": "DE"}).facts
    document = engine.determine([facts], at).document_bytes()
    assert not json.loads(document)["facts"].keys() & SELDOM_FACTS.keys()
    (again,) = Recomputer(reference).determinations(document, (at,))
    assert again.verdict.governing == "no_license_required"
