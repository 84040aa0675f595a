"""JSON inventories: a list of entries with the fields of the CSV, or what ``kubectl get nodes -o json`` prints."""

from __future__ import annotations

import json
from typing import Any

from auditspan.policy.countries import Countries

from .fields import field_named, item_from, nearest_field
from .items import Inventory, InventoryError, Item, Rejected, RowError
from .kubernetes import is_nodes, read_nodes

__all__ = ["read_json"]

_LISTS = ("items", "inventory", "accelerators")


def read_json(text: str, file: str, countries: Countries, most: int) -> Inventory:
    """Reads a JSON inventory; an entry that cannot be read is rejected, and the others are kept.

    Raises:
        InventoryError: no JSON, no list of entries, or more than ``most`` of them.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise InventoryError(
            f"not JSON: {error.msg}", file=file, line=error.lineno, remedy="Correct the file, or name its --format."
        ) from error
    except (RecursionError, ValueError) as error:
        raise InventoryError(
            "nested too deeply, or a number with thousands of digits", file=file, remedy="This is no inventory."
        ) from error
    if is_nodes(document):
        return read_nodes(document, file, most)
    entries = _entries(document, file)
    if len(entries) > most:
        raise InventoryError(f"{len(entries)} entries", file=file, remedy=f"Keep it to {most}: split the file.")
    items: list[Item] = []
    rejected: list[Rejected] = []
    for number, entry in enumerate(entries):
        place = f"items[{number}]"
        try:
            items.append(item_from(_fields(entry), place, countries))
        except RowError as error:
            rejected.append(Rejected(place, str(error), error.remedy))
    return Inventory("json", tuple(items), tuple(rejected))


def _entries(document: Any, file: str) -> list[Any]:
    if isinstance(document, dict):
        document = next((document[name] for name in _LISTS if name in document), document)
    if isinstance(document, list):
        return document
    raise InventoryError(
        "no list of entries",
        file=file,
        remedy='Write [{"model": "H100 SXM", "count": 8}], or give what `kubectl get nodes -o json` says.',
    )


def _fields(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise RowError(f"a {type(entry).__name__} is no entry", "Write an object with model and count.")
    found: dict[str, Any] = {}
    for key, value in entry.items():
        field = field_named(key)
        if field is None:
            raise RowError(f"unknown field {key[:80]!r}", nearest_field(key))
        if field in found:
            raise RowError(f"two fields mean {field}", "Remove one.")
        found[field] = value
    return found
