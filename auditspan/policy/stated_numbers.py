"""Numbers as people write them: with commas, decimals or a sign of per cent, in the unit of a fact or not.

What a rule compares is an integer. A number between two of them is read to the side on which it passes no line that it
does not pass; one that may be meant in two units is refused, or pointed out.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final

from auditspan.canonical import LARGEST_INTEGER
from auditspan.errors import AuditSpanError

from .facts import Fact

__all__ = ["integer"]

_NUMBER: Final = re.compile(r"^(\d{1,16}(?:\.\d{1,12})?)\s*(%?)$")
_SPECIFICATION: Final = re.compile(r"^tpp|_bandwidth$")
_WHOLE: Final = frozenset({"us_content", "synthetic_data_permille"})
"""Shares, which are no more than the whole; operations added may be."""


def integer(fact: Fact, value: Any) -> tuple[Any, str]:
    """``value`` as the integer that ``fact`` takes, or as it is where it is none; and what to say of it, or nothing.

    Raises:
        AuditSpanError: it may be meant in two units, or is no share of anything.
    """
    if fact.name.endswith("_date") and isinstance(value, str):
        return value.strip(), ""  # `facts_from` reads it
    number, per_cent = (None, False) if isinstance(value, bool) else _number(value)
    if number is None or number < 0:
        return value, ""
    if "thousandths" in fact.meaning:
        return _thousandths(fact, value, number, per_cent)
    if fact.name == "listed_ownership":
        if 0 < number < 1 or number > 100:
            raise AuditSpanError(f"{fact.name!r} is {value!r}.", remedy="Give per cent, such as 50.")
        return int(number), ""  # rounded down, for the line is at a whole per cent
    if not per_cent and (_SPECIFICATION.search(fact.name) or number == int(number)):
        return int(number), ""  # rounded down: to reach, or stay below, a whole number is what rules ask for
    return value, ""


def _thousandths(fact: Fact, value: Any, number: Decimal, per_cent: bool) -> tuple[Any, str]:
    """In thousandths: 5.92 and "5.92" are 5920, and "26 %" is 260. An integer is meant in thousandths already."""
    whole = isinstance(value, int) or (isinstance(value, str) and "." not in value and not per_cent)
    density = "density" in fact.name
    if density and whole and 0 < number < 100:
        raise AuditSpanError(
            f"{fact.name!r} is {value!r}, which may be meant in thousandths or not.",
            remedy=f"Write {number}.0, or thousandths: {number}000.",
        )
    if density and per_cent:
        return value, ""
    scaled = number if whole else number * (10 if per_cent else 1000)
    if fact.name in _WHOLE and scaled > 1000:
        raise AuditSpanError(
            f"{fact.name!r} is {value!r}, more than the whole.", remedy='Give thousandths, 0.26, or "26 %".'
        )
    # Densities of processors are compared with "at least" and "below"; all else with "more than".
    down = fact.name.startswith("performance_density")
    thousandths = int(scaled.to_integral_value(rounding=ROUND_FLOOR if down else ROUND_CEILING))
    if not whole:
        return thousandths, f"{fact.name} is {thousandths} thousandths, for {value}."
    if not density and 0 < number <= 100:
        return thousandths, f"{fact.name} is {number} thousandths; {number} per cent would be {number}0."
    return thousandths, ""


def _number(value: Any) -> tuple[Decimal | None, bool]:
    """The number that ``value`` is or writes, and whether it is one of a hundred."""
    if isinstance(value, (int, float)):
        number = Decimal(str(value))
        return (number, False) if number.is_finite() and number < LARGEST_INTEGER else (None, False)
    match = _NUMBER.match(value.strip().replace(",", "").replace("_", "")) if isinstance(value, str) else None
    return (Decimal(match.group(1)), bool(match.group(2))) if match else (None, False)
