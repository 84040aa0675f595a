"""Figures as a reader sees them: a table with target and verdict, and their place in ``docs/benchmarks.md``."""

from __future__ import annotations

import datetime
import hashlib
import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "PAGE",
    "SKIPPED",
    "TOLERANCE",
    "Row",
    "aligned",
    "hash_rate",
    "machine",
    "table",
    "write",
]

TOLERANCE = 0.7
SKIPPED = 3
"""Exit status of a benchmark that needs what this machine has not."""
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_HASHED = 572
_HASH_SECONDS = 0.5


@dataclass(frozen=True)
class Row:
    """One figure. ``limit``: the target is the most that it may be, not the least. ``note`` stands for a verdict.

    A value that is not a number stands for none.
    """

    name: str
    value: float
    target: float | None = None
    limit: bool = False
    unit: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether it reaches 70 % of its target."""
        return bool(self.note) or self.share >= TOLERANCE

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
        return "met" if self.share >= 1 else f"{self.share:.0%}" if self.passed else f"{self.share:.0%}: TOO FAR OFF"

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


def hash_rate() -> float:
    """SHA-256 digests of 572 bytes that this machine makes in a CPU-second, one by one: to compare machines by."""
    value = b"\x5a" * _HASHED
    done, begin = 0, time.process_time()
    while (spent := time.process_time() - begin) < _HASH_SECONDS:
        for _ in range(10_000):
            hashlib.sha256(value).digest()
        done += 10_000
    return done / spent


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
