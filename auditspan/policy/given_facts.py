"""Facts that a person or a program states directly, as JSON or YAML, instead of a recorded event."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from auditspan.canonical import LARGEST_INTEGER
from auditspan.errors import AuditSpanError

from .accelerators import Accelerator
from .declarations import NO_PERSON, NOT_DECLARED, complete, day
from .facts import BASE_FACTS, GROUP_FACTS, INTERVALS, UNDECLARED, FactSet, FactValue
from .reference import Reference
from .screened_facts import put_screened
from .vocabulary import LISTINGS, WORDS, eccn, end_use, license_exception, word

__all__ = ["facts_from"]

_GIVEN: Final = "given"
_ITEMS: Final = {"access": "model", "provision": "accelerator", "inventory": "accelerator"}
_LONGEST_TEXT: Final = 1_024
"""Characters of one text."""
_MOST_ENTRIES: Final = 256
"""Of one list; there are fewer countries."""
_SHOWN: Final = 100
_DATES: Final = frozenset({"lading_date", "exception_notice_date"})
_ECCN: Final = re.compile(r"[0-9][A-E][0-9]{3}(?:\.[0-9a-z.]{1,16})?|EAR99")
_OF_AN_ACCELERATOR: Final = ("accelerator_model", "tpp_low", "tpp_high")
_NO_ACCELERATOR: Final = frozenset({"memory", "model_weights", "other"})
_OF_LISTS: Final = ("listings", "possible_listings", "entry_requirements")
# Facts of a party that is not on record here: a person who states facts would have said so.
_NOT_STATED: Final[Mapping[str, FactValue]] = {
    **NOT_DECLARED,
    "end_user_listings": (),
    "actor_listings": (),
    "listed_ownership": 0,
}


def facts_from(reference: Reference, given: Mapping[str, Any], at: int | None = None) -> FactSet:
    """The facts that ``given`` states, completed from the tables where that follows.

    Any declared fact may be given, by name; a null or an absent one is unknown. ``tpp`` and ``performance_density``
    stand for an interval without width. A country is a code (``HK`` counts as China, ``UA-43`` sets the subdivision);
    ``accelerator_model`` brings its specification, as far as it is not given; ``end_user_party`` and ``actor_party``
    bring what the registry says. An ``item_kind`` that other facts contradict is not known. What nobody declares is
    known not to be declared, unless it is given as null; a date is ``YYYY-MM-DD``; ``movement`` follows from the
    countries of origin and destination. A text has at most 1,024 characters, and a list 256 of them.

    Args:
        reference: whose registry and tables complete them.
        given: facts by name.
        at: rule time in nanoseconds; without it, what owners make of a party is not known where it depends on it.

    Raises:
        AuditSpanError: a name that is no fact, a value of another type or too long, or a word that no rule knows.
    """
    facts = FactSet()
    for name, value in given.items():
        for fact in INTERVALS.get(name, (name,)):
            if fact not in BASE_FACTS or fact in GROUP_FACTS:
                raise AuditSpanError(
                    f"There is no fact {name!r} to give.", remedy=f"Facts are: {', '.join(sorted(BASE_FACTS))}."
                )
            _check_length(name, value)
            facts.put(fact, _checked(fact, _meant(reference, fact, value)), _GIVEN)
    if facts.values.get("act") in ("transfer", "release") and facts.values.get("item_kind") == "model":
        facts.put("item_kind", "model_weights", _GIVEN)
    contradictory = _is_contradictory(facts)
    if contradictory:
        del facts.values["item_kind"], facts.known_by["item_kind"]
    _complete_places(reference, facts, given)
    unknown = _complete_parties(reference, facts, at)
    _complete_screened(reference, facts, given, at)
    item_kind = _ITEMS.get(str(facts.values.get("act")))
    if "accelerator_model" in facts.values:
        # What is released is technology of it, or its source code: which, is not known.
        item_kind = None if facts.values.get("act") == "release" else "accelerator"
        _complete_hardware(facts, reference.accelerators.named(str(facts.values["accelerator_model"])))
    if not contradictory:
        _default(facts, "item_kind", item_kind, "act")
    if "exporter" not in given:
        facts.put("exporter", reference.exporter_fact, "deployment")
    for name, value in _NOT_STATED.items():
        if name not in given and name not in unknown:
            _default(facts, name, value, "absent")
    for name in ("actor_nationality", "end_user_nationality"):
        if name not in given and facts.values.get("act") in NO_PERSON:
            facts.put(name, "", "absent")
    complete(facts)
    return facts


def _meant(reference: Reference, name: str, value: Any) -> Any:
    """``value`` in the words that rules compare; what is none of a fact's words would match nothing, and clear."""
    if name == "declared_eccn" and isinstance(value, str):
        return _eccn(value)
    if name == "declared_license" and isinstance(value, str):
        return license_exception(value) or value
    if name not in WORDS and name not in LISTINGS:
        return value
    if isinstance(value, str) and BASE_FACTS[name].type == "string":
        return _word(reference, name, value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [found for item in value if (found := _word(reference, name, item)) is not None]
    return value


def _word(reference: Reference, name: str, text: str) -> str | None:
    found = word(name, text)
    if found is not None or (text and reference.quotes(name, text)):
        return found or text
    if name == "known_end_uses":
        return end_use(text)
    raise AuditSpanError(
        f"The fact {name!r} is {_shown(text)}, which is none of its words.",
        remedy=f"They are: {', '.join(WORDS['listings' if name in LISTINGS else name])}.",
    )


def _eccn(text: str) -> str:
    """As rules compare it: ``4e091`` is 4E091, and what is none would be another item than any rule is about."""
    found = eccn(text)
    if found != UNDECLARED and not _ECCN.fullmatch(found):
        raise AuditSpanError(
            f"The fact 'declared_eccn' is {text[:64]!r}, which is no ECCN.",
            remedy=f"Write it as 3A090.a, or EAR99; {UNDECLARED!r} where none is declared.",
        )
    return found


def _is_contradictory(facts: FactSet) -> bool:
    """Whether the item cannot be all that is said of it: as one kind, no rule would ask about it as the other."""
    act, kind = facts.values.get("act"), facts.values.get("item_kind")
    eccn = str(facts.values.get("declared_eccn"))
    return (
        (kind in _NO_ACCELERATOR and any(name in facts.values for name in _OF_AN_ACCELERATOR))
        or (kind == "other" and (eccn.startswith(("3A090", "4A090", "4E091")) or ".z" in eccn))
        or (act == "release" and kind in ("accelerator", "memory", "other"))
    )


def _checked(name: str, value: Any) -> FactValue:
    if name in _DATES and value is not None:
        return _day(name, value)
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
    raise AuditSpanError(f"The fact {name!r} is {_shown(value)}.", remedy=f"It takes {kind}.")


def _check_length(name: str, value: Any) -> None:
    entries = value if isinstance(value, list) else (value,)
    if len(entries) > _MOST_ENTRIES:
        raise AuditSpanError(
            f"The fact {name!r} has {len(entries):,} entries.", remedy=f"Give at most {_MOST_ENTRIES} of them."
        )
    longest = max((len(entry) for entry in entries if isinstance(entry, str)), default=0)
    if longest > _LONGEST_TEXT:
        raise AuditSpanError(
            f"A text of the fact {name!r} has {longest:,} characters.",
            remedy=f"Give at most {_LONGEST_TEXT:,}: names and codes, no descriptions.",
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _day(name: str, value: Any) -> int:
    """A calendar day as the number YYYYMMDD; 0 stays 0."""
    text = str(value)
    if text == "0":
        return 0
    number = day(f"{text[:4]}-{text[4:6]}-{text[6:]}" if text.isdecimal() and len(text) == 8 else text)
    if number is None:
        raise AuditSpanError(f"The fact {name!r} is {_shown(value)}.", remedy="It takes a day as YYYY-MM-DD.")
    return number


def _default(facts: FactSet, name: str, value: FactValue, known_by: str) -> None:
    if name not in facts.values:
        facts.put(name, value, known_by)


def _complete_places(reference: Reference, facts: FactSet, given: Mapping[str, Any]) -> None:
    """Countries as the rules judge them; a code that is none is unknown."""
    passed = facts.values.get("transit_countries")
    if isinstance(passed, tuple):
        places = [reference.countries.place(code) for code in passed]
        known = tuple(sorted({place.country for place in places if place is not None}))
        facts.put("transit_countries", known, _GIVEN)
        if None in places:
            del facts.values["transit_countries"], facts.known_by["transit_countries"]
    for name in (name for name in BASE_FACTS if name.endswith(("_country", "_nationality"))):
        if facts.values.get(name) == "" and name.endswith("_nationality"):
            continue
        code = facts.values.pop(name, None)
        facts.known_by.pop(name, None)
        place = reference.countries.place(code) if isinstance(code, str) else None
        if place is None:
            continue
        facts.put(name, place.country, _GIVEN if place.country == place.given else f"{_GIVEN} ({place.given})")
        if name == "destination_country" and "destination_subdivision" not in given:
            facts.put("destination_subdivision", place.subdivision, _GIVEN)


def _complete_parties(reference: Reference, facts: FactSet, at: int | None) -> set[str]:
    """Puts what the registry says of the parties that are named; what it leaves open of them is returned."""
    unknown: set[str] = set()
    for role in ("actor", "end_user"):
        party = reference.parties.named(str(facts.values.get(f"{role}_party", "")))
        if party is not None:
            facts.put(f"{role}_party", party.id, _GIVEN)
            for name, value in reference.ownership.facts(role, party, at).items():
                _default(facts, name, value, "party registry")
                if value is None:
                    unknown.add(name)
    if "actor_known" not in facts.values:
        facts.put("actor_known", facts.values.get("actor_country") is not None, _GIVEN)
    return unknown


def _complete_screened(reference: Reference, facts: FactSet, given: Mapping[str, Any], at: int | None) -> None:
    """Puts what the screening list says of the parties that are named, unless whoever states facts says it."""
    screening = reference.screening
    if screening is None:
        return
    for role in ("actor", "end_user"):
        name = facts.values.get(f"{role}_party")
        if not isinstance(name, str) or any(f"{role}_{what}" in given for what in _OF_LISTS):
            continue
        party = reference.parties.named(name)
        found = screening.of_name(name) if party is None else screening.of_party(party, reference.parties)
        put_screened(facts, role, found, screening.version, reference.clearances, at)


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
