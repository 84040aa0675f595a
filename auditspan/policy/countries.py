"""Countries, and the Country Groups of 15 CFR part 740 Supplement No. 1 as of a date."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .errors import PolicyError
from .rule_time import parse_instant
from .tables import Row, Table, parse_table

__all__ = ["COUNTRIES", "COUNTRY_COLUMNS", "GROUPS", "GROUP_COLUMNS", "Countries", "Place", "countries_of"]

COUNTRIES: Final = "countries.csv"
GROUPS: Final = "country_groups.csv"
"""Names of the two tables among the artifacts of a reference."""

COUNTRY_COLUMNS: Final = ("country", "name", "treated_as")
GROUP_COLUMNS: Final = ("group", "country", "from", "to", "source", "status")

_SUBDIVIDED: Final = frozenset({"UA"})
_CODE: Final = re.compile(r"^([A-Z]{2})(?:-([A-Z0-9]{1,3}))?$")


@dataclass(frozen=True, slots=True)
class Place:
    """A country as the rules judge it, the code it was given as, and a subdivision where rules turn on it.

    ``subdivision`` is ``None`` where it matters and is not known, and empty where it does not matter.
    """

    country: str
    given: str
    subdivision: str | None


@dataclass(frozen=True, slots=True)
class _Membership:
    group: str
    start: int
    end: int | None


class Countries:
    """Names, aliases and effective-dated groups. Dates are nanoseconds."""

    def __init__(self, countries: Table, groups: Table) -> None:
        self._names: dict[str, str] = {}
        self._treated_as: dict[str, str] = {}
        for row in countries.rows:
            self._names[row["country"]] = row["name"]
            if row["treated_as"]:
                self._treated_as[row["country"]] = row["treated_as"]
        self.known_from = _instant(groups, None, groups.head.get("known_from", ""))
        self.verified_from = _instant(groups, None, groups.head.get("verified_from", ""))
        self.version = groups.version
        self._memberships: dict[str, list[_Membership]] = {}
        boundaries = {self.known_from, self.verified_from}
        for row in groups.rows:
            if row["country"] not in self._names:
                raise groups.fault(
                    row, f"{row['country']!r} is no country", "Use an ISO 3166-1 alpha-2 code of the countries table."
                )
            start = _instant(groups, row, row["from"]) if row["from"] else self.known_from
            end = _instant(groups, row, row["to"]) if row["to"] else None
            if end is not None and end <= start:
                raise groups.fault(row, "`to` is not after `from`", "Correct the dates.")
            self._memberships.setdefault(row["country"], []).append(_Membership(row["group"], start, end))
            boundaries.update(instant for instant in (start, end) if instant is not None)
        self.boundaries: tuple[int, ...] = tuple(sorted(boundaries))

    @property
    def names(self) -> Mapping[str, str]:
        """Names by code."""
        return self._names

    @property
    def group_names(self) -> frozenset[str]:
        """Every group that has, or once had, a member."""
        return frozenset(member.group for members in self._memberships.values() for member in members)

    def place(self, text: str | None) -> Place | None:
        """What ``text`` (``CN``, ``cn``, ``UA-43``) names; ``None`` for anything that is no country of the table."""
        match = _CODE.match(text.strip().upper()) if text else None
        if match is None or match.group(1) not in self._names:
            return None
        given = match.group(1)
        country = self._treated_as.get(given, given)
        subdivision = (match.group() if match.group(2) else None) if country in _SUBDIVIDED else ""
        return Place(country, given, subdivision)

    def groups(self, country: str | None, instant: int) -> tuple[str, ...] | None:
        """The groups of ``country`` at ``instant``, sorted; ``None`` when the country or they are unknown."""
        if country is None or instant < self.known_from:
            return None
        return tuple(
            sorted(
                {
                    member.group
                    for member in self._memberships.get(country, ())
                    if member.start <= instant and (member.end is None or instant < member.end)
                }
            )
        )


def _instant(table: Table, row: Row | None, text: str) -> int:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise PolicyError(
            str(error), file=table.file, line=row.line if row else 1, remedy="Write YYYY-MM-DD."
        ) from error


def countries_of(artifacts: Mapping[str, bytes]) -> Countries:
    """The countries of an epoch, from its artifacts `COUNTRIES` and `GROUPS`.

    Raises:
        PolicyError: this version of the software cannot read them.
        KeyError: one is missing.
    """
    return Countries(
        parse_table(artifacts[COUNTRIES], COUNTRIES, COUNTRY_COLUMNS),
        parse_table(artifacts[GROUPS], GROUPS, GROUP_COLUMNS),
    )
