"""How surely two names are names of one party, from 0 to 1, and what speaks for and against it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from .alignment import Alignment, Pair, align
from .name_form import Kind, NameForm, Token

__all__ = ["NameScore", "name_score"]

_CONFLICTING_NUMBERS: Final = 0.6
"""The most that names with different numbers get: Plant 5 is not Plant 6."""
_STRICT: Final = 3
_LONG: Final = 7
_NUMBER_OF_ONE: Final = 0.8
_CONFLICTING_PLACES: Final = 0.85
_CONFLICTING_WORDS: Final = 0.95
_OTHER_LEGAL_FORM: Final = 0.03
_ONE_LEGAL_FORM: Final = 0.005
_PERSON_EXTRA: Final = 0.3
_SINGLE_EXTRA: Final = 0.65
_GENERIC_EXTRA: Final = 0.4
_PLACE_EXTRA: Final = 0.7
_OWN_EXTRA: Final = 0.9
_GENERIC: Final = frozenset({"form", "generic", "domain", "legal", "stop", "particle", "honorific"})


@dataclass(frozen=True, slots=True)
class NameScore:
    """A score with its parts.

    Attributes:
        score: from 0, other names, to 1, the same name.
        left_covered, right_covered: how much of each name, by weight, is in the other.
        pairs: the words that meet.
        only_left, only_right: the words that do not.
        conflicts: what rules the match out or makes it doubtful: ``numbers``,
            ``places``, ``words``, ``legal_form``.
    """

    score: float
    left_covered: float
    right_covered: float
    pairs: tuple[Pair, ...] = ()
    only_left: tuple[Token, ...] = ()
    only_right: tuple[Token, ...] = ()
    conflicts: tuple[str, ...] = ()


_NOTHING: Final = NameScore(0.0, 0.0, 0.0)


def name_score(left: NameForm, right: NameForm, kind: Kind = "") -> NameScore:
    """Compares two names of ``kind``; where that is empty, of what they look like."""
    kind = kind or _kind(left.kind, right.kind)
    lefts, left_forms = _split(left.tokens)
    rights, right_forms = _split(right.tokens)
    if not lefts or not rights:
        lefts, rights, left_forms, right_forms = list(left.tokens), list(right.tokens), [], []
    if not lefts or not rights:
        return _NOTHING
    aligned = align(lefts, rights, left_forms, right_forms)
    if kind == "vessel":
        aligned = _as_of_vessels(aligned)
    left_missing = _missing(((pair.left, pair.score) for pair in aligned.pairs), aligned.only_left)
    right_missing = _missing(((pair.right, pair.score) for pair in aligned.pairs), aligned.only_right)
    left_covered = 1 - left_missing / sum(token.weight for token in lefts)
    right_covered = 1 - right_missing / sum(token.weight for token in rights)
    less, more = sorted((left_covered, right_covered))
    score = more - (more - less) * _price_of_extra(kind, aligned, lefts, rights)
    conflicts = []
    if _conflict(aligned, "number"):
        score = min(score, _CONFLICTING_NUMBERS)
        conflicts.append("numbers")
    elif kind == "vessel" and any(token.digits for token in (*aligned.only_left, *aligned.only_right)):
        score *= _NUMBER_OF_ONE
        conflicts.append("numbers")
    if _conflict(aligned, "own"):
        score *= _CONFLICTING_WORDS
        conflicts.append("words")
    if _conflict(aligned, "location"):
        score *= _CONFLICTING_PLACES
        conflicts.append("places")
    if left_forms and right_forms:
        if not _forms(left_forms) & _forms(right_forms):
            score -= _OTHER_LEGAL_FORM
            conflicts.append("legal_form")
    elif left_forms or right_forms:
        score -= _ONE_LEGAL_FORM
    return NameScore(
        max(score, 0.0),
        left_covered,
        right_covered,
        aligned.pairs,
        aligned.only_left,
        aligned.only_right,
        tuple(conflicts),
    )


def _as_of_vessels(aligned: Alignment) -> Alignment:
    """Names of ships are short words that others bear too: one that is only alike is seldom the same ship."""
    pairs = tuple(
        pair if len(pair.left[0].text) >= _LONG else replace(pair, score=pair.score**_STRICT) for pair in aligned.pairs
    )
    return replace(aligned, pairs=pairs)


def _kind(left: Kind, right: Kind) -> Kind:
    return left if left == right else left or right


def _split(tokens: Iterable[Token]) -> tuple[list[Token], list[Token]]:
    words: list[Token] = []
    forms: list[Token] = []
    for token in tokens:
        (forms if token.word_class == "legal" else words).append(token)
    return words, forms


def _forms(tokens: Iterable[Token]) -> set[str]:
    return {symbol for token in tokens for symbol in (*token.symbols, token.text)}


def _missing(pairs: Iterable[tuple[tuple[Token, ...], float]], alone: Sequence[Token]) -> float:
    found = sum(token.weight for token in alone)
    return found + sum((1 - score) * token.weight for tokens, score in pairs if score < 1 for token in tokens)


def _price_of_extra(kind: Kind, aligned: Alignment, lefts: Sequence[Token], rights: Sequence[Token]) -> float:
    """How much of a difference in coverage counts, where one name says more than the other."""
    if kind == "person":
        shorter = min(_own(lefts), _own(rights))
        return _PERSON_EXTRA if shorter > 1 else _SINGLE_EXTRA
    extra = (*aligned.only_left, *aligned.only_right)
    if extra and all(token.word_class in _GENERIC for token in extra):
        return _GENERIC_EXTRA
    if extra and all(token.word_class in _GENERIC or token.word_class == "location" for token in extra):
        return _PLACE_EXTRA
    return _OWN_EXTRA


def _own(tokens: Iterable[Token]) -> int:
    return sum(1 for token in tokens if token.word_class == "own")


def _conflict(aligned: Alignment, word_class: str) -> bool:
    return any(token.word_class == word_class for token in aligned.only_left) and any(
        token.word_class == word_class for token in aligned.only_right
    )
