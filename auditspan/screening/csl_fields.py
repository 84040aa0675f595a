"""Fields of the Consolidated Screening List, shared by its JSON and its tables: from a record to an `Entry`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

from auditspan.policy.countries import COUNTRY_COLUMNS
from auditspan.policy.tables import parse_table

from .entries import Entry
from .entry_names import is_address, names_of
from .errors import ListError
from .policies import list_policies

__all__ = ["country_code", "entry_from", "identifier"]

_LONGEST_NAME: Final = 4000
_KINDS: Final = {"individual": "person", "entity": "organization", "vessel": "vessel", "aircraft": "aircraft"}
_TEXTS: Final = (
    "entity_number",
    "federal_register_notice",
    "start_date",
    "end_date",
    "standard_order",
    "license_requirement",
    "license_policy",
    "remarks",
    "source_list_url",
)
_COUNTRY: Final = re.compile(r"^[A-Z]{2}$")
_OTHER_NAMES: Final = {
    "PRC": "CN", "MAN, ISLE OF": "IM", "TURKIYE": "TR", "MACAU": "MO", "RUSSIA": "RU", "IRAN": "IR", "SYRIA": "SY",
    "CRIMEA": "UA", "WEST BANK": "PS", "NORTH GAZA": "PS", "NORTHERN GAZA": "PS", "NORTHERN MALI": "ML",
    "NORTH KOREA": "KP", "SOUTH KOREA": "KR", "UAE": "AE", "USA": "US", "UK": "GB",
}  # fmt: skip
"""Of countries and regions that the list of 2026-07-31 writes otherwise than ISO 3166, and some that tables may."""
_NOT_ALPHANUMERIC: Final = re.compile(r"[^0-9A-Z]+")
_LIST_CODE: Final = re.compile(r"\(([A-Z-]{2,8})(?: List)?\)")


def identifier(number: str) -> str:
    """An identification number in the form in which two are compared: capital letters and digits, no ``IMO`` before."""
    return _NOT_ALPHANUMERIC.sub("", number.upper()).removeprefix("IMO")


@cache
def country_code(text: str) -> str:
    """The ISO 3166-1 code of a country as lists write it: ``TR``, ``TURKIYE``, ``REGION: IRAN``; empty when none is."""
    text = text.strip().upper()
    if _COUNTRY.match(text):
        return text
    named = text.removeprefix("REGION:").partition(" (")[0].strip()
    return _OTHER_NAMES.get(named) or _country_names().get(named, "")


@cache
def _country_names() -> Mapping[str, str]:
    content = resources.files("auditspan.policy.data").joinpath("countries.csv").read_bytes()
    return {row["name"].upper(): row["country"] for row in parse_table(content, "countries.csv", COUNTRY_COLUMNS).rows}


def entry_from(record: Mapping[str, Any], number: int, file: str, line: int) -> Entry:
    """The entry that ``record``, the ``number``-th of the file, describes.

    Raises:
        ListError: no id, source or name; or a field of another type.
    """

    def fault(message: str, remedy: str) -> ListError:
        return ListError(message, file=file, line=line, record=number, remedy=remedy)

    def text(name: str) -> str:
        value = record.get(name)
        if value is None:
            return ""
        if not isinstance(value, str | int):
            raise fault(f"{name} is no text", "Download the list again: each record has this field as text.")
        return str(value).strip()

    def texts(name: str) -> list[str]:
        value = record.get(name) or []
        if isinstance(value, str):
            value = value.split(";")
        if not isinstance(value, Sequence) or not all(isinstance(each, str) for each in value):
            raise fault(f"{name} is no list of texts", "Download the list again.")
        return [each.strip() for each in value if each.strip()]

    found = {name: text(name) for name in ("source", "name", "type")}
    identity = text("id") or text("_id")
    for name, value in (("id", identity), ("source", found["source"]), ("name", found["name"])):
        if not value:
            raise fault(f"it has no {name}", "Download the list again: each record has id, source and name.")
    if len(found["name"]) > _LONGEST_NAME:
        raise fault(f"its name has {len(found['name'])} characters", f"No name has more than {_LONGEST_NAME}.")
    names = names_of(found["name"], texts("alt_names"))
    # The Entity List has addresses as entries of their own: whoever is there is meant, under any name.
    kind = _KINDS.get(found["type"].lower(), "") if names else "address"
    if not names and not is_address(found["name"]):
        raise fault(f"{found['name'][:60]!r} is no name", "Correct the record, or download the list again.")
    addresses = _addresses(record.get("addresses"), fault)
    countries = [country for _, country in addresses if country]
    for name in ("citizenships", "nationalities"):
        countries += [code for each in texts(name) if (code := country_code(each))]
    if flag := country_code(text("vessel_flag")):
        countries.append(flag)
    identifiers = _identifiers(record.get("ids"), fault)
    if call_sign := identifier(text("call_sign")):
        identifiers.append(("Call sign", call_sign))
    return Entry(
        record=number,
        list=_list_code(found["source"]),
        list_name=found["source"],
        entry_id=identity,
        kind=kind,
        listed_as=found["name"],
        names=names,
        addresses=tuple(addresses),
        countries=tuple(dict.fromkeys(countries)),
        identifiers=tuple(dict.fromkeys(identifiers)),
        programs=tuple(program for each in texts("programs") for program in map(str.strip, each.split(";")) if program),
        texts={name: text(name) for name in _TEXTS},
    )


@cache
def _list_code(source: str) -> str:
    for policy in list_policies().values():
        if policy.source and policy.source.lower() in source.lower():
            return policy.code
    code = _LIST_CODE.search(source)
    return code[1] if code else source[:40]


def _addresses(value: Any, fault: Any) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [_address_of(each) for each in value.split(";") if each.strip()]
    if value is None:
        return []
    found = []
    for each in value if isinstance(value, list) else [None]:
        if not isinstance(each, Mapping):
            raise fault("addresses is no list of addresses", "Download the list again.")
        parts = [str(each[name]) for name in ("address", "city", "state", "postal_code") if each.get(name)]
        found.append((", ".join(parts), country_code(str(each.get("country") or ""))))
    return list(dict.fromkeys(found))


def _address_of(text: str) -> tuple[str, str]:
    """As the tables write one: its country's code comes last."""
    before, _, last = text.strip().rpartition(",")
    code = country_code(last)
    if code:
        return before.strip(), code
    return text.strip(), ""


def _identifiers(value: Any, fault: Any) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [pair for each in value.split(";") if (pair := _identifier_of(each)) is not None]
    found = []
    for each in value or []:
        if not isinstance(each, Mapping):
            raise fault("ids is no list of identifiers", "Download the list again.")
        if number := identifier(str(each.get("number") or "")):
            found.append((str(each.get("type") or "").strip(), number))
    return found


def _identifier_of(text: str) -> tuple[str, str] | None:
    """As the tables write one: type, then country and number in an order that differs."""
    kind, *rest = [part.strip() for part in text.split(",")]
    numbers = [part for part in rest if any(character.isdigit() for character in part)]
    return (kind, identifier(numbers[0])) if numbers else None
