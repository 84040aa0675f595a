"""Facts as people and programs state them: names and values in several spellings, made those of the vocabulary.

What is not stated stays unknown. What is stated and cannot be read is an error that names the nearest fact; a place
that is no country is unknown, and said so.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from auditspan.canonical import LARGEST_INTEGER
from auditspan.errors import AuditSpanError

from .countries import Countries
from .facts import BASE_FACTS, GROUP_FACTS, INTERVALS, OWNED_FACTS, Fact, FactSet
from .given_facts import facts_from
from .reference import Reference

__all__ = ["ALIASES", "ATTRIBUTES", "Stated", "state"]

_PLACE: Final = re.compile(r"_(?:country|nationality)$|_countries$")
_ATTRIBUTE: Final = re.compile(r"^[a-z_]+(?:\.[a-z_]+)+$")
_DATE: Final = re.compile(r"^(\d{4})-(\d{2})-(\d{2})(?:T.*)?$")
_NULL_IS_SAID: Final = frozenset({*OWNED_FACTS, "listed_ownership"})
"""Facts of a stored document that, left out, would hold for somebody whom no owners are known of."""
_WORDS: Final = {"true": True, "yes": True, "false": False, "no": False}
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
    "end_uses": "known_end_uses",
    "data_center": "data_centre",
    "pd": "performance_density",
    "training_operations": "training_exaoperations",
    "added_operations": "added_exaoperations",
}
"""Other names of facts."""

_OTHER_NAMES: Final = {
    "usa": "US",
    "unitedstatesofamerica": "US",
    "uk": "GB",
    "greatbritain": "GB",
    "uae": "AE",
    "prc": "CN",
    "peoplesrepublicofchina": "CN",
    "mainlandchina": "CN",
    "southkorea": "KR",
    "republicofkorea": "KR",
    "northkorea": "KP",
    "dprk": "KP",
    "russianfederation": "RU",
    "macao": "MO",
}
"""Of countries, beside those of the table."""

_OPERATIONS: Final = frozenset({"training_operations", "added_operations"})
"""Given in operations; the fact counts 10^18 of them."""

_ACT_OF_CLASS: Final = {
    "model.access": "access",
    "model.transfer": "transfer",
    "accelerator.provision": "provision",
    "accelerator.transfer": "transfer",
    "accelerator.inventory": "inventory",
}
_ITEM_OF_CLASS: Final = {"model.access": "model", "model.transfer": "model_weights"}
_MOVEMENTS: Final = {
    "export": "export",
    "reexport": "reexport",
    "re-export": "reexport",
    "transfer_in_country": "transfer_in_country",
    "transit": "transit",
}
"""Acts that are a transfer, with its movement."""

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
        for word in fact.source.replace(",", " ").split():
            if _ATTRIBUTE.match(word):
                found.setdefault(word, []).append(fact.name)
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
        self._codes = {_plain(name): code for code, name in reference.countries.names.items()} | _OTHER_NAMES
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
        name = re.sub(r"[\s.\-]+", "_", attribute)
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
        if None not in read and read[0] > read[1]:
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
                    return self._places(fact, items) if _PLACE.search(fact.name) else items
            case "string":
                if isinstance(value, str) and value and _PLACE.search(fact.name):
                    return self._place(fact, value)
        return value  # of another type: `facts_from` says so

    def _integer(self, fact: Fact, value: Any) -> Any:
        if isinstance(value, str):
            if fact.name.endswith("_date") and (day := _DATE.match(value.strip())):
                return int("".join(day.groups()))
            value = value.strip().replace(",", "").replace("_", "")
            value = int(value) if re.fullmatch(r"\d{1,16}", value) else value
        if isinstance(value, float):
            # 5.92 is meant in units of its own, 5920 in thousandths.
            if "thousandths" in fact.meaning and 0 <= value < LARGEST_INTEGER / 1000:
                thousandths = round(value * 1000)
                self.notes.append(f"{fact.name} is {thousandths} thousandths, for {value}.")
                return thousandths
            value = int(value) if value.is_integer() else value
        return value

    def _places(self, fact: Fact, items: list[str]) -> list[str]:
        return [place for item in items if (place := self._place(fact, item)) is not None]

    def _place(self, fact: Fact, text: str) -> str | None:
        code = text.strip().upper()
        if self._countries.place(code) is None:
            named = self._codes.get(_plain(text))
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
        if isinstance(act, str) and act.strip().lower() in _MOVEMENTS:
            values["act"] = "transfer"
            if "movement" in BASE_FACTS:
                values.setdefault("movement", _MOVEMENTS[act.strip().lower()])
            self.notes.append(f"The act {act!r} is a transfer.")
        elif act is None and values.get("class") in _ACT_OF_CLASS:
            values["act"] = _ACT_OF_CLASS[values["class"]]

    def _item(self, values: dict[str, Any]) -> None:
        if values.get("item_kind") is not None or values.get("act") not in ("transfer", "release", None):
            return
        kind = _ITEM_OF_CLASS.get(str(values.get("class")))
        if kind is None and values.get("accelerator_model") is not None:
            return  # `facts_from` knows
        eccn = str(values.get("declared_eccn") or "").upper()
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
    try:
        return int(Decimal(str(value)).scaleb(-18))
    except (InvalidOperation, OverflowError, ValueError):
        raise AuditSpanError(f"{key!r} is {value!r}.", remedy="Give a number such as 1.2e26.") from None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]+", "", name.casefold())
