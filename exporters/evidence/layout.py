"""Names and shapes of what a package holds (evidence format, section 14)."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa

from auditspan.store.schema import HEADER_COLUMNS, PAYLOAD_COLUMNS

__all__ = [
    "EVENT_FILE",
    "HEADER_NAMES",
    "LARGEST_ROW_GROUP",
    "MANIFEST",
    "NOTE",
    "PAYLOAD_NAMES",
    "SUMMARY",
    "WITHHELD_FILE",
    "file_name",
    "path_is_allowed",
]

MANIFEST: Final = "manifest.json"
NOTE: Final = "VERIFY.md"
SUMMARY: Final = "SUMMARY.html"
LARGEST_ROW_GROUP: Final = 65_536
"""Leaves a row group may have."""

_LONGEST_PATH: Final = 255
_PATH: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


def _plain(kind: pa.DataType) -> pa.DataType:
    """Types that every Parquet reader knows: no dictionaries, and ids as hexadecimal text."""
    return pa.string() if pa.types.is_dictionary(kind) or pa.types.is_binary(kind) else kind


HEADER_NAMES: Final = tuple(HEADER_COLUMNS.names)
PAYLOAD_NAMES: Final = tuple(PAYLOAD_COLUMNS.names)
WITHHELD_FILE: Final = pa.schema(
    [pa.field("leaf_index", pa.uint64(), nullable=False), pa.field("header", pa.binary(), nullable=False)]
)
"""Schema of the files below ``withheld/``."""
EVENT_FILE: Final = pa.schema(
    [
        *WITHHELD_FILE,
        pa.field("payload", pa.binary()),
        pa.field("salt", pa.binary()),
        pa.field("facts", pa.binary()),
        *(pa.field(column.name, _plain(column.type)) for column in (*HEADER_COLUMNS, *PAYLOAD_COLUMNS)),
    ]
)
"""Schema of the files below ``events/`` and ``control/``."""


def file_name(folder: str, log_id: str, number: int) -> str:
    """Path of the Parquet file ``number`` (from 0) of a log."""
    return f"{folder}/{log_id}-{number:05d}.parquet"


def path_is_allowed(path: object) -> bool:
    """Whether a path may stand in a manifest: relative, of plain characters, without a part that starts with a dot."""
    return isinstance(path, str) and len(path) <= _LONGEST_PATH and _PATH.fullmatch(path) is not None
