"""Words of facts: one meaning in many spellings, and none that matches nothing and so clears."""

from __future__ import annotations

from typing import Any

import pytest

from auditspan.errors import AuditSpanError
from auditspan.policy import Reference
from auditspan.policy.decision import Decider, FactsInvalid
from auditspan.policy.facts import BASE_FACTS
from auditspan.policy.given_facts import facts_from
from auditspan.policy.parties import Parties
from auditspan.policy.rule_time import parse_instant
from auditspan.policy.stated_facts import state
from auditspan.policy.vocabulary import LISTINGS, WORDS, eccn, end_use, word

TO_CHINA = {"accelerator_model": "H100 SXM", "destination_country": "CN"}

T4_TO_SINGAPORE = {"accelerator_model": "T4", "destination_country": "SG"}
TECHNOLOGY = {"item_kind": "technology", "end_user_nationality": "CN"}


def governing(reference: Reference, at: str = "2026-07-24", **given: Any) -> str:
    facts = state(reference, given).facts
    return reference.engine().determine([facts], parse_instant(at)).verdict.governing


def test_the_vocabulary_is_of_facts_that_there_are_and_names_each_word_once() -> None:
    assert WORDS.keys() - {"listings"} | LISTINGS <= BASE_FACTS.keys()
    for name, words in WORDS.items():
        spellings = [spelling for one, others in words.items() for spelling in (one, *others)]
        assert len(spellings) == len(set(spellings)), name


@pytest.mark.parametrize("act", ["Transfer", "TRANSFER", "Export", "re-export", "sale", "Transfer (in-country)"])
def test_an_act_by_another_name_is_no_way_past_the_rules(reference: Reference, act: str) -> None:
    assert governing(reference, act=act, **TO_CHINA) == "license_required"


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({"act": "export", **TO_CHINA}, "license_required"),
        ({"act": "reexport", **TO_CHINA}, "license_required"),
        ({"act": "transfer", "item_kind": "weights", "destination_country": "IR"}, "license_required"),
        ({"act": "transfer", **T4_TO_SINGAPORE, "end_user_listings": ["Entity List"]}, "license_required"),
        ({"act": "release", **TECHNOLOGY, "declared_eccn": "4e091"}, "review"),
    ],
)  # fmt: skip
def test_a_program_that_asks_with_other_words_is_answered_as_a_person_is(
    reference: Reference, given: dict[str, Any], outcome: str
) -> None:
    decision = Decider(reference).decide(given, "2026-11-01")
    assert (decision.governing, decision.flagged) == (outcome, True)


@pytest.mark.parametrize("eccn", ["banana", "", "XI(b)"])
def test_a_program_that_names_no_eccn_is_refused(reference: Reference, eccn: str) -> None:
    with pytest.raises(FactsInvalid, match="no ECCN"):
        Decider(reference).decide({"act": "transfer", "declared_eccn": eccn})


@pytest.mark.parametrize("kind", ["GPU", "chip", "Accelerator", "integrated circuit"])
def test_an_item_by_another_name_is_what_it_is(reference: Reference, kind: str) -> None:
    given = {"act": "transfer", "item_kind": kind, "tpp": 5000, "performance_density": 6.0, "data_centre": True}
    assert governing(reference, destination_country="CN", **given) == "license_required"


@pytest.mark.parametrize(
    ("listing", "outcome"),
    [("Entity List", "license_required"), ("DPL", "prohibited"), ("SDN", "prohibited"), ("MEU", "license_required"),
     ("Unverified List", "review")],
)  # fmt: skip
def test_a_list_is_known_by_its_names(reference: Reference, listing: str, outcome: str) -> None:
    given = {"act": "transfer", "accelerator_model": "T4", "destination_country": "SG"}
    assert governing(reference, end_user_listings=[listing], **given) == outcome


@pytest.mark.parametrize(
    "given",
    [
        {"act": "teleport"},
        {"act": ""},
        {"item_kind": "widget"},
        {"movement": "sideways"},
        {"certifications": ["gold"]},
        {"end_user_listings": ["the other list"]},
        {"performance_density": 6},
        {"memory_bandwidth_density": "3"},
        {"us_content": 26.0},
        {"listed_ownership": 0.5},
        {"listed_ownership": 101},
    ],
)
def test_what_no_rule_could_match_is_refused_and_never_clears(reference: Reference, given: dict[str, Any]) -> None:
    with pytest.raises(AuditSpanError) as caught:
        state(reference, {"act": "transfer", "destination_country": "CN", **given})
    assert caught.value.remedy


@pytest.mark.parametrize(
    "given",
    [
        {"act": "transfer", "item_kind": "memory", "accelerator_model": "H100 SXM"},
        {"act": "transfer", "item_kind": "other", "tpp": 5000},
        {"act": "transfer", "item_kind": "other", "declared_eccn": "5A992.z"},
        {"act": "release", "item_kind": "accelerator", "end_user_nationality": "CN"},
        {"act": "release", "accelerator_model": "H100 SXM", "end_user_nationality": "CN"},
    ],
)
def test_what_is_said_to_be_two_things_is_known_as_neither(reference: Reference, given: dict[str, Any]) -> None:
    stated = state(reference, {"destination_country": "CN", **given})
    assert "item_kind" not in stated.facts.values
    verdict = reference.engine().determine([stated.facts], parse_instant("2026-07-24")).verdict
    assert verdict.governing == "review"


def test_numbers_are_read_to_the_side_on_which_no_line_is_passed(reference: Reference) -> None:
    def value(name: str, **given: Any) -> Any:
        return state(reference, given).facts.values[name]

    assert value("performance_density_low", performance_density="5.9199") == 5919
    assert value("memory_bandwidth_density", memory_bandwidth_density=2.0004) == 2001
    assert value("us_content", us_content="25.04 %") == 251
    assert value("us_content", us_content=0.25) == 250
    assert value("listed_ownership", listed_ownership="49.99%") == 49
    assert value("tpp_low", tpp="4,799.9") == 4799
    assert value("lading_date", lading_date="2023-01-18T03:00Z") == 20230117


def test_a_percentage_that_may_be_meant_is_pointed_out(reference: Reference) -> None:
    notes = state(reference, {"us_content": 26}).notes
    assert any("26 per cent would be 260" in note for note in notes)


OWN = b"""{pack: own, version: "1", title: own, source: the board, rules: [{id: own/watched, title: watched,
  status: verified, citations: [the board], authority: company_policy, effective: {from: 2020-01-01},
  outcome: review, flag: true, when: ["'our watch list' in actor_listings"], explanation: watched}]}"""


def test_a_list_or_an_end_use_that_a_pack_compares_is_one(reference: Reference) -> None:
    own = Reference.load({**Reference.packaged_artifacts(), "own.yaml": OWN}, 1)
    given = {"end_user_listings": ["our watch list"]}
    assert facts_from(own, given).values["end_user_listings"] == ("our watch list",)
    with pytest.raises(AuditSpanError, match="none of its words"):
        facts_from(reference, given)
    # What is compared with another fact is no word of this one.
    for act in ("computer", "our watch list", "CN", "named-model-1"):
        with pytest.raises(AuditSpanError, match="none of its words"):
            facts_from(own, {"act": act, **TO_CHINA})
    assert facts_from(reference, {"end_user_listings": ["entity-list"]}).values["end_user_listings"] == ("entity-list",)


@pytest.mark.parametrize(
    ("text", "means"),
    [("military end use", "military"), ("Nuclear", "nuclear"), ("wmd", "other"), ("civil", None), ("None", None)],
)
def test_an_end_use_is_known_another_or_none(text: str, means: str | None) -> None:
    assert end_use(text) == means


@pytest.mark.parametrize(
    ("text", "means"),
    [("3a090.A", "3A090.a"), ("ECCN 3A090a", "3A090.a"), ("5a002.Z.1", "5A002.z.1"), ("ear99", "EAR99"), ("?", "?")],
)
def test_an_eccn_is_written_as_the_list_writes_it(text: str, means: str) -> None:
    assert eccn(text) == means


@pytest.mark.parametrize(
    ("text", "country", "subdivision"),
    [("CHN", "CN", ""), ("Hong Kong SAR", "CN", ""), ("Macao SAR, China", "MO", ""), ("Türkiye", "TR", ""),
     ("Turkey", "TR", ""), ("Cote d'Ivoire", "CI", ""), ("U.S.", "US", ""), ("Crimea", "UA", "UA-43"),
     ("DNR", "UA", "UA-14"), ("CH", "CH", ""), ("KEN", "KE", "")],
)  # fmt: skip
def test_a_place_by_its_other_names(reference: Reference, text: str, country: str, subdivision: str) -> None:
    values = state(reference, {"destination": text}).facts.values
    assert (values["destination_country"], values["destination_subdivision"]) == (country, subdivision)


def test_a_registry_that_writes_a_list_in_words_is_understood(reference: Reference) -> None:
    text = b"parties:\n  - {id: a, name: A, country: SG, listings: [Entity List, our own watch list]}\n"
    party = Parties(text, "parties.yaml", reference.countries).by_id("a")
    assert party is not None
    assert party.listings == ("entity-list", "our own watch list")
    assert word("actor_listings", "Entity List") == "entity-list"
