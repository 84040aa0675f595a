"""What each list means and when a name is a hit on it; and when a pair of names alone is one party."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from auditspan.policy.tables import Row, Table

from .words import packaged

__all__ = ["ListPolicy", "entry_requirement", "kind_thresholds", "list_policies", "policy_of", "word_of"]

_WORD: Final = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class ListPolicy:
    """A list's code, what rules call it, the words of its source's name, the least score of a hit, its legal effect,
    where that stands, and how sure it is (``verified``, ``unverified``).
    """

    code: str
    word: str
    source: str
    threshold: float
    effect: str
    citation: str
    effect_status: str


@cache
def list_policies() -> Mapping[str, ListPolicy]:
    """By code; ``*`` is that of a list without a row of its own."""
    table = packaged("lists.csv", ("list", "word", "source", "threshold", "effect", "citation", "effect_status"))
    return {
        row["list"]: ListPolicy(
            row["list"],
            row["word"],
            row["source"],
            _share(table, row),
            row["effect"],
            row["citation"],
            row["effect_status"],
        )
        for row in table.rows
    }


def policy_of(code: str) -> ListPolicy:
    """Of the list ``code``."""
    policies = list_policies()
    return policies.get(code, policies["*"])


def word_of(code: str) -> str:
    """What rules and registries call the list ``code``: ``denied-persons`` is DPL."""
    return policy_of(code).word or code.lower()


@cache
def _requirements() -> tuple[tuple[str, str], ...]:
    table = packaged("entry_requirements.csv", ("requirement", "phrase"))
    return tuple((row["phrase"], row["requirement"]) for row in table.rows)


def entry_requirement(text: str) -> str:
    """Which items an entry's own ``license_requirement`` is for: ``all_items``, ``not_ear99`` or ``other``."""
    plain = f" {' '.join(_WORD.findall(text.lower()))} "
    return next((requirement for phrase, requirement in _requirements() if f" {phrase} " in plain), "other")


@cache
def kind_thresholds() -> Mapping[str, float]:
    """By kind; empty is where the kind is not known."""
    table = packaged("kinds.csv", ("kind", "threshold"))
    return {row["kind"]: _share(table, row) for row in table.rows}


def _share(table: Table, row: Row) -> float:
    try:
        value = float(row["threshold"])
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise table.fault(row, f"threshold is {row['threshold']!r}", "Give a number above 0, at most 1.")
    return value
