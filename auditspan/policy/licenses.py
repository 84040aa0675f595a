"""The register of export licenses, an artifact of the reference epoch: what each covers, for whom, and how much."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from auditspan.canonical import LARGEST_INTEGER

from .accelerator_names import normal_name
from .accelerators import Accelerators
from .errors import PolicyError
from .rule_time import parse_instant
from .tables import Table
from .vocabulary import eccn

__all__ = [
    "ACCELERATOR",
    "LICENSES",
    "LICENSE_COLUMNS",
    "MODEL_PREFIX",
    "TRANSFER",
    "Fault",
    "License",
    "Licenses",
    "is_license_number",
    "license_from",
]

LICENSES: Final = "licenses.csv"
"""Name of the register among the artifacts of a reference."""
LICENSE_COLUMNS: Final = (
    "number",
    "type",
    "exporter",
    "consignees",
    "end_users",
    "items",
    "quantity",
    "unit",
    "value",
    "valid_from",
    "valid_to",
    "conditions",
)
MODEL_PREFIX: Final = "model:"
"""Begins an item that is an AI model by its name, and neither an ECCN nor an accelerator."""
ACCELERATOR: Final = "accelerator"
TRANSFER: Final = "transfer"

_UNITS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("", "accelerators", "gpu", "gpus", "each", "ea", "piece", "pieces", "pcs"), ACCELERATOR),
    ACCELERATOR: ACCELERATOR,
    **dict.fromkeys((TRANSFER, "transfers"), TRANSFER),
}  # fmt: skip
# What `export_control.license` can say (the fact `declared_license`), with a digit.
_NUMBER: Final = re.compile(r"^(?=.*[0-9])[A-Za-z0-9][A-Za-z0-9 ./()\-]{0,63}$")
_ECCN: Final = re.compile(r"^(?:[0-9][A-E][0-9]{3}(?:\.[a-z](?:\.?[0-9a-z]+)*)?|EAR99)$")
_LIKE_ECCN: Final = re.compile(r"^(?:ECCN|EAR\s*99|[0-9][A-Za-z])", re.IGNORECASE)
_DATE: Final = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_LONGEST: Final = {"type": 64, "conditions": 2000}
_LONGEST_NAME: Final = 200
_MOST_NAMES: Final = 200
_MOST_LICENSES: Final = 10_000

Fault = Callable[[str, str], PolicyError]
"""Makes the error with a message and a remedy, at the place of the license at hand."""


@dataclass(frozen=True, slots=True)
class License:
    """One license. Parties are ids of the party registry, or names as an event states them.

    Attributes:
        number: as it is printed on it.
        kind: in the words of the register, such as ``BIS individual``.
        exporter: empty: it is not checked who exports.
        consignees: empty: it is not checked who receives.
        end_users: at least one.
        items: ECCNs (which cover their paragraphs), accelerator models, or ``model:`` and the name of an AI model.
        quantity: how many in all, in units of ``unit``; None: without limit.
        unit: ``accelerator``, or ``transfer``, where each event counts as one.
        value: whole US dollars, for the reader: no event states a value, so it is not decremented.
        valid_from, valid_to: first and last day, as ISO 8601; ``valid_from`` may be empty: since ever.
        conditions: in words; no program reads them.
        line: in the register, from 1.
    """

    number: str
    kind: str
    exporter: str
    consignees: tuple[str, ...]
    end_users: tuple[str, ...]
    items: tuple[str, ...]
    quantity: int | None
    unit: str
    value: int | None
    valid_from: str
    valid_to: str
    conditions: str
    line: int = 0

    @property
    def begins(self) -> int:
        """First nanosecond of its validity: midnight in Washington."""
        return parse_instant(self.valid_from) if self.valid_from else 0

    @property
    def ends(self) -> int:
        """First nanosecond after its validity: the midnight in Washington that ends its last day."""
        after = datetime.date.fromisoformat(self.valid_to) + datetime.timedelta(days=1)
        return parse_instant(after.isoformat())

    def cells(self) -> dict[str, str]:
        """The license as a row of the register."""
        return {
            "number": self.number,
            "type": self.kind,
            "exporter": self.exporter,
            "consignees": ";".join(self.consignees),
            "end_users": ";".join(self.end_users),
            "items": ";".join(self.items),
            "quantity": "" if self.quantity is None else str(self.quantity),
            "unit": self.unit,
            "value": "" if self.value is None else str(self.value),
            "valid_from": self.valid_from,
            "valid_to": self.valid_to,
            "conditions": self.conditions,
        }


def is_license_number(text: str) -> bool:
    """Whether a declared license is a number: symbols of exceptions (15 CFR 740, such as ``NAC``) have no digit."""
    return _NUMBER.match(text) is not None


def license_from(cells: Mapping[str, str], fault: Fault, line: int = 0) -> License:
    """The license that a row says; columns that are not there are empty.

    Raises:
        PolicyError: made by ``fault``, for the first cell that cannot be read.
    """
    given = {column: " ".join(cells.get(column, "").split()) for column in LICENSE_COLUMNS}
    for column, longest in _LONGEST.items():
        if len(given[column]) > longest:
            raise fault(f"{column} has {len(given[column])} characters", f"Keep it to {longest}.")
    number = given["number"]
    if not is_license_number(number):
        raise fault(
            f"the number is {number[:80]!r}",
            "Write the number as the license has it: letters, digits, space and ./()-, with a digit, up to 64.",
        )
    unit = _UNITS.get(given["unit"].lower())
    if unit is None:
        raise fault(f"the unit is {given['unit'][:80]!r}", f"There are {ACCELERATOR} and {TRANSFER}.")
    valid_from, valid_to = _day(given, "valid_from", fault), _day(given, "valid_to", fault)
    if not valid_to:
        raise fault("valid_to is empty", "Give the last day on which it is valid, as YYYY-MM-DD.")
    if valid_from > valid_to:
        raise fault(
            f"valid_from {valid_from} is after valid_to {valid_to}", "The dates are reversed: correct one of them."
        )
    end_users, items = _names(given, "end_users", fault), _names(given, "items", fault)
    for column, names, what in (("end_users", end_users, "whom"), ("items", items, "what")):
        if not names:
            raise fault(f"{column} is empty", f"Say {what} it covers; several with `;` between.")
    return License(
        number=number,
        kind=given["type"],
        exporter=_name(given["exporter"], "exporter", fault),
        consignees=_names(given, "consignees", fault),
        end_users=end_users,
        items=tuple(dict.fromkeys(_item(item, fault) for item in items)),
        quantity=_integer(given, "quantity", fault),
        unit=unit,
        value=_integer(given, "value", fault),
        valid_from=valid_from,
        valid_to=valid_to,
        conditions=given["conditions"],
        line=line,
    )


class Licenses:
    """An immutable register, in order of valid_to and number.

    Args:
        table: with `LICENSE_COLUMNS`.
        accelerators: to know the accelerator models; without it they are taken as they are written.

    Raises:
        PolicyError: a license that cannot be read, two with one number, or more than 10,000.
    """

    def __init__(self, table: Table, accelerators: Accelerators | None = None) -> None:
        if len(table.rows) > _MOST_LICENSES:
            raise PolicyError(
                f"{len(table.rows)} licenses",
                file=table.file,
                remedy=f"Keep it to {_MOST_LICENSES}: leave old ones out.",
            )
        self._by_number: dict[str, License] = {}
        for row in table.rows:

            def fault(message: str, remedy: str, line: int = row.line, number: str = row["number"]) -> PolicyError:
                return PolicyError(f"license {number[:64]}: {message}", file=table.file, line=line, remedy=remedy)

            found = license_from(row.cells, fault, row.line)
            if found.number.casefold() in self._by_number:
                raise fault("its number occurs twice", "Remove one.")
            if accelerators is not None:
                _check_models(found, accelerators, fault)
            self._by_number[found.number.casefold()] = found
        self._ordered = tuple(sorted(self._by_number.values(), key=lambda one: (one.valid_to, one.number)))

    def __iter__(self) -> Iterator[License]:
        return iter(self._ordered)

    def __len__(self) -> int:
        return len(self._ordered)

    def find(self, number: str) -> License | None:
        """The license with this number, case and surrounding space aside."""
        return self._by_number.get(" ".join(number.split()).casefold())


def _check_models(found: License, accelerators: Accelerators, fault: Fault) -> None:
    """A mistyped accelerator would make a license that covers nothing."""
    for item in found.items:
        if _ECCN.match(item) or item.startswith(MODEL_PREFIX):
            continue
        known = accelerators.named(item)
        if known is None or normal_name(known.model) != normal_name(item):
            raise fault(
                f"the item {item[:80]!r} is no accelerator of the accelerators table",
                f"Write it as the table does{f': {known.model}' if known else ''}, as an ECCN, or as "
                f"{MODEL_PREFIX}NAME for an AI model.",
            )


def _names(given: Mapping[str, str], column: str, fault: Fault) -> tuple[str, ...]:
    names = [name.strip() for name in given[column].split(";")]
    found = tuple(dict.fromkeys(_name(name, column, fault) for name in names if name))
    if len(found) > _MOST_NAMES:
        raise fault(f"{column} has {len(found)} entries", f"Keep it to {_MOST_NAMES}.")
    return found


def _name(name: str, column: str, fault: Fault) -> str:
    if len(name) > _LONGEST_NAME:
        raise fault(f"a name in {column} has {len(name)} characters", f"Keep it to {_LONGEST_NAME}.")
    return name


def _item(item: str, fault: Fault) -> str:
    if item.lower().startswith(MODEL_PREFIX):
        return f"{MODEL_PREFIX}{item[len(MODEL_PREFIX) :].strip()}"
    if not _LIKE_ECCN.match(item):
        return item
    found = eccn(item)
    if not _ECCN.match(found):
        raise fault(
            f"{item[:80]!r} is no ECCN", "Write it as the Commerce Control List does, such as 3A090.a or 4E091."
        )
    return found


def _integer(given: Mapping[str, str], column: str, fault: Fault) -> int | None:
    text = given[column]
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,16}", text) or int(text) > LARGEST_INTEGER:
        what = "whole US dollars" if column == "value" else "a whole number"
        raise fault(
            f"{column} is {text[:80]!r}",
            f"Give {what} from 0, digits alone, or leave it empty where there is no limit.",
        )
    return int(text)


def _day(given: Mapping[str, str], column: str, fault: Fault) -> str:
    text = given[column]
    if not text:
        return ""
    try:
        if _DATE.match(text):
            # The day after the last one must be an instant as well.
            parse_instant((datetime.date.fromisoformat(text) + datetime.timedelta(days=1)).isoformat())
            parse_instant(text)
            return text
    except (ValueError, OverflowError):
        pass
    raise fault(f"{column} is {text[:80]!r}", "Give a day as YYYY-MM-DD, from 1970 to 2261.")
