"""How cost grows, as it stands in ``docs/benchmarks.md``."""

from __future__ import annotations

from typing import Any

from benchmarks.kafka.growth import Table
from benchmarks.report import write

__all__ = ["page", "write_page"]

_BLOCK = "figures of kafka"


def page(grown: dict[str, Any], when: str) -> list[str]:
    """The lines of its block, from `benchmarks.kafka.growth.Growth` as JSON."""
    tables = [line for each in grown["tables"] for line in Table(**each).markdown()]
    return [when, "", "![CPU per span by partitions, spans a message and backlog](benchmarks-kafka.svg)", *tables]


def write_page(grown: dict[str, Any], when: str) -> None:
    """Put it onto the page, and the plot beside it."""
    # Only who draws needs the library for it.
    from benchmarks.kafka.plot import draw

    write(_BLOCK, page(grown, when))
    draw(grown["plot"])
