"""The names that an entry's text holds: lists write aliases, parents, places and remarks into one field."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .name_form import name_form

__all__ = ["ROLES", "is_address", "names_in", "names_of"]

ROLES: Final = ("primary", "alias", "former", "acronym")
"""What a name of an entry is; an acronym is a weak one."""

# `X. Affiliated Entity: Y` lists Y; X, whose affiliate it is, has an entry of its own.
_BELONGS_TO: Final = re.compile(
    r"^.{4,}?[.,;]?\s+(?:affiliated entity:|subordinate institution\s*[-–:]|and subordinate entity)\s+(?P<own>.{3,})$",
    re.I,
)
_ADDRESS: Final = re.compile(r"^address\s*\d+\W*$", re.I)
_NO_NAME: Final = re.compile(r"^(?:address\s*\d+|\(?all of (?:the )?preceding.*|n/?a|none|unknown)\W*$", re.I)
_TAIL: Final = re.compile(
    r"[;,.]?\s+(?:and any successors?\b.*|including the .*|all address(?:es)? located .*|this includes .*)$", re.I
)
_ALIAS: Final = re.compile(
    r"[;,.]?\s*[(\-]?\s*\b(?P<how>[af]\.?\s?k\.?\s?a\.?s?|formerly known as|also known as)(?=[\s,:-])\W*", re.I
)
_CLEAR_ALIAS: Final = re.compile(r"[af]\.\s?k\.\s?a|known as|[-,] ?akas|[(] ?[af]ka", re.I)
_ACRONYM: Final = re.compile(r"^(?P<name>.{8,}?)\s*\((?P<acronym>[A-Z][A-Za-z0-9-]{1,6})\)\s*\.?$")
_LEADING: Final = re.compile(r"^(?P<how>[af])\.?k\.?a\.?[,:]?\s+", re.I)


def names_in(text: str, role: str = "primary") -> list[tuple[str, str]]:
    """The names that ``text`` holds, each with its role; the first is the one that is listed.

    >>> names_in("LTS Holding Limited (f.k.a. IPP Ltd.)")
    [('LTS Holding Limited', 'primary'), ('IPP Ltd', 'former')]
    """
    text = " ".join(text.split())
    if _NO_NAME.match(text):
        return []
    if leading := _LEADING.match(text):
        text, role = text[leading.end() :], _role_of(leading["how"])
    belongs = _BELONGS_TO.match(text)
    if belongs and any(token.word_class == "own" for token in name_form(belongs["own"], "organization").tokens):
        # One that is only a `Second Design Department` keeps the name of whom it is of.
        text = belongs["own"]
    text = _TAIL.sub("", text)
    found: list[tuple[str, str]] = []
    for number, part in enumerate(text.split(";")):
        found += _known_as(part.strip(), role if number == 0 else "alias")
    return [(name, how) for name, how in dict.fromkeys(found) if any(character.isalnum() for character in name)]


def is_address(text: str) -> bool:
    """Whether an entry so called is an address, whoever is there: ``Address 01`` of the Entity List."""
    return _ADDRESS.match(text) is not None


def _known_as(text: str, role: str) -> list[tuple[str, str]]:
    if not _CLEAR_ALIAS.search(text):
        return _with_acronym(text, role)
    found: list[tuple[str, str]] = []
    start = 0
    how = role
    for match in _ALIAS.finditer(text):
        found += _several(text[start : match.start()], how, role)
        start, how = match.end(), _role_of(match["how"])
    return found + _several(text[start:], how, role)


def _several(text: str, how: str, first: str) -> list[tuple[str, str]]:
    """After `AKAS` names follow, between commas; elsewhere a comma is part of a name."""
    text = text.strip(" ,.-)(" if how != first else " ,-(")
    if not text:
        return []
    if how != first and text.count(",") > 1:
        return [pair for part in text.split(",") for pair in _with_acronym(part.strip(), how)]
    return _with_acronym(text, how)


def _with_acronym(text: str, role: str) -> list[tuple[str, str]]:
    found = _ACRONYM.match(text)
    if found is None or not _is_acronym(found["acronym"]):
        return [(text, role)]
    return [(found["name"].rstrip(" ,."), role), (found["acronym"], "acronym")]


def _is_acronym(text: str) -> bool:
    """Capitals that name the party, not its country or legal form."""
    capitals = sum(character.isupper() or character.isdigit() for character in text)
    return capitals * 2 > len(text) and all(
        token.word_class in ("own", "number") for token in name_form(text, "organization").tokens
    )


def _role_of(how: str) -> str:
    return "former" if how[0] in "fF" else "alias"


def names_of(name: str, aliases: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """All names of an entry with their roles, each once; an alias that is no name, as `Address 01`, is left out."""
    found = dict[str, str]()
    for text, role in ((name, "primary"), *((alias, "alias") for alias in aliases)):
        for each, how in names_in(text, role):
            found.setdefault(each, how)
    return tuple(found.items())
