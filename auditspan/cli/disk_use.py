"""What a data directory takes on disk, counted while its service writes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from auditspan.data_directory import DataDirectory


def disk_use(directory: DataDirectory) -> dict[str, int]:
    """Bytes of the journal and the store, and bytes free on the file system of the data directory."""
    return {
        "journal": sum(_bytes(path) for path in directory.journal.parent.glob(directory.journal.name + "*")),
        "store": bytes_under(directory.store),
        "free": shutil.disk_usage(directory.root).free,
    }


def bytes_under(folder: Path) -> int:
    """Bytes of the files under ``folder``; 0 when there is none.

    A store renames and removes folders at any moment: one that goes away while it is counted counts for nothing.
    ``Path.rglob`` would raise on it, ``os.walk`` passes over it.
    """
    return sum(_bytes(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names)


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # merged away meanwhile
        return 0
