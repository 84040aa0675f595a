"""Accelerators: from a name in the wild, or an instance type, to a specification with intervals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .tables import Table

__all__ = ["ACCELERATOR_COLUMNS", "INSTANCE_COLUMNS", "Accelerator", "Accelerators", "Interval"]

ACCELERATOR_COLUMNS: Final = (
    "model",
    "aliases",
    "best_type",
    "tpp",
    "tolerance_permille",
    "logic_die_mm2",
    "data_centre",
    "dram_bandwidth",
    "interconnect_bandwidth",
)
INSTANCE_COLUMNS: Final = ("provider", "instance_type", "accelerator", "count")

_VENDOR: Final = re.compile(r"^(?:nvidia|amd|instinct|aws|google|intel|tesla|geforce)\s+")
_MIG: Final = re.compile(r"\s*mig \d+[cg.].*$")
_SEPARATORS: Final = re.compile(r"[\s_\-]+")


@dataclass(frozen=True, slots=True)
class Interval:
    """An integer known within limits, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A model with what its classification turns on. ``None`` = no reliable figure.

    Attributes:
        model: name in the table.
        tpp: total processing performance of the package, dense, best data type; the high end adds the tolerance.
        performance_density: TPP ÷ mm² of logic dies, in thousandths.
        data_centre: designed or marketed for data centres.
        dram_bandwidth, interconnect_bandwidth: GB/s.
    """

    model: str
    tpp: Interval | None
    performance_density: Interval | None
    data_centre: bool | None
    dram_bandwidth: int | None
    interconnect_bandwidth: int | None


class Accelerators:
    """The accelerators and instance types tables."""

    def __init__(self, accelerators: Table, instances: Table) -> None:
        self.version = accelerators.version
        self._by_name: dict[str, Accelerator] = {}
        self._models: list[Accelerator] = []
        for row in accelerators.rows:
            tpp = accelerators.integer(row, "tpp", least=1)
            tolerance = accelerators.integer(row, "tolerance_permille") or 0
            die = _thousandths(row["logic_die_mm2"])
            if row["logic_die_mm2"] and not die:
                raise accelerators.fault(
                    row, f"logic_die_mm2 is {row['logic_die_mm2']!r}", "Give square millimetres, such as 628.4."
                )
            if row["data_centre"] not in ("true", "false", ""):
                raise accelerators.fault(row, f"data_centre is {row['data_centre']!r}", "Write true, false or nothing.")
            item = Accelerator(
                row["model"],
                None if tpp is None else Interval(tpp, -(-tpp * (1000 + tolerance) // 1000)),
                None
                if tpp is None or not die
                else Interval(tpp * 10**6 // die, -(-tpp * (1000 + tolerance) * 10**3 // die)),
                None if not row["data_centre"] else row["data_centre"] == "true",
                accelerators.integer(row, "dram_bandwidth"),
                accelerators.integer(row, "interconnect_bandwidth"),
            )
            self._models.append(item)
            for name in (row["model"], *filter(None, row["aliases"].split("|"))):
                if self._by_name.setdefault(normal_name(name), item) is not item:
                    raise accelerators.fault(row, f"the name {name!r} stands for two models", "Remove one.")
        self._instances: dict[str, tuple[str, int]] = {}
        for row in instances.rows:
            count = instances.integer(row, "count")
            self._instances[row["instance_type"].lower()] = (row["accelerator"], 0 if count is None else count)

    @property
    def models(self) -> tuple[Accelerator, ...]:
        """Every model of the table."""
        return tuple(self._models)

    def named(self, name: str | None) -> Accelerator | None:
        """The model that ``name`` means; vendor words, case, separators and MIG suffixes do not matter."""
        return self._by_name.get(normal_name(name)) if name else None

    def in_instance(self, instance_type: str | None) -> tuple[str, Accelerator | None, int] | None:
        """Name, model (``None`` = without specification) and count of an instance type's accelerators."""
        found = self._instances.get(instance_type.lower()) if instance_type else None
        return None if found is None else (found[0], self.named(found[0]), found[1])


def normal_name(name: str) -> str:
    """``name`` in lower case, without vendor, MIG profile and separators."""
    text = _SEPARATORS.sub(" ", name.lower()).strip()
    text = _MIG.sub("", text)
    while match := _VENDOR.match(text):
        text = text[match.end() :]
    return text.replace(" ", "")


def _thousandths(text: str) -> int | None:
    match = re.fullmatch(r"(\d{1,6})(?:\.(\d{1,3}))?", text)
    return int(match.group(1)) * 1000 + int((match.group(2) or "").ljust(3, "0")) if match else None
