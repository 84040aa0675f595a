"""What each list means and when a name is a hit on it; and when a pair of names alone is one party."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from auditspan.policy.tables import Row, Table

from .words import packaged

__all__ = ["ListPolicy", "kind_thresholds", "list_policies", "policy_of"]


@dataclass(frozen=True, slots=True)
class ListPolicy:
    """A list's code, the words of its source's name, the least score of a hit, its legal effect, where that
    stands, and how sure it is (``verified``, ``unverified``).
    """

    code: str
    source: str
    threshold: float
    effect: str
    citation: str
    effect_status: str


@cache
def list_policies() -> Mapping[str, ListPolicy]:
    """By code; ``*`` is that of a list without a row of its own."""
    table = packaged("lists.csv", ("list", "source", "threshold", "effect", "citation", "effect_status"))
    return {
        row["list"]: ListPolicy(
            row["list"], row["source"], _share(table, row), row["effect"], row["citation"], row["effect_status"]
        )
        for row in table.rows
    }


def policy_of(code: str) -> ListPolicy:
    """Of the list ``code``."""
    policies = list_policies()
    return policies.get(code, policies["*"])


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
