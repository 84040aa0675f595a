"""Sums over classified items, by ECCN and destination."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .classification import ClassifiedItem
from .items import Count

__all__ = ["Total", "totals"]

_NONE = Count(0, 0)


@dataclass(frozen=True, slots=True)
class Total:
    """Items of one ECCN in one destination; ``None`` = undetermined, or unknown.

    Attributes:
        computer_eccn: of the computers that contain them.
        tpp: of all of them together; no high end where one is unknown.
        flagged: items that are held in a controlled destination.
    """

    eccn: str | None
    computer_eccn: str | None
    destination: str | None
    items: int
    accelerators: Count
    tpp: Count
    flagged: int


def totals(items: Iterable[ClassifiedItem]) -> tuple[Total, ...]:
    """One total for each ECCN and destination, the largest TPP first, what is undetermined last."""
    found: dict[tuple[str | None, str | None], Total] = {}
    for item in items:
        key = item.eccn, item.destination
        so_far = found.get(key) or Total(item.eccn, item.computer_eccn, item.destination, 0, _NONE, _NONE, 0)
        found[key] = Total(
            item.eccn,
            item.computer_eccn,
            item.destination,
            so_far.items + 1,
            so_far.accelerators + item.accelerators,
            so_far.tpp + item.total_tpp,
            so_far.flagged + bool(item.judgement and item.judgement.flagged),
        )
    return tuple(sorted(found.values(), key=lambda one: (one.eccn is None, -one.tpp.low, one.destination or "~")))
