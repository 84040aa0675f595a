"""Figures as a reader sees them: a table with target and verdict, and their place in ``docs/benchmarks.md``."""

from __future__ import annotations

import datetime
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "PAGE",
    "SKIPPED",
    "TOLERANCE",
    "Row",
    "aligned",
    "machine",
    "table",
    "write",
    "write_again",
]

TOLERANCE = 0.7
SKIPPED = 3
"""Exit status of a benchmark that needs what this machine has not."""
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Row:
    """One figure. ``limit``: the target is the most that it may be, not the least. ``note`` stands for a verdict.

    A value that is not a number stands for none. ``pace``: how fast the machine was (`benchmarks.pace`), for a rate.
    """

    name: str
    value: float
    target: float | None = None
    limit: bool = False
    unit: str = ""
    note: str = ""
    pace: float = 1.0

    @property
    def passed(self) -> bool:
        """Whether it reaches 70 % of its target at the pace of the machine."""
        return bool(self.note) or self.share / self.pace >= TOLERANCE

    @property
    def share(self) -> float:
        """How much of its target it reaches; 1 and more is all of it."""
        if self.target is None:
            return 1.0
        if not self.value:
            return float(self.limit)
        return self.target / self.value if self.limit else self.value / self.target

    @property
    def verdict(self) -> str:
        """In words."""
        if self.note:
            return self.note
        if self.target is None:
            return "reported"
        if self.share >= 1:
            return "met"
        paced = f", {self.share / self.pace:.0%} at this pace" if self.pace < 1 else ""
        return f"{self.share:.0%}{paced}{'' if self.passed else ': TOO FAR OFF'}"

    def cells(self) -> list[str]:
        """As a line of a table."""
        target = "" if self.target is None else f"{'≤' if self.limit else '≥'} {_text(self.target)}{self.unit}"
        return [self.name, f"{_text(self.value)}{self.unit}", target, self.verdict]


def _text(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def table(rows: Sequence[Row]) -> list[str]:
    """A Markdown table of figures."""
    return aligned(["figure", "measured", "target", "verdict"], [row.cells() for row in rows], right=(1, 2))


def aligned(head: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[int] | None = None) -> list[str]:
    """A Markdown table; the columns ``right``, all but the first by default, hold numbers."""
    numbers = range(1, len(head)) if right is None else right
    rule = ["---:" if column in numbers else "---" for column in range(len(head))]
    every = [head, rule, *lines]
    widths = [max(len(line[column]) for line in every) for column in range(len(head))]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in every
    ]


def machine(short: bool) -> str:
    """When and on what this was measured."""
    when = datetime.datetime.now(datetime.UTC).date().isoformat()
    what = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"Measured {when} on {what}{', short run' if short else ''}."


def write(name: str, lines: Sequence[str]) -> None:
    """Replace what stands on the page between ``<!-- NAME -->`` and ``<!-- end of NAME -->``.

    Raises:
        ValueError: the page has no place for it.
    """
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{PAGE} must have {begin} and {end}")
    PAGE.write_text("\n".join([before + begin, *lines, end + after]), encoding="utf-8")


def write_again(name: str, begins: str, when: str, rows: Sequence[Row]) -> None:
    """Put ``rows`` into the table of figures on the page, in the place of those whose names begin with ``begins``.

    Raises:
        ValueError: there is no table, or no such row in it.
    """
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- figures -->\n")
    lines = rest.partition("\n<!-- end of figures -->")[0].split("\n")
    # Before the table stands a line for each time that figures were measured.
    begin = next(number for number, line in enumerate(lines) if line.startswith("| ---")) + 1
    end = next(number for number, line in enumerate(lines) if number > begin and not line.startswith("|"))
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[begin:end]]
    cells = [(line + [""] * 4)[:4] for line in cells]
    kept = [line for line in cells if not line[0].startswith(begins)]
    place = next(number for number, line in enumerate(cells) if line[0].startswith(begins))
    made = [*kept[:place], *(row.cells() for row in rows), *kept[place:]]
    whens = [line for line in lines[: lines.index("")] if f"`{name}`" not in line]
    figures = aligned(["figure", "measured", "target", "verdict"], made, right=(1, 2))
    write("figures", [*whens, when, "", *figures, *lines[end:]])
