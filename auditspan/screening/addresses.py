"""How surely two addresses are one place, from 0 to 1."""

from __future__ import annotations

from typing import Final

from rigour.addresses import compare_address

from .alignment import align
from .name_form import name_form
from .spelling import latin, plain_text

__all__ = ["address_score"]

_OTHER_WORDS: Final = 0.75


def address_score(left: str, right: str) -> float:
    """1 for the same address, however abbreviated and ordered; numbers must agree.

    The words are compared by `rigour`. Where each address has a word of its own that the other has not, as in King
    Street and Queen Street, they are two places more likely than not.
    """
    first, second = latin(plain_text(left)), latin(plain_text(right))
    if not first.strip() or not second.strip():
        return 0.0
    score = float(compare_address(first, second))
    aligned = align(name_form(first, "address").tokens, name_form(second, "address").tokens)
    own = [
        sum(token.weight for token in tokens if token.word_class == "own" and len(token.text) > 3)
        for tokens in (aligned.only_left, aligned.only_right)
    ]
    return score * _OTHER_WORDS if min(own) > 0 else score
