"""Total processing performance and performance density, computed from specifications (3A090, technical notes).

``TPP = 2 × MacTOPS × bit length``, summed over the processing units of a package; of all data types the highest counts,
with dense values only. ``2 × MacTOPS`` is what data sheets call TOPS or TFLOPS. ``Performance density = TPP ÷ area`` of
the logic dies, in mm². Inputs are intervals where they are uncertain, and so are the results.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

__all__ = ["BIT_LENGTHS", "Interval", "Performance", "Rate", "SpecificationError", "Uncertain", "compute", "rate"]

BIT_LENGTHS: Final[Mapping[str, int]] = {
    "fp64": 64,
    "fp32": 32,
    "fp16": 16,
    "bf16": 16,
    "fp8": 8,
    "fp6": 6,
    "fp4": 4,
    "int32": 32,
    "int16": 16,
    "int8": 8,
    "int4": 4,
}
"""Bit lengths of the data types whose name says it."""

_SPARSE_GAIN: Final = 2
"""2:4 structured sparsity, the only kind that data sheets give rates for, doubles the dense rate."""
_LONGEST: Final = 128
_FASTEST: Final = 10**7
"""Tera-operations a second: three orders of magnitude above any package there is."""
_DIES: Final = (Fraction(1), Fraction(100_000))
_NUMBER: Final = re.compile(r"^\d{1,9}(?:\.\d{1,6})?$")


class SpecificationError(ValueError):
    """A specification that is absent, unreadable or absurd; the text says which value, and ``remedy`` what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Interval:
    """An integer known within limits, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Uncertain:
    """An exact number known within limits, both included."""

    low: Fraction
    high: Fraction

    def __mul__(self, factor: int) -> Uncertain:
        """Both limits, times a positive factor."""
        return Uncertain(self.low * factor, self.high * factor)

    def outwards(self) -> Interval:
        """The integers around it."""
        return Interval(math.floor(self.low), math.ceil(self.high))


@dataclass(frozen=True, slots=True)
class Rate:
    """What a package does in one data type: dense tera-operations a second, 2 × MacTOPS."""

    data_type: str
    bit_length: int
    tops: Uncertain
    source: str

    @property
    def tpp(self) -> Uncertain:
        """Rate × bit length."""
        return self.tops * self.bit_length


@dataclass(frozen=True, slots=True)
class Performance:
    """What follows from rates and die area.

    Attributes:
        tpp: total processing performance, rounded outwards.
        performance_density: TPP ÷ mm², in thousandths, rounded outwards; ``None`` without an area.
        best: the rate that gives the TPP, the first of equals.
    """

    tpp: Interval
    performance_density: Interval | None
    best: Rate


def number(text: str, name: str) -> Fraction:
    """The decimal number ``text``, exactly.

    Raises:
        SpecificationError: it is none, or has more than 9 digits before or 6 after the point.
    """
    if not _NUMBER.match(text):
        raise SpecificationError(f"{name} is {text!r}", "Give a plain number above 0, such as 989.5.")
    return Fraction(text)


def rate(
    data_type: str, tops: str, *, bit_length: str = "", tolerance_permille: int = 0, sparsity: str = "", source: str
) -> Rate:
    """A rate from its texts. A sparse one is halved, and only where it says that it is sparse.

    Args:
        data_type: such as ``fp8``; its bit length follows where the name says it.
        tops: tera-operations a second of one package.
        bit_length: of the operands, where the name of the type does not say it.
        tolerance_permille: how far the true rate may exceed ``tops``.
        sparsity: ``dense``, ``sparse``, or nothing, which counts as dense: the more restrictive reading.
        source: where the figure comes from.

    Raises:
        SpecificationError: a value is missing, unreadable or absurd.
    """
    name = data_type.strip().lower()
    known = BIT_LENGTHS.get(name)
    length = int(number(bit_length, "bit_length")) if bit_length else known
    if length is None:
        raise SpecificationError(
            f"data_type is {data_type!r}, whose bit length its name does not say",
            f"Use one of {', '.join(BIT_LENGTHS)}, or give bit_length.",
        )
    if known is not None and length != known:
        raise SpecificationError(f"bit_length is {length} for {name}", f"{name} has {known} bits.")
    if not 1 <= length <= _LONGEST:
        raise SpecificationError(f"bit_length is {length}", f"Give 1 to {_LONGEST} bits.")
    value = number(tops, "tops")
    if not 0 < value <= _FASTEST:
        raise SpecificationError(f"tops is {tops!r}", f"Give tera-operations a second, above 0 and up to {_FASTEST}.")
    if sparsity not in ("", "dense", "sparse"):
        raise SpecificationError(f"sparsity is {sparsity!r}", "Write dense or sparse.")
    if sparsity == "sparse":
        value /= _SPARSE_GAIN
    high = value * (1000 + tolerance_permille) / 1000
    return Rate(name or f"{length} bits", length, Uncertain(value, high), source)


def die_area(low: str, high: str = "") -> Uncertain | None:
    """Area of the logic dies of a package in mm²; ``None`` where no figure is given.

    Raises:
        SpecificationError: no number, not from 1 to 100,000 mm², or limits in the wrong order.
    """
    if not low:
        return None
    limits = Uncertain(number(low, "logic_die_mm2"), number(high or low, "logic_die_mm2"))
    least, most = _DIES
    if not least <= limits.low <= limits.high <= most:
        raise SpecificationError(f"logic_die_mm2 is {low!r}", f"Give square millimetres from {least} to {most}.")
    return limits


def compute(rates: Iterable[Rate], area: Uncertain | None) -> Performance | None:
    """TPP and performance density; ``None`` without rates. The highest rate counts at each end of the interval."""
    known = tuple(rates)
    if not known:
        return None
    best = max(known, key=lambda item: item.tpp.low)
    tpp = Uncertain(best.tpp.low, max(item.tpp.high for item in known))
    density = None
    if area is not None:
        density = Uncertain(tpp.low * 1000 / area.high, tpp.high * 1000 / area.low).outwards()
    return Performance(tpp.outwards(), density, best)
