"""A finished package gets its name: as a folder, or as one zip file."""

from __future__ import annotations

import shutil
from pathlib import Path

from auditspan.durable import sync
from auditspan.errors import AuditSpanError

from .writing import sync_folders
from .zipped import SUFFIX, zip_package

__all__ = ["ExportFailed", "check_target", "discard", "pack", "publish", "target_of"]


class ExportFailed(AuditSpanError):
    """There is nothing to prove yet, or the package cannot be written."""


def target_of(out: Path, *, zipped: bool) -> Path:
    """Where the package will be: a zip file's name ends in ``.zip``."""
    return out if not zipped or out.suffix.lower() == SUFFIX else out.with_name(out.name + SUFFIX)


def check_target(target: Path, *, zipped: bool) -> None:
    """See that nothing is in the way.

    Raises:
        ExportFailed: something is.
    """
    if target.is_symlink() or (target.exists() and (zipped or not target.is_dir())):
        kind = "file" if zipped else "folder"
        raise ExportFailed(f"{target} is in the way.", remedy=f"Give a {kind} that does not exist yet.")
    if target.is_dir() and any(target.iterdir()):
        raise ExportFailed(f"The folder {target} is not empty.", remedy="Give a new folder: a package is never mixed.")


def pack(partial: Path) -> Path:
    """The zip file of a package, beside its folder, which goes."""
    packed = partial.with_name(partial.name + SUFFIX)
    zip_package(partial, packed)
    shutil.rmtree(partial)
    return packed


def publish(partial: Path, target: Path) -> None:
    """Give a package its name, durably: it is complete when it appears.

    Raises:
        ExportFailed: something came in the way meanwhile.
    """
    if partial.is_dir():
        sync_folders(partial)
        if target.exists():
            target.rmdir()
        partial.rename(target)
        sync_folders(target)
        return
    check_target(target, zipped=True)
    partial.rename(target)
    sync(target.parent)


def discard(partial: Path) -> None:
    """Leave nothing behind of a package that did not come to be."""
    shutil.rmtree(partial, ignore_errors=True)
    partial.with_name(partial.name + SUFFIX).unlink(missing_ok=True)
