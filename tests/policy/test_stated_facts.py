"""Facts as people state them: many spellings of one meaning, and never a guess that clears."""

from __future__ import annotations

from typing import Any

import pytest

from auditspan.errors import AuditSpanError
from auditspan.policy import BASE_FACTS, Reference
from auditspan.policy.facts import INTERVALS
from auditspan.policy.stated_facts import ALIASES, ATTRIBUTES, state


def values(reference: Reference, **given: Any) -> dict[str, Any]:
    return state(reference, given).facts.values


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"destination": "CN"}, "destination_country", "CN"),
        ({"Destination-Country": "cn"}, "destination_country", "CN"),
        ({"destination_country": "China"}, "destination_country", "CN"),
        ({"destination_country": "hong kong"}, "destination_country", "CN"),
        ({"destination_country": "UA-43"}, "destination_subdivision", "UA-43"),
        ({"export_control.destination.country": "MO"}, "destination_country", "MO"),
        ({"export_control.eccn": "3A090.a"}, "declared_eccn", "3A090.a"),
        ({"actor_nationality": "Hong Kong"}, "actor_nationality", "CN"),
        ({"transit_countries": ["Viet Nam", "my"]}, "transit_countries", ("MY", "VN")),
        ({"quantity": "1,000"}, "quantity", 1000),
        ({"quantity": 8.0}, "quantity", 8),
        ({"data_center": "yes"}, "data_centre", True),
        ({"itar": "false"}, "itar", False),
        ({"end_user_listings": "entity-list"}, "end_user_listings", ("entity-list",)),
        ({"performance_density": 5.92}, "performance_density_low", 5920),
        ({"pd": 5920}, "performance_density_high", 5920),
        ({"tpp": [4700, 4900]}, "tpp_high", 4900),
        ({"tpp": {"low": 1600, "high": 1700}}, "tpp_low", 1600),
        ({"training_operations": 1e26}, "training_exaoperations", 10**8),
        ({"training_operations": "9.9e25"}, "training_exaoperations", 99_000_000),
        ({"export_control.training_operations": "1e26"}, "training_exaoperations", 10**8),
        ({"lading_date": "2023-01-16"}, "lading_date", 20230116),
        ({"act": "re-export"}, "act", "transfer"),
        ({"act": "export"}, "movement", "export"),
        ({"class": "accelerator.provision"}, "act", "provision"),
        ({"act": "transfer", "tpp": 4800}, "item_kind", "accelerator"),
        ({"act": "transfer", "weights_published": False}, "item_kind", "model_weights"),
        ({"act": "transfer", "eccn": "3A090.c"}, "item_kind", "memory"),
        ({"act": "access", "actor_country": "CN"}, "end_user_country", "CN"),
    ],
)
def test_one_meaning_in_many_spellings(reference: Reference, given: dict[str, Any], name: str, value: Any) -> None:
    assert values(reference, **given)[name] == value


def test_one_country_of_several_that_is_none_leaves_them_all_unknown(reference: Reference) -> None:
    for countries in (["Atlantis"], ["JP", "Atlantis"]):
        stated = state(reference, {"act": "transfer", "transit_countries": countries})
        assert "transit_countries" not in stated.facts.values
        assert any("'Atlantis' is no country" in note for note in stated.notes)
    assert values(reference, transit_countries=[])["transit_countries"] == ()


def test_what_is_not_known_stays_unknown_and_is_said(reference: Reference) -> None:
    stated = state(reference, {"act": "transfer", "destination_country": "EU", "actor_country": "unknown", "tpp": None})
    assert not {"destination_country", "actor_country", "tpp_low"} & stated.facts.values.keys()
    assert any("'EU' is no country" in note for note in stated.notes)
    # The actor is taken for the end user only where nothing at all is said of one.
    assert "end_user_country" not in values(reference, actor_country="CN", end_user_party="somebody")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"destination_contry": "CN"}, "destination_country"),
        ({"tp": 4800}, "tpp"),
        ({"end_user_nationalty": "CN"}, "end_user_nationality"),
        ({"something else entirely": 1}, "--list-facts"),
        ({"destination_groups": ["D:5"]}, "follows from 'destination_country'"),
        ({"item_3a090_a": True}, "term that the packs define"),
        ({"quantity": -1}, "integer from 0"),
        ({"quantity": "many"}, "integer from 0"),
        ({"quantity": 1.5}, "integer from 0"),
        ({"itar": "perhaps"}, "true or false"),
        ({"destination_country": 7}, "text"),
        ({"tpp": [1, 2, 3]}, "[least, greatest]"),
        ({"tpp": [5, 4]}, "above the greatest"),
        ({"training_operations": "lots"}, "1.2e26"),
        ({"training_operations": "1e999999999"}, "1.2e26"),
        ({"training_operations": "1e60"}, "1.2e26"),
        ({"training_operations": 10**4000}, "1.2e26"),
        ({"training_operations": True}, "1.2e26"),
        ({"class": ["x"]}, "text"),
        ({"act": ["transfer"]}, "text"),
        ({"tpp": ["about 4800", 5000]}, "integer from 0"),
        ({"tpp": {"low": "x", "high": 3}}, "integer from 0"),
        ({"tpp": [[1], {}]}, "integer from 0"),
        ({"destination": "CN", "destination_country": "US"}, "given twice"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_could(
    reference: Reference, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(AuditSpanError) as caught:
        state(reference, given)
    assert says in str(caught.value)
    assert caught.value.remedy


def test_a_stored_document_may_be_given_as_it_is(reference: Reference) -> None:
    stated = state(reference, {"act": "transfer", "accelerator_model": "H100 SXM", "destination_country": "CN"})
    determination = reference.engine().determine([stated.facts], 1_795_500_000_000_000_000)
    again = state(reference, determination.document()).facts
    assert again.values.items() >= {(k, v) for k, v in stated.facts.values.items() if isinstance(v, str)}
    assert reference.engine().determine([again], determination.rule_time).verdict == determination.verdict


def test_other_names_are_of_facts_that_there_are() -> None:
    assert set(ALIASES.values()) <= BASE_FACTS.keys() | INTERVALS.keys()
    assert set(ATTRIBUTES.values()) <= BASE_FACTS.keys()
    assert not set(ALIASES) & (BASE_FACTS.keys() | INTERVALS.keys())
