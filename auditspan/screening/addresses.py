"""How surely two addresses are one place, from 0 to 1."""

from __future__ import annotations

from typing import Final

from rigour.addresses import match_addresses

from .spelling import latin, plain_text

__all__ = ["address_score"]

_OTHER_WORDS: Final = 0.75
_SHORTEST_WORD: Final = 4


def address_score(left: str, right: str) -> float:
    """1 for the same address, however abbreviated and ordered; numbers must agree.

    The words are compared by `rigour`. Where each address has a word of its own that the other has not, as in King
    Street and Queen Street, they are two places more likely than not.
    """
    first, second = latin(plain_text(left)).strip(), latin(plain_text(right)).strip()
    if not first or not second:
        return 0.0
    found = match_addresses([first], [second])
    if found is None:
        return 0.0
    alone = {sign: [word for word in found.detail.split() if _is_word(word, sign)] for sign in "-+"}
    score = float(found.score)
    return score * _OTHER_WORDS if all(alone.values()) else score


def _is_word(word: str, sign: str) -> bool:
    """Whether a word of the comparison stands in one of the addresses only; abbreviations and numbers tell nothing."""
    return word.startswith(sign) and word[1:].isalpha() and len(word) > _SHORTEST_WORD
