"""Facts that follow from the screening list: on which lists somebody stands, or may stand, and why that is said.

They are made at the rule time, from likenesses that do not depend on it: owners come and go, and what an officer has
cleared is cleared for a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from .clearances import Clearances
from .facts import FactSet, FactValue
from .screening_list import Likeness, Screened, shortened

__all__ = ["BY_LIST", "is_cleared", "put_screened", "screening_words"]

BY_LIST: Final = "screening list "
"""How ``known_by`` begins where a fact follows from the screening list."""

_SHOWN: Final = 3
"""Likenesses in one text, which stays below 2,000 characters."""
_LONGEST_NAME: Final = 80
_REGISTRY: Final = "party registry"


def put_screened(
    facts: FactSet, role: str, screened: Screened, version: str, clearances: Clearances, at: int | None
) -> None:
    """Puts what the list says of one party, beside what ``facts`` say of it already. Nothing where it says nothing.

    Args:
        facts: of the event so far.
        role: ``actor``, ``end_user`` or ``consignee``.
        screened: the party's likenesses; None where its name cannot be screened: then it may stand on any list.
        version: of the list.
        clearances: what is cleared.
        at: rule time in nanoseconds.
    """
    if screened is None:
        facts.put(f"{role}_possible_listings", None, "")
        return
    standing = [one for one in screened if one.holds_at(at) and not is_cleared(one, clearances, at)]
    counted = [one for one in standing if one.counts]
    if counted:
        _put(facts, f"{role}_listings", counted, version)
        _put_requirements(facts, role, counted, version)
    known = facts.values.get(f"{role}_listings")
    possible = [one for one in standing if not one.counts and not (isinstance(known, tuple) and one.word in known)]
    if possible:
        _put(facts, f"{role}_possible_listings", possible, version)


def is_cleared(one: Likeness, clearances: Clearances, at: int | None) -> bool:
    """Whether an officer has cleared a likeness."""
    found = clearances.cleared(one.name, one.list, one.entry_id, one.listed_as, one.country or None, at)
    return found is not None


def screening_words(values: Mapping[str, FactValue], known_by: Mapping[str, str], read: frozenset[str]) -> list[str]:
    """A sentence for each of the facts ``read`` that the screening list has a part in, each sentence once."""
    said = (known_by[name] for name in sorted(read & known_by.keys()) if values.get(name))
    return list(dict.fromkeys(f"By {text}." for text in said if text.startswith(BY_LIST)))


def _put(facts: FactSet, name: str, found: Sequence[Likeness], version: str) -> None:
    before = facts.values.get(name)
    stated = before if isinstance(before, tuple) else ()
    text = f"{BY_LIST}{version}: {_told(found)}"
    if stated:
        text += f"; {_REGISTRY}: {', '.join(stated)}"
    facts.put(name, tuple(sorted({*stated, *(one.word for one in found)})), text)


def _put_requirements(facts: FactSet, role: str, counted: Sequence[Likeness], version: str) -> None:
    entries = [(one, one.requirement) for one in counted if one.requirement is not None]
    if not entries:
        return
    quoted = [f"{one.list} {one.entry_id}: “{text}”" for one, (_, text) in entries]
    facts.put(
        f"{role}_entry_requirements",
        tuple(sorted({word for _, (word, _) in entries})),
        f"{BY_LIST}{version}: the licence requirement of {_few(quoted)}",
    )


def _told(found: Sequence[Likeness]) -> str:
    return _few([_sentence(one) for one in found])


def _few(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more


def _sentence(one: Likeness) -> str:
    name = f"“{shortened(one.name, _LONGEST_NAME)}”"
    who = f"{one.whose} {name}" if one.whose else name
    like, listed_as = (f"“{shortened(text, _LONGEST_NAME)}”" for text in (one.matched, one.listed_as))
    if one.role == "primary":
        matched = f"is like {like} of {one.list} {one.entry_id}"
        if one.matched != one.listed_as:
            matched += f" (listed as {listed_as})"
    else:
        matched = f"is like {like}, {_ROLES.get(one.role, one.role)} of {listed_as}, {one.list} {one.entry_id}"
    agrees = f"; {' and '.join(one.by)} agree{'s' if len(one.by) == 1 else ''}" if one.by else ""
    return f"{who} {matched}, score {one.score:.2f} ({one.parts}{agrees})"


_ROLES: Final = {"alias": "an alias", "former": "a former name", "acronym": "an acronym", "address": "the address"}
