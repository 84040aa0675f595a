"""What two texts are names of, where nobody said: read from their words alone."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from .name_form import Kind, name_form
from .spelling import latin, plain_text
from .words import nickname_groups, packaged

__all__ = ["guessed_kind", "looks_like_address"]

_WORDS: Final = re.compile(r"[^\W\d_]+")
_FLAG_OF_SHIP: Final = re.compile(
    r"^\s*(?:m\s*[./]?\s*[vty]|s\s*[./]\s*s|motor (?:vessel|tanker|yacht)|vessel)\b[\s.:]+", re.I
)
_FAMILY_GIVEN: Final = re.compile(r"^[^,\d]+,[^,\d]+$")
_MANY_PARTS: Final = 2
"""Commas of a text with a number from which on it is an address, whatever its words."""


def guessed_kind(query: str, candidate: str) -> Kind:
    """The kind of both texts; empty where their words say nothing.

    Two texts are addresses where both look like one. A legal form or a trade in one of them makes both companies; a
    title, an initial, `FAMILY, Given` or a known given name, persons; `M/V` and the like, ships.
    """
    if looks_like_address(query) and looks_like_address(candidate):
        return "address"
    if _FLAG_OF_SHIP.match(query) or _FLAG_OF_SHIP.match(candidate):
        return "vessel"
    kinds = {name_form(query).kind, name_form(candidate).kind}
    if "organization" in kinds:
        return "organization"
    if "person" in kinds or _is_personal(query) or _is_personal(candidate):
        return "person"
    return ""


def looks_like_address(text: str) -> bool:
    """Whether ``text`` has a number, and a word such as *street*, or several parts between commas."""
    if not any(character.isdigit() for character in text):
        return False
    plain = latin(plain_text(text)).lower()
    if plain.count(",") >= _MANY_PARTS:
        return True
    return any(word in _address_words() for word in _WORDS.findall(plain))


def _is_personal(text: str) -> bool:
    if _FAMILY_GIVEN.match(text):
        return True
    words = _WORDS.findall(latin(plain_text(text)).lower())
    return len(words) > 1 and any(word in nickname_groups() for word in words)


@cache
def _address_words() -> frozenset[str]:
    rows = packaged("address_words.csv", ("words",)).rows
    return frozenset(word for row in rows for word in row["words"].split())
