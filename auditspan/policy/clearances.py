"""Hits of a screening that an officer cleared: this party is not that entry of a list, for a time.

A clearance is an entry of the artifact ``clearances.yaml`` of a reference, and so comes into force, is sealed and ends
as every artifact does. It suppresses one hit: that of one party on one entry, while the entry bears the name that it
had when the officer looked, from one day until another (UTC, rule time). What waits for a second person suppresses
nothing. What officers may change is `clearing`'s to say.
"""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from .countries import Countries
from .errors import PolicyError
from .owners import MOST_DATES, plain_name
from .parties import validate
from .yaml_text import Document, Path, load

__all__ = ["CLEARANCES", "LISTS", "LONGEST_DAYS", "NO_CLEARANCES", "Clearance", "Clearances", "State", "day_of"]

CLEARANCES: Final = "clearances.yaml"
"""Name of the file among the artifacts of a reference; without it no hit is cleared."""

NO_CLEARANCES: Final = b"clearances: []\n"

LONGEST_DAYS: Final = 366
"""Days that a clearance holds at most: lists change, and so do the parties behind a name."""

LISTS: Final = ("DPL", "EL", "UVL", "MEU", "SDN", "CMIC", "SSI", "ISN", "DTC", "PLC", "MBS", "CAP", "FSE")
"""Codes of the lists whose hits can be cleared: those whose effect ``auditspan/screening/data/lists.csv`` says."""

State = Literal["in force", "waiting", "begins later", "expired"]
"""Of a clearance at a moment; ``waiting`` is one that lacks its second person."""

_CODE: Final = re.compile(r"^[A-Z][A-Z0-9]{0,15}$")
_DAY: Final = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_EPOCH: Final = datetime.date(1970, 1, 1)
_LATEST: Final = datetime.date(2262, 1, 1)
"""The last year whose nanoseconds fit into 64 bits."""
_DAY_NS: Final = 86_400 * 10**9

_Pair = tuple[str, str | None, str, str, str]


@dataclass(frozen=True, slots=True)
class Clearance:
    """One cleared hit, as its entry says.

    Attributes:
        name: of the party, as it was screened.
        country: of the party; None = whatever the country.
        list, entry, listed_name: code of the list, id of its entry, and the name of that entry.
        by, reason: the officer, and why.
        second: who agreed as the second person; None where nobody did.
        waits: whether a second person is needed who has not agreed: it then suppresses nothing.
        start, until: days, UTC; ``until`` is the first one on which it does not hold.
    """

    name: str
    country: str | None
    list: str
    entry: str
    listed_name: str
    by: str
    reason: str
    second: str | None
    waits: bool
    start: datetime.date
    until: datetime.date

    @property
    def pair(self) -> _Pair:
        """What it is about: the party and the entry, as they are compared."""
        return _pair(self.name, self.country, self.list, self.entry, self.listed_name)

    @property
    def begins(self) -> int:
        """First nanosecond (rule time) at which it holds."""
        return _nanoseconds(self.start)

    @property
    def ends(self) -> int:
        """First nanosecond at which it no longer does."""
        return _nanoseconds(self.until)

    def state(self, at: int) -> State:
        """What has become of it at ``at`` (nanoseconds)."""
        if at >= self.ends:
            return "expired"
        if self.waits:
            return "waiting"
        return "in force" if at >= self.begins else "begins later"

    def document(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "name": self.name,
            "country": self.country,
            "list": self.list,
            "entry": self.entry,
            "listed_name": self.listed_name,
            "by": self.by,
            "second": self.second,
            "waits": self.waits,
            "reason": self.reason,
            "from": self.start.isoformat(),
            "until": self.until.isoformat(),
        }


class Clearances:
    """The clearances of a reference, in the order of the file. Immutable. Build it with :meth:`of`.

    Attributes:
        boundaries: moments (rule time, nanoseconds, sorted) at which a clearance begins or ends: between two of them
            no answer of `cleared` changes. What waits changes none, and has none.
    """

    def __init__(self, clearances: tuple[Clearance, ...] = (), countries: Countries | None = None) -> None:
        self._all = clearances
        self._countries = countries
        self._by_pair: dict[_Pair, list[Clearance]] = {}
        for clearance in clearances:
            if not clearance.waits:
                self._by_pair.setdefault(self.judged(clearance.pair), []).append(clearance)
        holding = [one for several in self._by_pair.values() for one in several]
        self.boundaries: tuple[int, ...] = tuple(sorted({at for one in holding for at in (one.begins, one.ends)}))

    @classmethod
    def of(
        cls, content: bytes | None, *, second_person: bool = False, countries: Countries | None = None
    ) -> Clearances:
        """What the artifact ``content`` says; none cleared where there is none.

        With ``second_person``, what ``deployment.yaml`` says, a clearance that one officer gave alone waits as well.
        With ``countries``, what is judged as one country is one here, such as Hong Kong and China.

        Raises:
            PolicyError: not as ``data/clearances.schema.json`` says; no code of a list; reversed dates, or more than
                366 days; an officer who is the own second person; one hit cleared twice at a time, where its countries
            count as one too.
        """
        if content is None:
            return cls()
        document = load(content, CLEARANCES)
        validate(document, "clearances.schema.json")
        found = [
            _clearance(document, ("clearances", index), entry, second_person)
            for index, entry in enumerate(document.data["clearances"])
        ]
        _check_together(document, found, cls((), countries))
        return cls(tuple(found), countries)

    def __iter__(self) -> Iterator[Clearance]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def cleared(
        self, name: str, list_code: str, entry_id: str, listed_name: str, country: str | None, at: int | None
    ) -> Clearance | None:
        """The clearance that suppresses a hit at a rule time; None where the hit stands.

        Args:
            name: of the party, as it was screened.
            list_code: of the hit, such as EL.
            entry_id: of the hit, as the list in force has it.
            listed_name: what the list in force calls that entry.
            country: of the party, as it was screened, ISO 3166-1 alpha-2; None or empty where it is not known.
            at: rule time in nanoseconds. Without one nothing is cleared.
        """
        if at is None or not self._by_pair:
            return None
        for place in (country or None, None):
            pair = self.judged(_pair(name, place, list_code, entry_id, listed_name))
            for clearance in self._by_pair.get(pair, ()):
                if clearance.begins <= at < clearance.ends:
                    return clearance
        return None

    def judged(self, pair: _Pair) -> _Pair:
        """The pair with its country as rules and registry have it."""
        place = self._countries.place(pair[1]) if self._countries is not None else None
        return pair if place is None else (pair[0], place.country, *pair[2:])


def day_of(text: str) -> datetime.date:
    """The day that ``YYYY-MM-DD`` is.

    Raises:
        ValueError: another form, no such day, or one before 1970 or after 2261.
    """
    if not _DAY.match(text):
        raise ValueError(f"{text!r} is not YYYY-MM-DD")
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"there is no day {text!r}") from None
    if not _EPOCH <= day < _LATEST:
        raise ValueError(f"{text!r} is not between 1970 and 2261")
    return day


def _pair(name: str, country: str | None, list_code: str, entry: str, listed_name: str) -> _Pair:
    return plain_name(name), country.upper() if country else None, list_code, entry, plain_name(listed_name)


def _nanoseconds(day: datetime.date) -> int:
    return (day - _EPOCH).days * _DAY_NS


def _clearance(document: Document, path: Path, entry: Mapping[str, Any], second_person: bool) -> Clearance:
    if not _CODE.match(entry["list"]):
        raise _fault(
            document, (*path, "list"), f"{entry['list']!r} is no code of a list", f"Write one of {', '.join(LISTS)}."
        )
    start, until = (_day(document, (*path, key), entry[key]) for key in ("from", "until"))
    if until <= start:
        raise _fault(
            document,
            (*path, "until"),
            f"`until` ({until}) is not after `from` ({start})",
            "Correct the dates: `until` is the first day on which the hit counts again.",
        )
    if (until - start).days > LONGEST_DAYS:
        raise _fault(
            document,
            (*path, "until"),
            f"the clearance would hold {(until - start).days} days",
            f"Let it end within {LONGEST_DAYS} days, and clear the hit anew then: the list may have changed.",
        )
    second = entry.get("second")
    if second == entry["by"]:
        raise _fault(
            document,
            (*path, "second"),
            f"{second!r} cannot be the second person of the own clearance",
            "Another officer agrees, with: auditspan screen second NAME --list LIST --entry ENTRY",
        )
    return Clearance(
        entry["name"],
        entry.get("country"),
        entry["list"],
        entry["entry"],
        entry["listed_name"],
        entry["by"],
        entry["reason"],
        second,
        second is None and (second_person or "second" in entry),
        start,
        until,
    )


def _day(document: Document, path: Path, text: str) -> datetime.date:
    try:
        return day_of(text)
    except ValueError as error:
        raise _fault(document, path, str(error), "Write the day as YYYY-MM-DD, in UTC.") from error


def _check_together(document: Document, found: list[Clearance], judging: Clearances) -> None:
    days = {day for one in found for day in (one.start, one.until)}
    if len(days) > MOST_DATES:
        raise _fault(
            document,
            ("clearances",),
            f"there are {len(days):,} different days",
            f"Remove what expired long ago: between any two of at most {MOST_DATES:,} days, events are judged apart.",
        )
    by_pair: dict[_Pair, list[tuple[Clearance, int]]] = {}
    for index, one in enumerate(found):
        by_pair.setdefault(judging.judged(one.pair), []).append((one, index))
    for several in by_pair.values():
        several.sort(key=lambda item: item[0].start)
        for (before, _), (after, index) in itertools.pairwise(several):
            if after.start < before.until:
                raise _fault(
                    document,
                    ("clearances", index),
                    f"the hit of {after.name!r} on {after.list} {after.entry} is cleared already, by {before.by} from "
                    f"{before.start} until {before.until}{', once a second person agrees' * before.waits}",
                    f"Let the later one begin on {before.until}, or end the earlier one: auditspan screen unclear",
                )


def _fault(document: Document, path: Path, message: str, remedy: str) -> PolicyError:
    return PolicyError(message, file=document.file, line=document.line(path), remedy=remedy)
