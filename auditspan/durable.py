"""Durable names: what a folder says of its files is on disk only when the folder itself was synced (fsync(2))."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from auditspan.errors import AuditSpanError

__all__ = ["FolderInTheWay", "NewFolder", "refuse_in_the_way", "sync"]


class FolderInTheWay(AuditSpanError):
    """Something is where a new folder should be made. Nothing was overwritten."""


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, durable.

    Raises:
        OSError: it is not there, or the disk refuses.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_in_the_way(out: Path) -> None:
    """See that a new folder can be made at ``out``: nothing is there, or an empty folder.

    Raises:
        FolderInTheWay: something else is.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise FolderInTheWay(f"{out} is in the way.", remedy="Give a folder that does not exist yet.")
    if out.is_dir() and any(out.iterdir()):
        raise FolderInTheWay(f"The folder {out} is not empty.", remedy="Give a new one: nothing is ever overwritten.")


class NewFolder:
    """A private folder (0700) that is written beside its place, and appears there when it is complete and durable.

    Left by an exception, it leaves nothing behind.

    Args:
        out: its place, which `refuse_in_the_way` has seen.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._partial = out.parent / f".{out.name}.partial-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> Path:
        """Where to write."""
        self._partial.mkdir(parents=True, mode=0o700)
        return self._partial

    def __exit__(self, kind: object, *_: object) -> None:
        """Put it in its place, or away."""
        if kind is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        for folder, *_rest in os.walk(self._partial):
            sync(Path(folder))
        if self._out.exists():
            self._out.rmdir()
        self._partial.rename(self._out)
        sync(self._out.parent)
