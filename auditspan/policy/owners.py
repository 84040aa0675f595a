"""The owners of parties as the registry writes them: shares with dates, and what of them cannot be.

A share is per cent of what is owned, in votes or in value, whichever the officer counts by; null says that it is not
known. Dates are days or minutes in Washington, as those of rules: ``from`` is the first moment, ``to`` the first one
after. What is left out has always been so, and still is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from .countries import Countries
from .errors import PolicyError
from .rule_time import parse_instant
from .vocabulary import word
from .yaml_text import Document, Path

__all__ = ["MOST_DATES", "WHOLE", "Owner", "OwnerReader", "as_per_cent", "plain_name"]

WHOLE: Final = 100_000_000
"""All of a party, in millionths of a per cent: the unit of shares."""

MOST_DATES: Final = 4_096
"""Different dates of shares in one registry: between any two of them events are judged apart."""

_SHARE: Final = re.compile(r"^\d{1,3}(?:\.\d{1,6})?$")


@dataclass(frozen=True, slots=True)
class Owner:
    """A share of a party.

    Attributes:
        party: id in the registry; None for an owner that is none of its parties.
        country: of the headquarters of such a one, or its residence; None where not known.
        listings: lists such a one stands on.
        share: millionths of a per cent; None where not known.
        start, end: nanoseconds; ``end`` is exclusive, None = still.
    """

    party: str | None
    name: str
    country: str | None
    listings: tuple[str, ...]
    share: int | None
    start: int
    end: int | None

    @property
    def node(self) -> str:
        """What it is called among all owners and owned: the same owner has the same name there."""
        return f"name:{plain_name(self.name)}" if self.party is None else f"party:{self.party}"

    def holds_at(self, instant: int) -> bool:
        """Whether it holds its share at ``instant``."""
        return self.start <= instant and (self.end is None or instant < self.end)


def plain_name(name: str) -> str:
    """A name as it is compared: case and surrounding space aside."""
    return " ".join(name.casefold().split())


def as_per_cent(share: int) -> str:
    """A share in per cent, as a person writes it."""
    return (
        f"{Decimal(share) / (WHOLE // 100):f}".rstrip("0").rstrip(".")
        if share % (WHOLE // 100)
        else str(share // (WHOLE // 100))
    )


class OwnerReader:
    """Reads the owners of one registry, and refuses what contradicts itself.

    Args:
        document: the registry, sound by its schema.
        entries: its parties.
    """

    def __init__(self, document: Document, entries: Sequence[Mapping[str, Any]], countries: Countries) -> None:
        self._document = document
        self._countries = countries
        self._names: dict[str, str] = {entry["id"]: entry["name"] for entry in entries}
        self._ids_of: dict[str, list[str]] = {}
        for entry in entries:
            self._ids_of.setdefault(plain_name(entry["name"]), []).append(entry["id"])
        self._country_of: dict[str, tuple[str, str]] = {}
        self._dates: set[int] = set()

    def owners(self, path: Path, entry: Mapping[str, Any]) -> tuple[Owner, ...]:
        """The owners of the party that stands at ``path``.

        Raises:
            PolicyError: an owner that is not in the registry, or is by its name; a share that is none; reversed dates;
                an owner twice at one time; more than 100 per cent; a majority owner of a party said to have no parent.
        """
        places: list[Path] = [(*path, "owners", index) for index in range(len(entry.get("owners") or ()))]
        found = [self._owner(place, one) for place, one in zip(places, entry.get("owners") or (), strict=True)]
        self._check_together(entry, places, found)
        if entry.get("ultimate_parent") == "self":
            self._check_no_parent(entry["id"], places, found)
        return tuple(found)

    def _owner(self, path: Path, given: Mapping[str, Any]) -> Owner:
        start = self._instant((*path, "from"), given.get("from"), 0)
        end = self._instant((*path, "to"), given.get("to"), None)
        assert start is not None
        if end is not None and end <= start:
            raise self._fault((*path, "to"), "`to` is not after `from`", "Correct the dates.")
        share = self._share((*path, "share"), given.get("share"))
        if "party" in given:
            identifier = given["party"]
            if identifier not in self._names:
                raise self._fault(
                    (*path, "party"),
                    f"the registry has no party {identifier!r}",
                    "Add it, or write an owner that is no party of yours by `name`, with its country and listings.",
                )
            if beside := sorted({"country", "listings"} & given.keys()):
                raise self._fault(
                    (*path, beside[0]),
                    f"the owner {identifier!r} is a party of the registry, and {beside[0]} stands beside it",
                    f"Write `{beside[0]}` where the party {identifier!r} stands.",
                )
            return Owner(identifier, self._names[identifier], None, (), share, start, end)
        name = given["name"]
        if ids := self._ids_of.get(plain_name(name)):
            raise self._fault(
                (*path, "name"),
                f"{name!r} is the name of {'the party' if len(ids) == 1 else 'several parties,'} {', '.join(ids)}",
                f"Write `party: {ids[0]}`: what the registry says of it holds for it as an owner too.",
            )
        country = self._country(path, name, given.get("country"))
        # Lists of one's own keep their names, as a party's.
        listings = {word("end_user_listings", one) or one for one in given.get("listings") or ()}
        return Owner(None, name, country, tuple(sorted(listings)), share, start, end)

    def _country(self, path: Path, name: str, text: str | None) -> str | None:
        if text is None:
            return None
        place = self._countries.place(text)
        if place is None:
            raise self._fault(
                (*path, "country"),
                f"{text!r} is no country",
                "Use an ISO 3166-1 alpha-2 code, or leave it out when unknown.",
            )
        known, given = self._country_of.setdefault(plain_name(name), (place.country, text))
        if known != place.country:
            raise self._fault(
                (*path, "country"),
                f"the owner {name!r} is of {given} elsewhere",
                "Correct one, or give each its full name.",
            )
        return place.country

    def _share(self, path: Path, value: Any) -> int | None:
        if value is None:
            return None
        text = str(value)
        share = int(Decimal(text) * (WHOLE // 100)) if _SHARE.match(text) else WHOLE + 1
        if share > WHOLE:
            raise self._fault(
                path,
                f"the share is {text!r}",
                "Write per cent from 0 to 100 with at most six decimals, or null where it is not known.",
            )
        return share

    def _instant(self, path: Path, text: str | None, otherwise: int | None) -> int | None:
        if text is None:
            return otherwise
        try:
            instant = parse_instant(text)
        except ValueError as error:
            raise self._fault(path, str(error), "Write YYYY-MM-DD or YYYY-MM-DDThh:mm.") from error
        self._dates.add(instant)
        if len(self._dates) > MOST_DATES:
            raise self._fault(
                path, f"more than {MOST_DATES:,} different dates of shares", "Leave out what ended before you began."
            )
        return instant

    def _check_together(self, entry: Mapping[str, Any], places: Sequence[Path], owners: Sequence[Owner]) -> None:
        """At each moment an owner stands there once, and nobody owns more than there is."""
        for number, newest in enumerate(owners):
            held = [(place, one) for place, one in zip(places, owners, strict=True) if one.holds_at(newest.start)]
            if sum(one.node == newest.node for _, one in held) > 1:
                raise self._fault(
                    places[number],
                    f"{newest.name!r} is an owner of {entry['id']!r} twice at one time",
                    "Add its shares up, or correct the dates.",
                )
            totals = list(itertools.accumulate(one.share or 0 for _, one in held))
            if totals[-1] <= WHOLE:
                continue
            majority = [one.name for _, one in held if (one.share or 0) > WHOLE // 2]
            since = entry["owners"][number].get("from")
            at = f" from {since} on" if since else ""
            raise self._fault(
                held[next(index for index, total in enumerate(totals) if total > WHOLE)][0],
                f"{' and '.join(map(repr, majority))} cannot each own more than half of {entry['id']!r}{at}"
                if len(majority) > 1
                else f"the owners of {entry['id']!r} hold {as_per_cent(totals[-1])} per cent of it together{at}",
                "Correct the shares, or say with `from` and `to` when each was held.",
            )

    def _check_no_parent(self, identifier: str, places: Sequence[Path], owners: Iterable[Owner]) -> None:
        for place, owner in zip(places, owners, strict=True):
            if owner.end is None and (owner.share or 0) > WHOLE // 2:
                raise self._fault(
                    place,
                    f"{identifier!r} is said to have no parent, and {owner.name!r} owns "
                    f"{as_per_cent(owner.share or 0)} per cent of it",
                    "Leave `ultimate_parent` out, so that it follows from the owners; or correct the share.",
                )

    def _fault(self, path: Path, message: str, remedy: str) -> PolicyError:
        return PolicyError(message, file=self._document.file, line=self._document.line(path), remedy=remedy)
