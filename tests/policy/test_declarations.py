"""What an emitter declares: lenient in form, strict in meaning; unreadable is unknown, absent is not declared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditspan import semconv
from auditspan.policy import BASE_FACTS, FactSet, Reference
from auditspan.policy.declarations import DECLARATIONS, NOT_DECLARED, complete, day, declared, movement, notice_days

_REFERENCE = Reference.packaged()


def read(reference: Reference, name: str, value: Any) -> Any:
    ((fact, attribute),) = declared({name: value}, reference.countries).values()
    assert attribute == name
    return fact


def test_every_attribute_read_for_facts_states_a_declared_fact() -> None:
    assert tuple(DECLARATIONS) == semconv.READ_FOR_FACTS
    facts = [declaration.fact for declaration in DECLARATIONS.values()]
    assert len(set(facts)) == len(facts)
    assert set(facts) | NOT_DECLARED.keys() <= BASE_FACTS.keys()


@pytest.mark.parametrize(
    ("name", "value", "fact"),
    [
        (semconv.ORIGIN_COUNTRY, "hk", "CN"),
        (semconv.ORIGIN_COUNTRY, "EU", None),
        (semconv.TRANSIT_COUNTRIES, ["HK", "MO", "HK"], ("CN", "MO")),
        (semconv.TRANSIT_COUNTRIES, "HK, MO", ("CN", "MO")),
        (semconv.TRANSIT_COUNTRIES, ["HK", "nowhere"], None),
        (semconv.TRANSIT_COUNTRIES, "", None),
        (semconv.LADING_TIME, "2023-01-16T23:59:00-05:00", 20230116),
        (semconv.LADING_TIME, "2023-01-18T03:00:00Z", 20230117),
        (semconv.LADING_TIME, "2023-01-17T03:00:00+08:00", 20230116),
        (semconv.LADING_TIME, "2023-02-30", None),
        (semconv.LADING_TIME, 20230116, None),
        (semconv.US_ORIGIN, True, True),
        (semconv.US_ORIGIN, "true", None),
        (semconv.US_CONTENT, 250, 250),
        (semconv.US_CONTENT, -1, None),
        (semconv.US_CONTENT, True, None),
        (semconv.KNOWN_END_USES, ["nuclear"], ("nuclear",)),
        (semconv.KNOWN_END_USES, [], ()),
        (semconv.KNOWN_END_USES, ["Military end use"], ("military",)),
        (semconv.KNOWN_END_USES, ["civil", "commercial"], ()),
        (semconv.KNOWN_END_USES, ["Nu clear"], ("other",)),
        (semconv.KNOWN_END_USES, ["satellites"], ("other", "satellites")),
        (semconv.KNOWN_END_USES, ["a"] * 65, None),
        (semconv.MOVEMENT, "re-export", "reexport"),
        (semconv.MOVEMENT, "sideways", None),
        (semconv.ITEM_FORM, "server", "computer"),
        (semconv.ITEM_FORM, "gadget", None),
        (semconv.CERTIFICATIONS, ["parameters", "KYC"], ("know_your_customer", "parameters")),
        (semconv.CERTIFICATIONS, ["parameters", "gold"], None),
        (semconv.EXCEPTION_CONDITIONS, ["purchase_order", "PO"], ("purchase_order",)),
        (semconv.EXCEPTION_CONDITIONS, ["purchase_order", "goodwill"], None),
        (semconv.EXCEPTION_NOTICE_TIME, "2026-09-01T01:00:00Z", 20260831),
        (semconv.EXCEPTION_NOTICE_TIME, "soon", None),
        (semconv.RED_FLAGS, ["residential address"], ("vague_address",)),
        (semconv.RED_FLAGS, ["odd smell"], None),
        (semconv.CHINESE_RELATIONS, ["supplier"], ("supplier",)),
        (semconv.CHINESE_RELATIONS, "supplier, friend", None),
        (semconv.CHINESE_RELATIONS, "", None),
        (semconv.MODEL_NAME, "named-model-1", "named-model-1"),
        (semconv.MODEL_NAME, "a\x00b", None),
        (semconv.ADDED_OPERATIONS, "2.5e25", 25_000_000),
        (semconv.ADDED_OPERATIONS, "1e999", None),
        (semconv.ACTOR_NATIONALITY, object(), None),
    ],
)
def test_a_value_is_read_or_unknown(reference: Reference, name: str, value: Any, fact: Any) -> None:
    assert read(reference, name, value) == fact


@given(st.sampled_from(sorted(DECLARATIONS)), st.one_of(st.text(), st.integers(), st.booleans(), st.lists(st.text())))
def test_nothing_that_is_declared_raises(name: str, value: Any) -> None:
    fact = read(_REFERENCE, name, value)
    types = {"string": str, "int": int, "bool": bool, "strings": tuple}
    assert fact is None or isinstance(fact, types[BASE_FACTS[DECLARATIONS[name].fact].type])


@pytest.mark.parametrize(
    ("origin", "destination", "kind"),
    [
        ("US", "US", "domestic"),
        ("US", "JP", "export"),
        ("SG", "JP", "reexport"),
        ("JP", "JP", "transfer_in_country"),
        ("CN", "US", "reexport"),
        (None, "JP", None),
        ("US", None, None),
    ],
)
def test_movement_follows_from_origin_and_destination(origin: str | None, destination: str | None, kind: str) -> None:
    assert movement(origin, destination) == kind


def test_bandwidths_add_up_only_where_both_are_known() -> None:
    both, one = FactSet(), FactSet()
    both.put("dram_bandwidth", 900, "table")
    both.put("interconnect_bandwidth", 800, "table")
    one.put("dram_bandwidth", 900, "table")
    complete(both)
    complete(one)
    assert both.values["total_bandwidth"] == 1700
    assert "total_bandwidth" not in one.values


@pytest.mark.parametrize(
    ("notice", "lading", "days"),
    [
        (20260906, 20261001, 25),
        (20260907, 20261001, 24),
        (20251215, 20260109, 25),
        (20261001, 20261001, 0),
        (20261002, 20261001, 0),
        (20260906, 0, None),
        (20260906, None, None),
        (None, 20261001, None),
        (20260230, 20261001, None),
    ],
)
def test_notice_is_counted_in_calendar_days_to_the_lading(notice: Any, lading: Any, days: int | None) -> None:
    assert notice_days(notice, lading) == days


def test_no_notice_is_not_the_same_as_one_that_cannot_be_read() -> None:
    none, unread, given_ = FactSet(), FactSet(), FactSet()
    for facts in (none, unread, given_):
        facts.put("lading_date", 20261001, "event")
    unread.put("exception_notice_date", None, "event")
    given_.put("exception_notice_date", 20260901, "event")
    for facts in (none, unread, given_):
        complete(facts)
    assert "notice_days" not in none.values
    assert unread.values["notice_days"] is None
    assert given_.values["notice_days"] == 30


def test_a_day_that_does_not_exist_is_none() -> None:
    assert (day("2024-02-29"), day("2023-02-29"), day("yesterday")) == (20240229, None, None)
