"""Which word of one name is which of the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rapidfuzz.distance import OSA

from .name_form import Token
from .spelling import folded
from .word_score import word_score

__all__ = ["Alignment", "Pair", "align"]

_LEAST: Final = 0.6
_JOINED: Final = 0.95
_ACRONYM: Final = 0.88
_INITIAL: Final = 0.8
_ACRONYM_LENGTHS: Final = range(3, 8)
_LEFT_OUT: Final = frozenset({"stop", "particle"})


@dataclass(frozen=True, slots=True)
class Pair:
    """Words of the two names that are one and the same, and how surely."""

    left: tuple[Token, ...]
    right: tuple[Token, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """All words of two names: those that meet, and those that found none."""

    pairs: tuple[Pair, ...]
    only_left: tuple[Token, ...]
    only_right: tuple[Token, ...]


def align(
    left: Sequence[Token], right: Sequence[Token], left_forms: Sequence[Token] = (), right_forms: Sequence[Token] = ()
) -> Alignment:
    """Pairs words: equal ones first, then words written as two, acronyms, the most alike, and initials.

    The legal forms of the names are no words to pair, but an acronym may count their first letters.
    """
    lefts, rights = list(left), list(right)
    pairs = _equal(lefts, rights)
    if lefts and rights:
        pairs += _joined(lefts, rights, swap=False)
        pairs += _joined(rights, lefts, swap=True)
    if lefts and rights:
        others_meet = any(pair.left[0].word_class in ("own", "number") for pair in pairs)
        pairs += _acronyms(lefts, rights, right_forms, others_meet, swap=False)
        pairs += _acronyms(rights, lefts, left_forms, others_meet, swap=True)
    if lefts and rights:
        pairs += _alike(lefts, rights)
    if lefts and rights:
        pairs += _initials(lefts, rights, swap=False)
        pairs += _initials(rights, lefts, swap=True)
    return Alignment(tuple(pairs), tuple(lefts), tuple(rights))


def _pair(few: tuple[Token, ...], many: tuple[Token, ...], score: float, swap: bool) -> Pair:
    return Pair(many, few, score) if swap else Pair(few, many, score)


def _equal(lefts: list[Token], rights: list[Token]) -> list[Pair]:
    texts = [token.text for token in rights]
    pairs: list[Pair] = []
    rest: list[Token] = []
    for token in lefts:
        if token.text in texts:
            place = texts.index(token.text)
            del texts[place]
            pairs.append(Pair((token,), (rights.pop(place),), 1.0))
        else:
            rest.append(token)
    lefts[:] = rest
    return pairs


def _joined(singles: list[Token], parts: list[Token], *, swap: bool) -> Iterator[Pair]:
    """One word of ``singles`` that stands as two or three in ``parts``."""
    if len(parts) < 2:
        return
    for single in list(singles):
        if len(single.text) < 4:
            continue
        for start in range(len(parts) - 1):
            if parts[start].text[0] != single.text[0]:
                continue
            found = next(
                (
                    end
                    for end in (start + 2, start + 3)
                    if end <= len(parts) and _same("".join(part.text for part in parts[start:end]), single)
                ),
                None,
            )
            if found is not None:
                yield _pair((single,), tuple(parts[start:found]), _JOINED, swap)
                singles.remove(single)
                del parts[start:found]
                break


def _same(text: str, token: Token) -> bool:
    if text == token.text:
        return True
    if abs(len(text) - len(token.text)) > 2:
        return False
    fold = folded(text)
    return fold == token.fold or (len(fold) > 6 and OSA.distance(fold, token.fold, score_cutoff=1) < 2)


def _acronyms(
    singles: list[Token], parts: list[Token], forms: Sequence[Token], others_meet: bool, *, swap: bool
) -> Iterator[Pair]:
    """One word of ``singles`` made of the first letters of words that follow each other in ``parts``.

    Words like `of` may be left out, and those of the legal form may count: SMIC ends with its Corporation. Two letters
    are enough only where another word of the names is the same.
    """
    for single in list(singles):
        length = len(single.text)
        if single.word_class != "own" or length > len(parts) + len(forms):
            continue
        if length not in _ACRONYM_LENGTHS and not (others_meet and length == 2):
            continue
        meant = _initialled(single.text, parts, forms)
        if meant:
            yield _pair((single,), meant, _ACRONYM, swap)
            singles.remove(single)
            for part in meant:
                parts.remove(part)


def _initialled(text: str, parts: Sequence[Token], forms: Sequence[Token]) -> tuple[Token, ...]:
    """The words of ``parts`` whose first letters, with those of the legal form at the end, are ``text``."""
    ending = "".join(form.text[0] for form in forms)
    for words in (list(parts), [part for part in parts if part.word_class not in _LEFT_OUT]):
        initials = "".join(word.text[0] for word in words)
        start = (initials + ending).find(text)
        meant = tuple(words[start : start + len(text)]) if start >= 0 else ()
        if len(meant) > 1 and all(len(word.text) > 1 for word in meant):
            return meant
    return ()


def _alike(lefts: list[Token], rights: list[Token]) -> Iterator[Pair]:
    found = [
        (score, -abs(x - y), x, y)
        for x, left in enumerate(lefts)
        for y, right in enumerate(rights)
        if (score := word_score(left, right)) >= _LEAST
    ]
    used_left: set[int] = set()
    used_right: set[int] = set()
    for score, _, x, y in sorted(found, reverse=True):
        if x in used_left or y in used_right:
            continue
        used_left.add(x)
        used_right.add(y)
        yield Pair((lefts[x],), (rights[y],), score)
    lefts[:] = [token for x, token in enumerate(lefts) if x not in used_left]
    rights[:] = [token for y, token in enumerate(rights) if y not in used_right]


def _initials(singles: list[Token], words: list[Token], *, swap: bool) -> Iterator[Pair]:
    """A letter of ``singles`` that a word begins with."""
    for single in list(singles):
        if single.word_class != "initial" or single.digits:
            continue
        meant = next((word for word in words if len(word.text) > 1 and word.text[0] == single.text), None)
        if meant is not None:
            yield _pair((single,), (meant,), _INITIAL, swap)
            singles.remove(single)
            words.remove(meant)
