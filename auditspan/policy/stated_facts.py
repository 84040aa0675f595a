"""Facts as people and programs state them: names and values in several spellings, made those of the vocabulary.

What is not stated stays unknown. What is stated and cannot be read is an error that names the nearest fact; a place
that is no country is unknown, and said so.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from auditspan.errors import AuditSpanError

from .countries import Countries
from .declarations import exaoperations
from .facts import BASE_FACTS, GROUP_FACTS, INTERVALS, SELDOM_FACTS, Fact, FactSet
from .given_facts import facts_from
from .place_names import OTHER_NAMES, THREE_LETTERS, plain_name
from .reference import Reference
from .stated_numbers import integer
from .vocabulary import LISTINGS, WORDS, eccn, end_use, word

__all__ = ["ALIASES", "ATTRIBUTES", "Stated", "state"]

_PLACE: Final = re.compile(r"_(?:country|nationality)$|_countries$")
_ATTRIBUTE: Final = re.compile(r"^[a-z_]+(?:\.[a-z_]+)+$")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NULL_IS_SAID: Final = frozenset({*SELDOM_FACTS, "listed_ownership"})
"""Facts of a stored document that, left out, would hold for somebody of whom nothing is said."""
_WORDS: Final = {"true": True, "yes": True, "false": False, "no": False}
_LONGEST_NUMBER: Final = 128
_UNKNOWN: Final = frozenset({"unknown", "not known"})

ALIASES: Final[Mapping[str, str]] = {
    "accelerator": "accelerator_model",
    "chip": "accelerator_model",
    "gpu": "accelerator_model",
    "destination": "destination_country",
    "subdivision": "destination_subdivision",
    "country": "destination_country",
    "eccn": "declared_eccn",
    "end_user": "end_user_party",
    "actor": "actor_party",
    "headquarters_country": "end_user_country",
    "parent_country": "end_user_parent_country",
    "ultimate_parent_country": "end_user_parent_country",
    "listings": "end_user_listings",
    "nationality": "end_user_nationality",
    "origin": "origin_country",
    "lading_time": "lading_date",
    "notice_date": "exception_notice_date",
    "notice_time": "exception_notice_date",
    "license": "declared_license",
    "license_exception": "declared_license",
    "end_uses": "known_end_uses",
    "dest": "destination_country",
    "ship_to": "destination_country",
    "hq_country": "end_user_country",
    "headquarters": "end_user_country",
    "parent": "end_user_parent_country",
    "ultimate_parent": "end_user_parent_country",
    "end_user_ultimate_parent_country": "end_user_parent_country",
    "gpu_model": "accelerator_model",
    "chip_model": "accelerator_model",
    "data_center": "data_centre",
    "datacenter": "data_centre",
    "datacentre": "data_centre",
    "memory_bandwidth": "dram_bandwidth",
    "published": "weights_published",
    "training_flops": "training_exaoperations",
    "training_compute": "training_exaoperations",
    "ownership": "listed_ownership",
    "pd": "performance_density",
    "training_operations": "training_exaoperations",
    "added_operations": "added_exaoperations",
}
"""Other names of facts."""

_OPERATIONS: Final = frozenset({"training_operations", "training_flops", "training_compute", "added_operations"})
"""Given in operations; the fact counts 10^18 of them."""

_ACT_OF_CLASS: Final = {
    "model.access": "access",
    "model.transfer": "transfer",
    "accelerator.provision": "provision",
    "accelerator.transfer": "transfer",
    "accelerator.inventory": "inventory",
}
_ITEM_OF_CLASS: Final = {"model.access": "model", "model.transfer": "model_weights"}
_MOVEMENTS: Final = frozenset({"export", "reexport", "transfer_in_country", "transit"})
"""Of which a transfer may go by the name."""

_ITEM_OF_FACT: Final = {
    "tpp_low": "accelerator",
    "performance_density_low": "accelerator",
    "interconnect_bandwidth": "accelerator",
    "memory_bandwidth_density": "memory",
    "training_exaoperations": "model_weights",
    "weights_published": "model_weights",
    "derivative": "model_weights",
}
"""What an item is, of which nothing but this is stated; the first that is stated counts."""

_ITEM_OF_ECCN: Final = {"3A090.c": "memory", "3A090": "accelerator", "4A090": "accelerator", "4E091": "model_weights"}


def _attributes() -> dict[str, str]:
    """Facts by the one attribute of OpenTelemetry that each comes from; what more than one comes from, names none."""
    found: dict[str, list[str]] = {}
    for fact in BASE_FACTS.values():
        for part in fact.source.replace(",", " ").split():
            if _ATTRIBUTE.match(part):
                found.setdefault(part, []).append(fact.name)
    single = {attribute: names[0] for attribute, names in found.items() if len(names) == 1}
    # A subdivision of it is a fact of its own, which follows.
    return {**single, "export_control.destination.country": "destination_country"}


ATTRIBUTES: Final[Mapping[str, str]] = _attributes()
"""Attributes of the semantic conventions that may stand for a fact."""


@dataclass(frozen=True, slots=True)
class Stated:
    """The facts, and what was taken to be meant where that was not said."""

    facts: FactSet
    notes: tuple[str, ...]


def state(reference: Reference, given: Mapping[str, Any], at: int | None = None) -> Stated:
    """The facts that ``given`` states at the rule time ``at``: names and values, or a facts document of the log.

    Raises:
        AuditSpanError: a name that is no fact, with the nearest one; a value that cannot be one of it.
    """
    reader = _Reader(reference)
    plain = reader.read(_unwrapped(reference, given))
    facts = facts_from(reference, plain, at)
    if plain.get("item_kind") is not None and "item_kind" not in facts.values:
        reader.notes.append("The item cannot be all that is said of it: what it is, is taken as not known.")
    return Stated(facts, tuple(reader.notes))


def _unwrapped(reference: Reference, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The facts of a stored document: its terms and Country Groups follow anew."""
    if "v" not in given or not isinstance(given.get("facts"), dict):
        return given
    follows = {definition.fact for definition in reference.packs.definitions} | GROUP_FACTS.keys()
    return {
        name: value
        for name, value in given["facts"].items()
        if (value is not None or name in _NULL_IS_SAID) and name not in follows and name in BASE_FACTS
    }


class _Reader:
    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._countries = reference.countries
        self._codes = {plain_name(name): code for code, name in reference.countries.names.items()} | OTHER_NAMES
        self._terms = {definition.fact for definition in reference.packs.definitions}
        self.notes: list[str] = []

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in given.items():
            name = self._name(str(key))
            for fact, read in self._values(str(key), name, value):
                if fact in values and values[fact] != read:
                    raise AuditSpanError(f"The fact {fact!r} is given twice.", remedy=f"Leave {key!r} out.")
                values[fact] = read
        self._act(values)
        self._item(values)
        self._end_user(values)
        return values

    def _name(self, key: str) -> str:
        attribute = key.strip().lower()
        if attribute in ATTRIBUTES:
            return ATTRIBUTES[attribute]
        name = re.sub(r"[\s.\-]+", "_", _CAMEL.sub("_", key.strip()).lower())
        name = ALIASES.get(name, name)
        if name in GROUP_FACTS:
            raise AuditSpanError(
                f"{key!r} follows from {GROUP_FACTS[name]!r} and the date.", remedy=f"Give {GROUP_FACTS[name]!r}."
            )
        if name in BASE_FACTS or name in INTERVALS:
            return name
        if name in self._terms:
            raise AuditSpanError(
                f"{key!r} is a term that the packs define: it follows from facts.",
                remedy="Give the facts that it rests on.",
            )
        near = difflib.get_close_matches(name, [*BASE_FACTS, *INTERVALS, *ALIASES], n=3, cutoff=0.55)
        meant = list(dict.fromkeys(ALIASES.get(one, one) for one in near if one not in GROUP_FACTS))
        raise AuditSpanError(
            f"There is no fact {key!r}."
            + (f" Did you mean {' or '.join(repr(one) for one in meant)}?" if meant else ""),
            remedy="All of them: auditspan policy explain --list-facts.",
        )

    def _values(self, key: str, name: str, value: Any) -> Iterable[tuple[str, Any]]:
        if isinstance(value, str) and value.strip().casefold() in _UNKNOWN:
            value = None
        if name not in INTERVALS:
            if key.strip().lower().rpartition(".")[2].replace("-", "_") in _OPERATIONS:
                value = _exaoperations(key, value)
            yield name, self._value(BASE_FACTS[name], value)
            return
        if isinstance(value, Mapping):
            value = [value.get("low"), value.get("high")]
        ends = value if isinstance(value, list) else [value, value]
        if len(ends) != 2:
            raise AuditSpanError(f"The fact {name!r} is {value!r}.", remedy="Give a number, or [least, greatest].")
        read = [self._value(BASE_FACTS[bound], end) for bound, end in zip(INTERVALS[name], ends, strict=True)]
        # What is no number is refused by `facts_from`.
        if all(isinstance(end, int) for end in read) and read[0] > read[1]:
            raise AuditSpanError(f"The least {name!r} is above the greatest.", remedy="Give [least, greatest].")
        yield from zip(INTERVALS[name], read, strict=True)

    def _value(self, fact: Fact, value: Any) -> Any:
        if value is None:
            return None
        match fact.type:
            case "int":
                return self._integer(fact, value)
            case "bool":
                if isinstance(value, str) and value.strip().lower() in _WORDS:
                    return _WORDS[value.strip().lower()]
            case "strings":
                items = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else None
                if items is not None and all(isinstance(item, str) for item in items):
                    return self._places(fact, items) if _PLACE.search(fact.name) else self._words(fact, items)
            case "string":
                if isinstance(value, str) and value and _PLACE.search(fact.name):
                    return self._place(fact, value)
                if isinstance(value, str) and fact.name == "declared_eccn":
                    return eccn(value)
        return value  # of another type, or no word of the fact: `facts_from` says so

    def _words(self, fact: Fact, items: list[str]) -> list[str]:
        """As they are, with what they are taken for said; one word may name none of them."""
        if fact.name in WORDS or fact.name in LISTINGS:
            items = [item for item in items if item.strip().casefold() != "none"]
            for item in items:
                meant = word(fact.name, item) or (end_use(item) if fact.name == "known_end_uses" else item)
                if meant != item and not self._reference.quotes(fact.name, item):
                    self.notes.append(f"{fact.name}: {item!r} is {meant or 'none'}.")
        return items

    def _integer(self, fact: Fact, value: Any) -> Any:
        read, note = integer(fact, value)
        if note:
            self.notes.append(note)
        return read

    def _places(self, fact: Fact, items: list[str]) -> list[str] | None:
        """Where one of them is not known, it may be any, and so nothing is known of the list."""
        places = [self._place(fact, item) for item in items]
        return None if None in places else [place for place in places if place is not None]

    def _place(self, fact: Fact, text: str) -> str | None:
        code = text.strip().upper()
        if self._countries.place(code) is None:
            named = self._codes.get(plain_name(text)) or THREE_LETTERS.get(code)
            if named is None:
                self.notes.append(f"{fact.name}: {text!r} is no country that the table has, so it is not known.")
                return None
            self.notes.append(f"{fact.name}: {text.strip()} is {named}.")
            code = named
        if fact.name.endswith("_country"):
            return code  # `facts_from` judges Hong Kong as China, and says so
        return _judged_as(self._countries, code)

    def _act(self, values: dict[str, Any]) -> None:
        act = values.get("act")
        if isinstance(act, str) and (meant := word("act", act)) is not None:
            movement = word("movement", act)
            if movement in _MOVEMENTS:
                values.setdefault("movement", movement)
            if meant != act:
                self.notes.append(f"The act {act!r} is a {meant}.")
            values["act"] = meant
        elif act is None and (follows := _ACT_OF_CLASS.get(str(values.get("class")))) is not None:
            values["act"] = follows

    def _item(self, values: dict[str, Any]) -> None:
        if values.get("item_kind") is not None or values.get("act") not in ("transfer", "release", None):
            return
        kind = _ITEM_OF_CLASS.get(str(values.get("class")))
        if kind is None and values.get("accelerator_model") is not None:
            return  # `facts_from` knows
        eccn = str(values.get("declared_eccn") or "").upper()
        if kind is None and ".Z" in eccn:
            kind = "accelerator"
        kind = kind or next((kind for start, kind in _ITEM_OF_ECCN.items() if eccn.startswith(start.upper())), None)
        kind = kind or next((kind for name, kind in _ITEM_OF_FACT.items() if values.get(name) is not None), None)
        if kind is not None:
            values["item_kind"] = kind
            self.notes.append(f"The item is taken for {kind.replace('_', ' ')}, from what is stated of it.")

    def _end_user(self, values: dict[str, Any]) -> None:
        """The actor uses the item where nobody else is named, as with an event."""
        if any(name.startswith("end_user_") for name in values):
            return
        copied = [
            name
            for name in ("party", "country", "parent_country", "nationality")
            if values.get(f"actor_{name}") is not None and f"end_user_{name}" in BASE_FACTS
        ]
        for name in copied:
            values[f"end_user_{name}"] = values[f"actor_{name}"]
        if copied:
            self.notes.append("No end user is named: the actor is taken for it.")


def _judged_as(countries: Countries, code: str) -> str:
    place = countries.place(code)
    return place.country if place is not None else code


def _exaoperations(key: str, value: Any) -> Any:
    """Units of 10^18, rounded down."""
    if value is None:
        return None
    # Bounded as what emitters declare is: 1e999999999 would have a billion digits.
    units = None if isinstance(value, bool) else exaoperations(str(value)[:_LONGEST_NUMBER])
    if units is None:
        raise AuditSpanError(f"{key!r} is {str(value)[:64]!r}.", remedy="Give a number such as 1.2e26.")
    return units
