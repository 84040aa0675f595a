"""Entries of a list as Arrow columns, one row a party, whatever format they came in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

__all__ = ["ENTRIES", "Entry", "batch"]

_TEXT: Final = pa.string()
_CODE: Final = pa.dictionary(pa.int32(), pa.string())

ENTRIES: Final = pa.schema(
    [
        pa.field("record", pa.int64(), nullable=False),
        pa.field("list", _CODE, nullable=False),
        pa.field("list_name", _CODE, nullable=False),
        pa.field("entry_id", _TEXT, nullable=False),
        pa.field("entity_number", _TEXT),
        pa.field("kind", _CODE, nullable=False),
        pa.field("listed_as", _TEXT, nullable=False),
        pa.field("names", pa.list_(pa.struct([("name", _TEXT), ("role", _TEXT)])), nullable=False),
        pa.field("addresses", pa.list_(pa.struct([("address", _TEXT), ("country", _TEXT)])), nullable=False),
        pa.field("countries", pa.list_(_TEXT), nullable=False),
        pa.field("identifiers", pa.list_(pa.struct([("kind", _TEXT), ("number", _TEXT)])), nullable=False),
        pa.field("programs", pa.list_(_TEXT), nullable=False),
        pa.field("federal_register_notice", _TEXT),
        pa.field("start_date", _TEXT),
        pa.field("end_date", _TEXT),
        pa.field("standard_order", _TEXT),
        pa.field("license_requirement", _TEXT),
        pa.field("license_policy", _TEXT),
        pa.field("remarks", _TEXT),
        pa.field("source_list_url", _TEXT),
    ]
)
"""Columns of a kept list.

``kind`` is ``organization``, ``person``, ``vessel``, ``aircraft``, ``address`` or empty; ``listed_as`` the name as the
list writes it; a name's ``role`` one of `auditspan.screening.entry_names.ROLES`; ``record`` counts from 1 in the file.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One party of a list; fields as in `ENTRIES`."""

    record: int
    list: str
    list_name: str
    entry_id: str
    kind: str
    listed_as: str
    names: tuple[tuple[str, str], ...]
    addresses: tuple[tuple[str, str], ...] = ()
    countries: tuple[str, ...] = ()
    identifiers: tuple[tuple[str, str], ...] = ()
    programs: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    """The columns of plain text that an entry may lack, by name."""


def batch(entries: list[Entry]) -> pa.RecordBatch:
    """``entries`` as columns."""
    made = [pa.array([_cell(entry, column.name) for entry in entries], column.type) for column in ENTRIES]
    return pa.RecordBatch.from_arrays(made, schema=ENTRIES)


def _cell(entry: Entry, column: str) -> Any:
    match column:
        case "names":
            return [{"name": name, "role": role} for name, role in entry.names]
        case "addresses":
            return [{"address": address, "country": country} for address, country in entry.addresses]
        case "identifiers":
            return [{"kind": kind, "number": number} for kind, number in entry.identifiers]
        case "countries" | "programs":
            return list(getattr(entry, column))
        case _:
            return getattr(entry, column) if column in _OWN else entry.texts.get(column) or None


_OWN: Final = frozenset({"record", "list", "list_name", "entry_id", "kind", "listed_as"})
