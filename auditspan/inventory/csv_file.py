"""CSV inventories, and what ``nvidia-smi --query-gpu=… --format=csv`` prints."""

from __future__ import annotations

import csv
from typing import Final

from auditspan.policy.countries import Countries

from .fields import field_named, item_from, nearest_field
from .items import Inventory, InventoryError, Item, Rejected, RowError

__all__ = ["read_csv"]

_DELIMITERS: Final = ",;\t"
_ONE_DEVICE: Final = frozenset({"index", "uuid", "gpu_uuid", "pci.bus_id", "gpu_bus_id"})
"""Columns of nvidia-smi that name one device, so that a row is one device."""
_NAMED: Final = frozenset({"model", "instance_type", "pci_id"})
_UNREAD: Final = _ONE_DEVICE | {
    "timestamp",
    "driver_version",
    "vbios_version",
    "memory.total",
    "power.limit",
    "mig.mode.current",
    "mig.mode.pending",
    "compute_cap",
    "compute_mode",
}


def read_csv(text: str, file: str, countries: Countries, most: int) -> Inventory:
    """Reads a CSV inventory; a row that cannot be read is rejected, and the others are kept.

    A row is one line: a quote that does not end spoils no more than that.

    Raises:
        InventoryError: no header, an unknown or doubled column, or more than ``most`` rows.
    """
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")), None)
    if start is None:
        raise InventoryError("the file is empty", file=file, remedy="Give a header line and a row for each kind.")
    delimiter = max(_DELIMITERS, key=lines[start].count)
    columns = _columns(_cells(lines[start], delimiter, file, start + 1), file, start + 1)
    items: list[Item] = []
    rejected: list[Rejected] = []
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if not line.strip() or line.startswith("#"):
            continue
        if len(items) + len(rejected) >= most:
            raise InventoryError(f"more than {most} rows", file=file, line=number, remedy="Split the file.")
        place = f"line {number}"
        try:
            items.append(item_from(_row(line, delimiter, columns), place, countries))
        except RowError as error:
            rejected.append(Rejected(place, str(error), error.remedy))
    return Inventory("csv", tuple(items), tuple(rejected))


def _cells(line: str, delimiter: str, file: str, number: int) -> list[str]:
    try:
        return next(csv.reader([line], strict=True, delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise InventoryError(f"not CSV: {error}", file=file, line=number, remedy="Correct the quoting.") from error


def _columns(header: list[str], file: str, line: int) -> list[str | None]:
    """The field of each column; ``None`` for one that is not read."""
    names = [name.split("[")[0].strip().lower() for name in header]
    found: list[str | None] = []
    for name in names:
        field = None if name in _UNREAD else field_named(name)
        if field is None and name not in _UNREAD:
            raise InventoryError(f"unknown column {name[:80]!r}", file=file, line=line, remedy=nearest_field(name))
        if field is not None and field in found:
            raise InventoryError(f"two columns mean {field}", file=file, line=line, remedy="Remove one.")
        found.append(field)
    if not _NAMED & {*found}:
        raise InventoryError(
            "no column model, instance_type or pci_id", file=file, line=line, remedy="Add one: it names what is held."
        )
    if "count" in found and _ONE_DEVICE & {*names}:
        # In the CSV of nvidia-smi `count` is the number of devices of the machine, on the row of every device.
        raise InventoryError(
            "a row is one device here, and count would count its machine",
            file=file,
            line=line,
            remedy="Leave the column count out.",
        )
    return found


def _row(line: str, delimiter: str, columns: list[str | None]) -> dict[str, str]:
    try:
        cells = next(csv.reader([line], strict=True, delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise RowError(f"not CSV: {error}", "Correct the quoting; a row is one line.") from error
    if len(cells) != len(columns):
        raise RowError(f"{len(cells)} cells under {len(columns)} columns", "Correct the row.")
    return {column: cell for column, cell in zip(columns, cells, strict=True) if column is not None}
