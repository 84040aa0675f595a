"""The screening list of a reference: which artifact it is, and who of those that facts name is like one of its entries.

Matching names needs the extra ``screening``, which is imported when a list is there to be opened, and not before.
"""

from __future__ import annotations

import datetime
import hashlib
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from auditspan.errors import AuditSpanError

from .countries import Countries
from .errors import PolicyError
from .forked import renew_in_children
from .parties import Parties, Party

if TYPE_CHECKING:
    from auditspan.screening.screener import Hit, Screener

__all__ = [
    "NOBODY",
    "SCREENING_LISTS",
    "Likeness",
    "Screened",
    "ScreeningList",
    "kept_below",
    "screening_list_of",
    "shortened",
    "version_of",
]

SCREENING_LISTS: Final = frozenset(f"screening_list.{ending}.gz" for ending in ("json", "csv", "tsv"))
"""Names of the artifact, one of which a reference may have: the official file in one of its formats, packed by gzip."""

_FOLDER: Final = "screening"
_HEADER: Final = struct.Struct("<2sBBI")
_GZIP: Final = b"\x1f\x8b"
_EQUAL: Final = 0.97
"""Score of a name, without country and address, from which on the two names are the same."""
_ENTITY_LIST: Final = "EL"
_MOST_OWNERS: Final = 50
"""Owners of a party that are screened, the largest shares first."""
_LONGEST_REQUIREMENT: Final = 200


class Likeness(NamedTuple):
    """Somebody who stands behind an event is, by name, like an entry of a list.

    Attributes:
        whose: ``""`` for the party itself, else what the screened one is to it: its ultimate parent, an owner, a
            supplier, reseller, forwarder, financier or colocation.
        name, country: that were screened; empty where no country is known.
        word: the list as rules call it.
        list, entry_id, listed_as: which entry of which list.
        matched, role: the name of the entry that is alike, and what it is of the entry.
        score, parts: as `auditspan.screening.screener.Hit`, in words.
        by: what besides the name agrees.
        counts: whether the party is taken for the entry: the names are equal and something else agrees.
        requirement: of an entry of the Entity List, which items it is for, and its words.
        start, end: when an owner holds its share, in nanoseconds; always where both are None.
    """

    whose: str
    name: str
    country: str
    word: str
    list: str
    entry_id: str
    listed_as: str
    matched: str
    role: str
    score: float
    parts: str
    by: tuple[str, ...]
    counts: bool
    requirement: tuple[str, str] | None = None
    start: int | None = None
    end: int | None = None

    def holds_at(self, at: int | None) -> bool:
        """Whether the screened one stands there at a rule time; without one, whether it ever did."""
        return at is None or ((self.start is None or self.start <= at) and (self.end is None or at < self.end))


Screened = tuple[Likeness, ...] | None
"""All likenesses of somebody, the best first; None where a name is there that cannot be screened."""

NOBODY: Final[Screened] = ()
"""Nobody was named, or who was named is like no entry."""


class ScreeningList:
    """The list of a reference. Safe for threads.

    Args:
        name, content: the artifact.
        countries: which codes count as one country.
        folder: where artifacts are kept; what is read from the list is kept below it. None: it is kept nowhere.

    Raises:
        PolicyError: it is not packed by gzip. Whether it is a list, `open` tells.
    """

    def __init__(self, name: str, content: bytes, countries: Countries, folder: Path | None) -> None:
        self.name = name
        self.digest = hashlib.sha256(content).hexdigest()
        self.version = version_of(name, content)
        self._content = content
        self._countries = countries
        self._folder = None if folder is None else kept_below(folder)
        self._opening = threading.Lock()
        self._screener: Screener | None = None
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Open what a thread of the parent was opening: that thread is not here."""
        self._opening = threading.Lock()

    def open(self) -> Screener:
        """Opens it, if it is not open yet: in 0.4 seconds where it was read before, else in some 20.

        Raises:
            PolicyError: it cannot be read here; or the extra ``screening`` is not installed.
        """
        with self._opening:
            if self._screener is None:
                self._screener = self._opened()
            return self._screener

    def of_party(self, party: Party | None, parties: Parties) -> Screened:
        """A party of the registry, its ultimate parent, its owners, and who else stands in its supply chain by name."""
        if party is None:
            return NOBODY
        asked: list[tuple[str, str, str | None, int | None, int | None]] = [("", party.name, party.country, None, None)]
        if party.parent is not None:
            asked.append(("ultimate parent", party.parent.name, party.parent.country, None, None))
        for owner in sorted(party.owners, key=lambda one: -(one.share or 0))[:_MOST_OWNERS]:
            named = parties.by_id(owner.party)
            name, country = (owner.name, owner.country) if named is None else (named.name, named.country)
            asked.append(("owner", name, country, owner.start, owner.end))
        asked += [(one.kind, one.name, one.country, None, None) for one in party.related]
        # Clearing one of them must not hide another: whoever has a name of its own is a likeness of its own.
        found: dict[tuple[object, ...], Likeness] = {}
        for whose, name, country, start, end in asked:
            screened = self._screened(whose, name, country)
            if screened is None:
                return None
            for one in screened:
                key = one.list, one.entry_id, name, country, start, end
                found.setdefault(key, one._replace(start=start, end=end))
        return tuple(sorted(found.values(), key=lambda one: (not one.counts, -one.score, one.entry_id)))

    def of_name(self, text: str | None) -> Screened:
        """Somebody of whom only a name is known."""
        return NOBODY if not text else self._screened("", text, None)

    def _screened(self, whose: str, name: str, country: str | None) -> Screened:
        from auditspan.screening.errors import ScreeningError
        from auditspan.screening.screener import Party as Asked

        try:
            hits = self.open().screen(Asked(name, country or ""))
        except ScreeningError:
            return None  # no letter, or a text that is no name
        return tuple(_likeness(whose, name, country or "", hit) for hit in hits)

    def _judged_as(self, code: str) -> str:
        place = self._countries.place(code)
        return code.upper() if place is None else place.country

    def _opened(self) -> Screener:
        try:
            from auditspan.screening.activated import open_artifact
            from auditspan.screening.errors import ListError
        except ImportError as error:
            raise PolicyError(
                f"names cannot be compared with it: {error.name or error} is not installed here",
                file=self.name,
                remedy="Run: pip install 'auditspan[screening]', wherever events are judged. It builds PyICU, which "
                "needs g++, pkg-config and the headers of ICU (libicu-dev).",
            ) from error
        try:
            return open_artifact(self.name, self._content, self.digest, self._folder, self._judged_as)
        except ListError as error:
            _, _, fault = error.message.partition(": ")
            said = f"record {error.record}: {fault}" if error.record else fault
            raise PolicyError(said, file=self.name, line=error.line, remedy=error.remedy) from error
        except AuditSpanError as error:
            raise PolicyError(error.message, file=self.name, remedy=error.remedy) from error
        except OSError as error:
            raise PolicyError(
                f"what is read from it cannot be kept in {self._folder or 'a temporary folder'}: {error.strerror}",
                file=self.name,
                remedy="Make room there, and see that the service may write it.",
            ) from error


def screening_list_of(
    artifacts: Mapping[str, bytes], countries: Countries, folder: Path | None
) -> ScreeningList | None:
    """The screening list among ``artifacts``; None where there is none.

    Raises:
        PolicyError: there are two, or it is not packed.
    """
    names = sorted(SCREENING_LISTS & artifacts.keys())
    if len(names) > 1:
        raise PolicyError(
            f"{names[0]} is there as well", file=names[1], remedy="Withdraw one: a reference has one screening list."
        )
    return ScreeningList(names[0], artifacts[names[0]], countries, folder) if names else None


def kept_below(folder: Path) -> Path:
    """Where what is read from screening lists is kept, below the folder of the artifacts."""
    return folder / _FOLDER


def version_of(name: str, content: bytes) -> str:
    """Day of the list and beginning of its digest, as ``lists show`` names lists.

    Raises:
        PolicyError: it is not packed by gzip.
    """
    if len(content) < _HEADER.size or not content.startswith(_GZIP):
        raise PolicyError("it is not packed by gzip", file=name, remedy="Activate it by: auditspan lists activate.")
    seconds = _HEADER.unpack_from(content)[3]
    day = datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat() if seconds else "undated"
    return f"{day}/{hashlib.sha256(content).hexdigest()[:12]}"


def _likeness(whose: str, name: str, country: str, hit: Hit) -> Likeness:
    from auditspan.screening.policies import entry_requirement, word_of

    identified = "identifier" in hit.corroborated_by
    equal = hit.parts["name"] >= _EQUAL and not hit.weak and bool(hit.corroborated_by)
    text = str(hit.entry.get("license_requirement") or "")
    entry: tuple[str, str] | None = None
    if hit.list == _ENTITY_LIST and text:  # without a text it is as if no entry were known: for all items
        entry = entry_requirement(text), shortened(text, _LONGEST_REQUIREMENT)
    return Likeness(
        whose,
        name,
        country,
        word_of(hit.list),
        hit.list,
        hit.entry_id,
        hit.listed_as,
        hit.matched_name,
        hit.role,
        hit.score,
        ", ".join(f"{part} {share:+.2f}" if part != "name" else f"{part} {share:.2f}" for part, share in _parts(hit)),
        hit.corroborated_by,
        # Who stands above a listed party, or owns a part of it, is not that party: what follows is for a person to say.
        not whose and (identified or equal),
        entry,
    )


def _parts(hit: Hit) -> list[tuple[str, Any]]:
    return [(part, hit.parts[part]) for part in ("name", "country", "address", "identifier") if part in hit.parts]


def shortened(text: str, longest: int) -> str:
    """``text`` on one line, its end cut off where it is longer."""
    plain = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
