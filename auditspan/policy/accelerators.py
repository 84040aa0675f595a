"""Accelerators: from a name in the wild, or an instance type, to a specification with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .accelerator_names import normal_name, pci_id
from .performance import Interval, Performance, Rate, SpecificationError, Uncertain, compute, die_area, rate
from .tables import Row, Table

__all__ = [
    "ACCELERATOR_COLUMNS",
    "INSTANCE_COLUMNS",
    "NAME_COLUMNS",
    "PERFORMANCE_COLUMNS",
    "Accelerator",
    "Accelerators",
    "InstanceType",
    "Interval",
]

ACCELERATOR_COLUMNS: Final = (
    "model",
    "logic_die_mm2",
    "data_centre",
    "dram_bandwidth",
    "interconnect_bandwidth",
)
PERFORMANCE_COLUMNS: Final = (
    "model",
    "data_type",
    "bit_length",
    "tops",
    "tolerance_permille",
    "sparsity",
    "source",
)
NAME_COLUMNS: Final = ("where", "name", "model")
INSTANCE_COLUMNS: Final = ("provider", "instance_type", "accelerator", "count")

_PRODUCT: Final = "product"
_PCI: Final = "pci"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A model with what its classification turns on. ``None`` = no reliable figure.

    Attributes:
        model: name in the table.
        tpp: total processing performance of the package, dense, best data type; the high end adds the tolerance.
        performance_density: TPP ÷ mm² of logic dies, in thousandths.
        data_centre: designed or marketed for data centres.
        dram_bandwidth, interconnect_bandwidth: GB/s.
        best: the rate that gives the TPP; ``None`` where the table gives the TPP itself.
        rates: what the TPP is computed from.
    """

    model: str
    tpp: Interval | None
    performance_density: Interval | None
    data_centre: bool | None
    dram_bandwidth: int | None
    interconnect_bandwidth: int | None
    best: Rate | None = None
    rates: tuple[Rate, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceType:
    """Accelerators of one instance of a cloud's machine type.

    Attributes:
        accelerator: name as the table has it.
        model: ``None`` = without specification.
        count: 0 = a fraction of one.
        status: how sure the row is (``secondary``, ``unverified``).
    """

    provider: str
    name: str
    accelerator: str
    model: Accelerator | None
    count: int
    status: str


class Accelerators:
    """The tables of accelerators, their performance and names, and of instance types.

    Args:
        accelerators: one row a model. A table from before ``performance`` existed has columns ``tpp`` and
            ``tolerance_permille`` instead, and ``aliases``: what was sealed under it is judged by it again.
        instances: instance types.
        performance: rates, from which TPP and performance density are computed.
        names: further names, and PCI ids.
    """

    def __init__(
        self, accelerators: Table, instances: Table, performance: Table | None = None, names: Table | None = None
    ) -> None:
        self.version = accelerators.version
        self.status = accelerators.head["status"]
        self._by_name: dict[tuple[str, str], Accelerator] = {}
        self._models: dict[str, Accelerator] = {}
        rates = {} if performance is None else _rates(performance, {row["model"] for row in accelerators.rows})
        for row in accelerators.rows:
            item = _accelerator(accelerators, row, None if performance is None else rates.get(row["model"], ()))
            if self._models.setdefault(item.model, item) is not item:
                raise accelerators.fault(row, f"the model {item.model!r} occurs twice", "Remove one.")
            aliases = row.cells.get("aliases", "").split("|")
            for name in (item.model, *filter(None, aliases)):
                self._name(accelerators, row, _PRODUCT, name, item)
        for row in names.rows if names is not None else ():
            assert names is not None
            named = self._models.get(row["model"])
            if named is None:
                raise names.fault(row, f"there is no model {row['model']!r}", "Use one of the accelerators table.")
            self._name(names, row, row["where"], row["name"], named)
        self._instances: dict[str, InstanceType] = {}
        for row in instances.rows:
            count = instances.integer(row, "count")
            self._instances[row["instance_type"].lower()] = InstanceType(
                row["provider"],
                row["instance_type"],
                row["accelerator"],
                self.named(row["accelerator"]),
                0 if count is None else count,
                row.cells.get("status") or instances.head["status"],
            )

    @property
    def models(self) -> tuple[Accelerator, ...]:
        """Every model of the table."""
        return tuple(self._models.values())

    def named(self, name: str | None, where: str = _PRODUCT) -> Accelerator | None:
        """The model that ``name`` means; vendor words, case, separators, MIG and sharing suffixes do not matter.

        A PCI id (``10de:2330``) is a name too. ``where`` = ``gke`` looks first at what Google Kubernetes Engine means.
        """
        if not name:
            return None
        identifier = pci_id(name)
        if identifier is not None:
            return self._by_name.get((_PCI, identifier))
        text = normal_name(name)
        return self._by_name.get((where, text)) or self._by_name.get((_PRODUCT, text))

    def instance(self, instance_type: str | None) -> InstanceType | None:
        """What an instance type brings; ``None`` for one that the table lacks."""
        return self._instances.get(instance_type.strip().lower()) if instance_type else None

    def in_instance(self, instance_type: str | None) -> tuple[str, Accelerator | None, int] | None:
        """Name, model (``None`` = without specification) and count of an instance type's accelerators."""
        found = self.instance(instance_type)
        return None if found is None else (found.accelerator, found.model, found.count)

    def _name(self, table: Table, row: Row, where: str, name: str, item: Accelerator) -> None:
        text = pci_id(name) if where == _PCI else normal_name(name)
        if not text:
            raise table.fault(row, f"{name!r} is no {where} name", "A PCI id is written 10de:2330.")
        if self._by_name.setdefault((where, text), item) is not item:
            raise table.fault(row, f"the name {name!r} stands for two models", "Remove one.")


def _rates(table: Table, models: set[str]) -> dict[str, tuple[Rate, ...]]:
    found: dict[str, tuple[Rate, ...]] = {}
    for row in table.rows:
        if row["model"] not in models:
            raise table.fault(row, f"there is no model {row['model']!r}", "Use one of the accelerators table.")
        if row["sparsity"] != "dense":
            raise table.fault(
                row, f"sparsity is {row['sparsity']!r}", "Give the dense rate, and write dense: TPP counts no other."
            )
        try:
            item = rate(
                row["data_type"],
                row["tops"],
                bit_length=row["bit_length"],
                tolerance_permille=table.integer(row, "tolerance_permille") or 0,
                sparsity=row["sparsity"],
                source=row["source"],
            )
        except SpecificationError as error:
            raise table.fault(row, str(error), error.remedy) from error
        known = found.get(row["model"], ())
        if any(other.data_type == item.data_type for other in known):
            raise table.fault(row, f"{item.data_type} of {row['model']} occurs twice", "Remove one.")
        found[row["model"]] = (*known, item)
    return found


def _accelerator(table: Table, row: Row, rates: tuple[Rate, ...] | None) -> Accelerator:
    if row["data_centre"] not in ("true", "false", ""):
        raise table.fault(row, f"data_centre is {row['data_centre']!r}", "Write true, false or nothing.")
    try:
        area = die_area(row["logic_die_mm2"], row.cells.get("logic_die_mm2_high", ""))
    except SpecificationError as error:
        raise table.fault(row, str(error), error.remedy) from error
    performance = _as_given(table, row, area) if rates is None else compute(rates, area)
    return Accelerator(
        row["model"],
        performance.tpp if performance else None,
        performance.performance_density if performance else None,
        None if not row["data_centre"] else row["data_centre"] == "true",
        table.integer(row, "dram_bandwidth"),
        table.integer(row, "interconnect_bandwidth"),
        performance.best if performance and rates else None,
        rates or (),
    )


def _as_given(table: Table, row: Row, area: Uncertain | None) -> Performance | None:
    """The TPP of a table that gives it, taken as a rate of one bit."""
    if "tpp" not in row.cells:
        raise table.fault(row, "no column tpp", "Add the column, or a table accelerator_performance.csv.")
    if table.integer(row, "tpp", least=1) is None:
        return None
    tolerance = table.integer(row, "tolerance_permille") or 0 if "tolerance_permille" in row.cells else 0
    given = rate("", row["tpp"], bit_length="1", tolerance_permille=tolerance, source=table.file)
    return compute((given,), area)
