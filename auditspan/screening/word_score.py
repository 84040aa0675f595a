"""How alike two words are, from 0 to 1."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from rapidfuzz.distance import OSA, JaroWinkler

from .name_form import Token
from .words import nickname_groups

__all__ = ["word_score"]

_REMEMBERED: Final = 1 << 17
_SAME_SOUNDS: Final = 0.97
_SAME_MEANING: Final = 0.95
_NICKNAME: Final = 0.9
_SAME_CONSONANTS: Final = 0.86
_SAME_STEM: Final = 0.8
_EDITS: Final = (0,) * 4 + (1,) * 2 + (2,) * 3 + (3,) * 4
_EDITS_OF_LONG: Final = 4
"""Edits that two words may be apart and still be one word written differently, by the letters of the shorter one."""


@lru_cache(_REMEMBERED)
def word_score(left: Token, right: Token) -> float:
    """1 for the same word, down to 0 for words that have nothing to do with each other.

    Words with digits agree or do not: no digit is a typing error of another.
    """
    if left.text == right.text:
        return 1.0
    if left.symbols and right.symbols and not left.symbols.isdisjoint(right.symbols):
        return _SAME_MEANING
    if left.digits or right.digits:
        return 0.0
    if left.fold == right.fold and left.fold:
        return _SAME_SOUNDS if len(left.fold) > 2 else 0.9
    if _nickname(left.text, right.text):
        return _NICKNAME
    spelling = _spelling(left.text, right.text)
    if left.fold != left.text or right.fold != right.text:
        spelling = max(spelling, _spelling(left.fold, right.fold))
    if left.skeleton == right.skeleton and _consonants_tell(left, right):
        return max(spelling, _SAME_CONSONANTS)
    return max(spelling, _stem(left.text, right.text))


def _nickname(left: str, right: str) -> bool:
    groups = nickname_groups()
    known = groups.get(left)
    return known is not None and bool(known & groups.get(right, frozenset()))


def _consonants_tell(left: Token, right: Token) -> bool:
    """Whether equal consonants mean one word: long ones with nearly the same vowels, or a script that writes none."""
    if len(left.skeleton) < 3:
        return False
    if len(left.skeleton) == len(left.fold) or len(right.skeleton) == len(right.fold):
        return len(left.skeleton) > 3
    return OSA.distance(left.fold, right.fold) <= min(len(left.fold), len(right.fold)) // 3


def _stem(left: str, right: str) -> float:
    """Words with one stem and short endings: Ramensky and Ramenskoye, Belarus and Belarusian."""
    if len(left) < 5 or left[:5] != right[:5]:
        return 0.0
    shared = next((n for n in range(min(len(left), len(right)), 4, -1) if left[:n] == right[:n]), 0)
    return _SAME_STEM if max(len(left), len(right)) - shared < 4 else 0.0


def _spelling(left: str, right: str) -> float:
    shorter, longer = len(left), len(right)
    if shorter > longer:
        shorter, longer = longer, shorter
    if shorter < len(_EDITS):
        allowed = _EDITS[shorter]
        if not allowed or longer - shorter > allowed:
            return 0.0
    else:
        allowed = _EDITS_OF_LONG
    edits = OSA.distance(left, right, score_cutoff=allowed)
    if edits > allowed:
        return 0.0
    similar = 1 - edits / longer
    # The first letter is seldom what is mistyped, and often what tells two words apart.
    if left[0] != right[0]:
        similar -= 0.1
    return (similar + JaroWinkler.similarity(left, right)) / 2
