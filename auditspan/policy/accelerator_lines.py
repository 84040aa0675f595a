"""The lines that a classification turns on, how far a value is from each, and what contains a circuit."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from .accelerators import Accelerator
from .errors import PolicyError
from .performance import Interval, SpecificationError, number
from .rule_time import parse_instant
from .tables import Table

__all__ = ["COMPUTER_COLUMNS", "LINE_COLUMNS", "ComputerEccns", "Line", "Lines", "Margin"]

LINE_COLUMNS: Final = ("quantity", "at", "tpp_from", "tpp_below", "from", "parts", "citation")
COMPUTER_COLUMNS: Final = ("contained", "computer", "citation", "status")

_QUANTITIES: Final = {
    "tpp": (1, "TPP"),
    "performance_density": (1000, "density"),
    "dram_bandwidth": (1, "DRAM bandwidth"),
}
"""Units of the fact in one unit of the table, and words for it."""
_CLOSE: Final = "50"

Side = Literal["above", "below", "undetermined"]


@dataclass(frozen=True, slots=True)
class Line:
    """A value at which a paragraph begins or ends; ``at`` in units of the fact (density in thousandths)."""

    quantity: str
    at: int
    label: str
    parts: str
    citation: str
    start: int
    tpp_from: int
    tpp_below: int | None


@dataclass(frozen=True, slots=True)
class Margin:
    """Where a value stands to a line.

    Attributes:
        line: the line.
        side: ``above`` = reaches it at both ends of its interval, ``below`` = at neither, else ``undetermined``.
        basis_points: distance from the nearer end, in hundredths of a percent of the line, negative below it; 0 where
            undetermined.
        close: undetermined, or nearer than the table's ``close_permille``.
    """

    line: Line
    side: Side
    basis_points: int
    close: bool


class Lines:
    """The lines table.

    Raises:
        PolicyError: an unknown quantity, or a value that is no number.
    """

    def __init__(self, table: Table) -> None:
        try:
            self._close = int(number(table.head.get("close_permille", _CLOSE), "close_permille"))
        except SpecificationError as error:
            raise PolicyError(str(error), file=table.file, line=1, remedy=error.remedy) from error
        found: list[Line] = []
        for row in table.rows:
            if row["quantity"] not in _QUANTITIES:
                raise table.fault(row, f"quantity is {row['quantity']!r}", f"Write one of {', '.join(_QUANTITIES)}.")
            scale, words = _QUANTITIES[row["quantity"]]
            try:
                at = number(row["at"], "at") * scale
                start = parse_instant(row["from"])
            except SpecificationError as error:
                raise table.fault(row, str(error), error.remedy) from error
            except ValueError as error:
                raise table.fault(row, str(error), "Write YYYY-MM-DD.") from error
            if at.denominator != 1 or not at:
                raise table.fault(row, f"at is {row['at']!r}", "Give at most three decimals, above 0.")
            found.append(
                Line(
                    row["quantity"],
                    int(at),
                    f"{words} {row['at']}",
                    row["parts"],
                    row["citation"],
                    start,
                    table.integer(row, "tpp_from") or 0,
                    table.integer(row, "tpp_below"),
                )
            )
        self.all: tuple[Line, ...] = tuple(found)

    def margins(self, accelerator: Accelerator, instant: int) -> tuple[Margin, ...]:
        """The margin to every line in force at ``instant`` that can matter for ``accelerator``, nearest first."""
        tpp = accelerator.tpp
        if tpp is None:
            return ()
        bandwidth = accelerator.dram_bandwidth
        values = {
            "tpp": tpp,
            "performance_density": accelerator.performance_density,
            "dram_bandwidth": None if bandwidth is None else Interval(bandwidth, bandwidth),
        }
        found = [
            self._margin(line, value)
            for line in self.all
            if line.start <= instant
            and (value := values[line.quantity]) is not None
            and tpp.high >= line.tpp_from
            and (line.tpp_below is None or tpp.low < line.tpp_below)
        ]
        return tuple(sorted(found, key=lambda margin: abs(margin.basis_points)))

    def _margin(self, line: Line, value: Interval) -> Margin:
        if value.low < line.at <= value.high:
            return Margin(line, "undetermined", 0, True)
        above = value.low >= line.at
        distance = Fraction((value.low if above else value.high) - line.at, line.at)
        close = abs(distance) <= Fraction(self._close, 1000)
        # Rounded towards the line: a margin is never overstated.
        return Margin(line, "above" if above else "below", int(distance * 10_000), close)


class ComputerEccns:
    """ECCN of a computer, assembly or component by that of the circuit it contains."""

    def __init__(self, table: Table | None) -> None:
        self._of = {row["contained"]: row["computer"] for row in (table.rows if table is not None else ())}

    def containing(self, eccn: str | None) -> str | None:
        """The ECCN of what contains an item of ``eccn``; ``None`` where the table does not say."""
        return self._of.get(eccn) if eccn else None
