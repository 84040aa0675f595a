"""The tables that ship with the matcher: what a word says of a party, Han words of company names, nicknames."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Final

from auditspan.policy.tables import Table, parse_table

__all__ = ["Meaning", "han_words", "legal_forms", "meaning", "nickname_groups", "one_letter_out", "packaged"]

_SHORTEST_STEM: Final = 3
_SHORTEST_MISTYPED: Final = 6


@cache
def packaged(name: str, columns: tuple[str, ...]) -> Table:
    """The table ``name`` of the package's data."""
    return parse_table(resources.files("auditspan.screening.data").joinpath(name).read_bytes(), name, columns)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a word that is no party's own says: its class, and a name that words of the same meaning share."""

    word_class: str
    symbol: str


@cache
def _meanings() -> Mapping[str, Meaning]:
    found: dict[str, Meaning] = {}
    for row in packaged("words.csv", ("class", "words")).rows:
        words = row["words"].split()
        named = row["class"] in ("form", "generic", "domain")
        for word in words:
            found.setdefault(word, Meaning(row["class"], f"WORD:{words[0]}" if named else ""))
    return found


@lru_cache(1 << 16)
def meaning(word: str) -> Meaning | None:
    """What a lower-case ASCII ``word`` says, where it is in the table or begins as a word there does."""
    known = _meanings()
    exact = known.get(word)
    if exact is not None:
        return exact
    stems = (known.get(f"{word[:length]}*") for length in range(len(word), _SHORTEST_STEM - 1, -1))
    stem = next((stem for stem in stems if stem is not None), None)
    if stem is not None or len(word) < _SHORTEST_MISTYPED:
        return stem
    mistyped = _mistyped()
    return next((mistyped[left] for left in one_letter_out(word) if left in mistyped), None)


@cache
def _mistyped() -> Mapping[str, Meaning]:
    """Long words of the table with one letter out: a typing error in one does not make it a party's own word."""
    found: dict[str, Meaning] = {}
    for word, said in _meanings().items():
        if said.symbol and len(word) >= _SHORTEST_MISTYPED and not word.endswith("*"):
            for left in one_letter_out(word):
                found.setdefault(left, said)
    return found


def one_letter_out(word: str) -> Iterator[str]:
    """What two words that are one typing error apart have in common: the word, and it with each letter out."""
    yield word
    for place in range(len(word)):
        if place == 0 or word[place] != word[place - 1]:
            yield word[:place] + word[place + 1 :]


@cache
def legal_forms() -> Sequence[tuple[re.Pattern[str], str]]:
    """Legal forms written out, and what they are written as in short."""
    rows = packaged("legal_forms.csv", ("pattern", "form")).rows
    return [(re.compile(rf"\b{row['pattern']}(?!\w)"), row["form"]) for row in rows]


@cache
def nickname_groups() -> Mapping[str, frozenset[int]]:
    """The groups of given names that a name belongs to."""
    found: dict[str, frozenset[int]] = {}
    for number, row in enumerate(packaged("nicknames.csv", ("names",)).rows):
        for name in row["names"].split():
            found[name] = found.get(name, frozenset()) | {number}
    return found


@cache
def han_words() -> tuple[re.Pattern[str], Mapping[str, str]]:
    """A pattern that finds Han words of company names, the longest first, and their English."""
    english = {row["han"]: row["english"] for row in packaged("han_words.csv", ("han", "english")).rows}
    return re.compile("|".join(sorted(english, key=len, reverse=True))), english
