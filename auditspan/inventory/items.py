"""What an inventory file says: items as they stand in it, and rows that could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auditspan.errors import AuditSpanError
from auditspan.policy.accelerators import Accelerator
from auditspan.policy.countries import Place

__all__ = ["Count", "Inventory", "InventoryError", "Item", "Rejected", "RowError", "Unit"]

Unit = Literal["accelerator", "instance", "part"]
"""What a quantity counts; a part is a MIG instance, a time-sliced share or a virtual GPU."""


class InventoryError(AuditSpanError):
    """A file that cannot be read as an inventory.

    Args:
        message: what is wrong.
        file: its name.
        line: line in it, from 1; 0 when the whole file is meant.
        remedy: what to do about it.
    """

    def __init__(self, message: str, *, file: str, line: int = 0, remedy: str) -> None:
        super().__init__(f"{f'{file}:{line}' if line else file}: {message}", remedy=remedy)
        self.file = file
        self.line = line


class RowError(ValueError):
    """One row that cannot be read; the others can."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was left out: where it stands, what is wrong, what to do."""

    place: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Count:
    """A number of accelerators, or a sum over them, within limits; ``high`` is ``None`` where nothing bounds it."""

    low: int
    high: int | None

    def __add__(self, other: Count) -> Count:
        """The sum."""
        high = None if self.high is None or other.high is None else self.high + other.high
        return Count(self.low + other.low, high)


@dataclass(frozen=True, slots=True)
class Item:
    """Accelerators of one kind in one place, as a file names them. Nothing here is looked up yet.

    Attributes:
        place: where in the file: ``line 4``, ``items[2]``.
        target: which machine, node or asset.
        model: name of the accelerator.
        where: vocabulary of ``model`` (``gke`` = value of ``cloud.google.com/gke-accelerator``).
        pci: ``vendor:device``.
        quantity: how many of ``unit``; ``None`` = cannot be told.
        country: where it stands, as the file declares it.
        specification: as the file gives it, for what the tables lack.
        vague: ``model`` is our words for a device that nothing names; what names it is better.
        presumed: only its machine type may say that it has accelerators; where that is not known to, it has none.
        notes: what a reader should know of how it was read.
    """

    place: str
    target: str = ""
    model: str | None = None
    where: str = "product"
    pci: str | None = None
    instance_type: str | None = None
    provider: str | None = None
    region: str | None = None
    quantity: int | None = None
    unit: Unit = "accelerator"
    country: Place | None = None
    consignee: str | None = None
    end_user: str | None = None
    serials: tuple[str, ...] = ()
    specification: Accelerator | None = None
    vague: bool = False
    presumed: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """A file as read.

    Attributes:
        format: one of ``reading.FORMATS``.
        skipped: entries without accelerators, such as nodes without any.
    """

    format: str
    items: tuple[Item, ...]
    rejected: tuple[Rejected, ...]
    skipped: int = 0
