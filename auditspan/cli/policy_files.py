"""What commands on packs read: an officer's files, beside what ships and the registry of a data directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from auditspan.cli.reading import existing
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.policy.reference import Reference

__all__ = ["PackOption", "packaged_with", "read_files"]

PackOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--pack",
        help="A pack, table or registry of your own beside what ships; of the same pack or name, it takes its place. "
        "May be given again.",
    ),
]

_LARGEST: Final = 64 * 1024 * 1024


def read_files(paths: Sequence[Path]) -> list[tuple[str, bytes]]:
    """Path and content of each.

    Raises:
        AuditSpanError: one is a directory, or so large that it is none of ours.
        OSError: one cannot be read.
    """
    files = []
    for path in paths:
        if path.is_dir():
            raise AuditSpanError(f"{path} is a directory.", remedy=f"Name files: {path}/*.yaml")
        if path.is_file() and path.stat().st_size > _LARGEST:
            raise AuditSpanError(
                f"{path} has {path.stat().st_size:,} bytes.", remedy=f"Keep it below {_LARGEST:,} bytes."
            )
        files.append((str(path), path.read_bytes()))
    return files


def packaged_with(packs: Sequence[Path], data: Path | None = None) -> Reference:
    """What ships, with the registry of a data directory where it has one, and ``packs`` beside it.

    Raises:
        PolicyError: one of them cannot be used.
    """
    from auditspan.policy.artifact_files import with_files
    from auditspan.policy.codes import listing_faults
    from auditspan.policy.reference import Reference

    parties = existing(data).parties if data is not None else None
    registry = parties.read_bytes() if parties is not None and parties.is_file() else None
    reference = Reference.load(with_files(Reference.packaged_artifacts(registry), read_files(packs)), 1)
    if (fault := next(listing_faults(reference.parties, reference.packs.compared), None)) is not None:
        raise fault
    return reference
