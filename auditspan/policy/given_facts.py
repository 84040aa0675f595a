"""Facts that a person or a program states directly, as JSON or YAML, instead of a recorded event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from auditspan.canonical import LARGEST_INTEGER
from auditspan.errors import AuditSpanError

from .accelerators import Accelerator
from .facts import BASE_FACTS, GROUP_FACTS, INTERVALS, UNDECLARED, FactSet, FactValue
from .reference import Reference

__all__ = ["facts_from"]

_GIVEN: Final = "given"
_ITEMS: Final = {"access": "model", "provision": "accelerator", "inventory": "accelerator"}


def facts_from(reference: Reference, given: Mapping[str, Any]) -> FactSet:
    """The facts that ``given`` states, completed from the tables where that follows.

    Any declared fact may be given, by name; a null or an absent one is unknown. ``tpp`` and ``performance_density``
    stand for an interval without width. A country is a code (``HK`` counts as China, ``UA-43`` sets the subdivision);
    ``accelerator_model`` brings its specification, as far as it is not given; ``end_user_party`` and ``actor_party``
    bring what the registry says. Nothing declared is ``undeclared``, not unknown,
    and where nothing is said of ``break_glass`` nobody broke it.

    Raises:
        AuditSpanError: a name that is no fact, or a value of another type.
    """
    facts = FactSet()
    for name, value in given.items():
        for fact in INTERVALS.get(name, (name,)):
            if fact not in BASE_FACTS or fact in GROUP_FACTS:
                raise AuditSpanError(
                    f"There is no fact {name!r} to give.", remedy=f"Facts are: {', '.join(sorted(BASE_FACTS))}."
                )
            facts.put(fact, _checked(fact, value), _GIVEN)
    _complete_places(reference, facts, given)
    _complete_parties(reference, facts)
    item_kind = _ITEMS.get(str(facts.values.get("act")))
    if "accelerator_model" in facts.values:
        item_kind = "accelerator"
        _complete_hardware(facts, reference.accelerators.named(str(facts.values["accelerator_model"])))
    _default(facts, "item_kind", item_kind, "act")
    _default(facts, "break_glass", False, "absent")
    for name in ("declared_eccn", "declared_license", "transfer_direction"):
        if name not in given:
            facts.put(name, UNDECLARED, "absent")
    return facts


def _checked(name: str, value: Any) -> FactValue:
    match BASE_FACTS[name].type, value:
        case _, None:
            return None
        case "string", str():
            return value
        case "bool", bool():
            return value
        case "int", int() if not isinstance(value, bool) and 0 <= value <= LARGEST_INTEGER:
            return value
        case "strings", list() if all(isinstance(item, str) for item in value):
            return tuple(sorted(set(value)))
    kind = {"int": "an integer from 0", "strings": "a list of texts", "bool": "true or false"}.get(
        BASE_FACTS[name].type, "text"
    )
    raise AuditSpanError(f"The fact {name!r} is {value!r}.", remedy=f"It takes {kind}.")


def _default(facts: FactSet, name: str, value: FactValue, known_by: str) -> None:
    if name not in facts.values:
        facts.put(name, value, known_by)


def _complete_places(reference: Reference, facts: FactSet, given: Mapping[str, Any]) -> None:
    """Countries as the rules judge them; a code that is none is unknown."""
    for name in (name for name in BASE_FACTS if name.endswith("_country")):
        code = facts.values.pop(name, None)
        facts.known_by.pop(name, None)
        place = reference.countries.place(code) if isinstance(code, str) else None
        if place is None:
            continue
        facts.put(name, place.country, _GIVEN if place.country == place.given else f"{_GIVEN} ({place.given})")
        if name == "destination_country" and "destination_subdivision" not in given:
            facts.put("destination_subdivision", place.subdivision, _GIVEN)


def _complete_parties(reference: Reference, facts: FactSet) -> None:
    for role in ("actor", "end_user"):
        party = reference.parties.named(str(facts.values.get(f"{role}_party", "")))
        if party is not None:
            facts.put(f"{role}_party", party.id, _GIVEN)
            _default(facts, f"{role}_country", party.country, "party registry")
            _default(facts, f"{role}_parent_country", party.parent.country if party.parent else None, "party registry")
            if role == "end_user":
                _default(facts, "end_user_listings", party.listings, "party registry")
    if "actor_known" not in facts.values:
        facts.put("actor_known", facts.values.get("actor_country") is not None, _GIVEN)


def _complete_hardware(facts: FactSet, accelerator: Accelerator | None) -> None:
    if accelerator is None:
        return
    facts.put("accelerator_model", accelerator.model, _GIVEN)
    for name, interval in (("tpp", accelerator.tpp), ("performance_density", accelerator.performance_density)):
        if interval is not None and f"{name}_low" not in facts.values:
            facts.put(f"{name}_low", interval.low, "accelerators table")
            facts.put(f"{name}_high", interval.high, "accelerators table")
    _default(facts, "data_centre", accelerator.data_centre, "accelerators table")
    _default(facts, "dram_bandwidth", accelerator.dram_bandwidth, "accelerators table")
    _default(facts, "interconnect_bandwidth", accelerator.interconnect_bandwidth, "accelerators table")
