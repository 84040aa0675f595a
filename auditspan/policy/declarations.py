"""What an emitter declares of an item, a person or an end use beside what the log reads itself, as facts.

The attributes are read for the determination alone. What is absent is known not to have been declared; what is there
and cannot be read makes its fact unknown, so that it never clears.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from auditspan import semconv
from auditspan.canonical import LARGEST_INTEGER

from .countries import Countries
from .facts import UNDECLARED, FactSet, FactValue
from .rule_time import WASHINGTON
from .vocabulary import OTHER_END_USE, end_use, word

__all__ = ["DECLARATIONS", "NOT_DECLARED", "complete", "day", "declared", "exaoperations", "movement", "notice_days"]

_MOST_ENTRIES: Final = 64
_DAY: Final = re.compile(r"^(\d{4}-\d{2}-\d{2})(?:[T ](.+))?$")
_WORD: Final = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,63}$")
_LONGEST_WORD: Final = 65
"""One character more than any word has."""
_NAME: Final = re.compile(r"^[^\x00-\x1f\x7f]{1,128}$")
_OPERATIONS: Final = re.compile(r"^[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE]\+?[0-9]{1,3})?$")

NOT_DECLARED: Final[Mapping[str, FactValue]] = {
    "declared_eccn": UNDECLARED,
    "declared_license": UNDECLARED,
    "transfer_direction": UNDECLARED,
    "item_form": UNDECLARED,
    "model": UNDECLARED,
    "lading_date": 0,
    "itar": False,
    "derivative": False,
    "end_to_end_encrypted": False,
    "synthetic_data_permille": 0,
    "actor_exempt": False,
    "chinese_relations": (),
    "transit_countries": (),
    "known_end_uses": (),
    "known_violation": False,
    "certifications": (),
    "break_glass": False,
}
"""What is declared or known, and was not, is known not to have been: unlike a fact of the item or the place."""

NO_PERSON: Final = frozenset({"transfer", "provision", "inventory"})
"""Acts by which an item goes to a party: a nationality counts only where a person is named."""


def exaoperations(value: str | None) -> int | None:
    """Operations such as ``1.2e26`` in units of 10^18, rounded down; unknown when unreadable or absurd."""
    if value is None or not _OPERATIONS.match(value.strip()):
        return None
    try:
        number = int(Decimal(value.strip()).scaleb(-18))
    except (InvalidOperation, OverflowError):
        return None
    return number if number <= LARGEST_INTEGER else None


def day(text: str) -> int | None:
    """A calendar day in Washington, or that of an ISO 8601 time, as the number YYYYMMDD; None when it is none."""
    match = _DAY.match(text.strip())
    if match is None:
        return None
    try:
        date = datetime.date.fromisoformat(match.group(1))
        if match.group(2):
            moment = datetime.datetime.fromisoformat(text.strip())
            date = (moment if moment.tzinfo is None else moment.astimezone(WASHINGTON)).date()
    except (ValueError, OverflowError):
        return None
    return int(date.strftime("%Y%m%d")) if date.year >= 1000 else None


def notice_days(notice: FactValue, lading: FactValue) -> int | None:
    """Calendar days from one day to the other, both as YYYYMMDD; 0 where the first is not before; None where either
    is unknown or no day.

    The emitter's own time of the event is not asked: it says when something was recorded, not when goods went.
    """
    if not isinstance(notice, int) or not isinstance(lading, int):
        return None
    try:
        first, last = (datetime.datetime.strptime(f"{number:08}", "%Y%m%d").date() for number in (notice, lading))
    except ValueError:
        return None
    return max((last - first).days, 0)


def movement(origin: FactValue, destination: FactValue) -> str | None:
    """What kind of movement the countries of origin and destination make (15 CFR 734.13, 734.14, 734.16)."""
    if origin is None or destination is None:
        return None
    if origin == "US":
        return "domestic" if destination == "US" else "export"
    return "transfer_in_country" if origin == destination else "reexport"


def complete(facts: FactSet) -> None:
    """Adds what follows from other facts and is not given: ``movement``, ``total_bandwidth`` and ``notice_days``."""
    values = facts.values
    if "movement" not in values:
        facts.put(
            "movement", movement(values.get("origin_country"), values.get("destination_country")), "origin, destination"
        )
    memory, interconnect = values.get("dram_bandwidth"), values.get("interconnect_bandwidth")
    if "total_bandwidth" not in values and isinstance(memory, int) and isinstance(interconnect, int):
        facts.put("total_bandwidth", memory + interconnect, "dram_bandwidth, interconnect_bandwidth")
    notice = values.get("exception_notice_date", 0)
    if "notice_days" not in values and notice != 0:
        days = notice_days(notice, values.get("lading_date"))
        facts.put("notice_days", days, "exception_notice_date, lading_date")


Read = Callable[[Any, Countries], FactValue]
"""``read(value, countries)`` of an attribute's value; None = it cannot be read."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """An attribute that states a fact, and how it is read."""

    attribute: str
    fact: str
    read: Read


def _boolean(value: Any, _: Countries) -> FactValue:
    return value if isinstance(value, bool) else None


def _stated(value: Any, _: Countries) -> FactValue:
    return True if isinstance(value, str) else None


def _integer(value: Any, _: Countries) -> FactValue:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_INTEGER else None


def _word_of(fact: str) -> Read:
    """Reads one of the words of a fact: any other would count as known, and match no rule."""
    return lambda value, _: word(fact, value[:_LONGEST_WORD]) if isinstance(value, str) else None


def _name(value: Any, _: Countries) -> FactValue:
    return value if isinstance(value, str) and _NAME.match(value) else None


def _country(value: Any, countries: Countries) -> FactValue:
    place = countries.place(value) if isinstance(value, str) else None
    return place.country if place else None


def _entries(value: Any) -> list[str] | None:
    """A list of texts, also written as one text with commas between."""
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list) or len(entries) > _MOST_ENTRIES:
        return None
    return [entry.strip() for entry in entries] if all(isinstance(entry, str) for entry in entries) else None


def _words_of(fact: str) -> Read:
    """Reads a list of words of a fact; with one that is none of them nothing is known of the list."""

    def read(value: Any, _: Countries) -> FactValue:
        found = [word(fact, entry[:_LONGEST_WORD]) for entry in _entries(value) or []]
        known = {one for one in found if one is not None}
        return None if _entries(value) is None or None in found else tuple(sorted(known))

    return read


def _end_uses(value: Any, _: Countries) -> FactValue:
    """A use that is none of the vocabulary is known, and counts as another beside its own name, which no rule of the
    law would match.
    """
    entries = _entries(value)
    if entries is None:
        return None
    uses = {use for entry in entries if (use := end_use(entry)) is not None}
    return tuple(sorted(uses | {entry for entry in entries if end_use(entry) == OTHER_END_USE and _WORD.match(entry)}))


def _countries(value: Any, countries: Countries) -> FactValue:
    places = [countries.place(entry) for entry in _entries(value) or ["?"]]
    return tuple(sorted({place.country for place in places if place})) if all(places) else None


def _day(value: Any, _: Countries) -> FactValue:
    return day(value) if isinstance(value, str) else None


def _operations(value: Any, _: Countries) -> FactValue:
    return exaoperations(value) if isinstance(value, str) else None


DECLARATIONS: Final[Mapping[str, Declaration]] = {
    attribute: Declaration(attribute, fact, read)
    for attribute, fact, read in (
        (semconv.MOVEMENT, "movement", _word_of("movement")),
        (semconv.ORIGIN_COUNTRY, "origin_country", _country),
        (semconv.TRANSIT_COUNTRIES, "transit_countries", _countries),
        (semconv.LADING_TIME, "lading_date", _day),
        (semconv.US_ORIGIN, "us_origin", _boolean),
        (semconv.US_CONTENT, "us_content", _integer),
        (semconv.FOREIGN_DIRECT_PRODUCT, "foreign_direct_product", _boolean),
        (semconv.ITAR, "itar", _boolean),
        (semconv.END_TO_END_ENCRYPTED, "end_to_end_encrypted", _boolean),
        (semconv.STORAGE_COUNTRY, "storage_country", _country),
        (semconv.ITEM_FORM, "item_form", _word_of("item_form")),
        (semconv.AVAILABLE_IN_US, "available_in_us", _boolean),
        (semconv.MODEL_NAME, "model", _name),
        (semconv.DERIVATIVE, "derivative", _boolean),
        (semconv.ADDED_OPERATIONS, "added_exaoperations", _operations),
        (semconv.ADDED_PERMILLE, "added_permille", _integer),
        (semconv.SYNTHETIC_DATA, "synthetic_data_permille", _integer),
        (semconv.US_ORIGIN_TRAINING_DATA, "us_origin_training_data", _boolean),
        (semconv.US_ORIGIN_WEIGHTS, "us_origin_weights", _boolean),
        (semconv.US_ORIGIN_COMPUTE, "us_origin_compute", _boolean),
        (semconv.ACTOR_NATIONALITY, "actor_nationality", _country),
        (semconv.END_USER_NATIONALITY, "end_user_nationality", _country),
        (semconv.CHINESE_RELATIONS, "chinese_relations", _words_of("chinese_relations")),
        (semconv.KNOWN_END_USES, "known_end_uses", _end_uses),
        (semconv.KNOWN_VIOLATION, "known_violation", _boolean),
        (semconv.CERTIFICATIONS, "certifications", _words_of("certifications")),
        (semconv.EXCEPTION_CONDITIONS, "exception_conditions", _words_of("exception_conditions")),
        (semconv.EXCEPTION_NOTICE_TIME, "exception_notice_date", _day),
        (semconv.RED_FLAGS, "red_flags", _words_of("red_flags")),
        (semconv.BREAK_GLASS_REASON, "break_glass", _stated),
    )
}
"""By attribute, in the order of the questions of a determination."""


def declared(attributes: Mapping[str, Any], countries: Countries) -> dict[str, tuple[FactValue, str]]:
    """Facts that ``attributes`` (values as Python has them) declare, each with its attribute; None = unreadable."""
    return {
        declaration.fact: (declaration.read(attributes[name], countries), name)
        for name, declaration in DECLARATIONS.items()
        if name in attributes
    }
