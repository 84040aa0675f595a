"""``auditspan backup`` and ``auditspan restore``: everything of a data directory, keys included."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from auditspan import __version__
from auditspan.cli.config import settings_of
from auditspan.cli.output import JsonOption, console, print_json, reports_errors
from auditspan.cli.progress_bar import progress_of_one
from auditspan.cli.reading import existing
from auditspan.config import EMBEDDED
from auditspan.data_directory import SERVICE, STORE_SERVICE, DataDirectory, DataDirectoryBusy
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["backup", "restore"]

_PURPOSE: Final = "auditspan backup"


@reports_errors
def backup(
    data: Annotated[Path, typer.Option("--data", help="Data directory; its service stopped.", file_okay=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist, or be empty.")],
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a data directory: store, journal, keys, salt key, signer state, reference and settings, with digests.

    The service must be stopped: journal, store and signer state have to be of one moment. The backup holds the private
    keys, and is readable by its owner alone: keep it as you keep them. It appears complete, or not at all.

    \b
    auditspan backup --data ./data --out /mnt/backup/2026-11-27
    """
    from auditspan.backup import make_backup, now_text
    from auditspan.journal.opening import is_kafka
    from auditspan.ledger.trust import load_trust

    directory, settings = existing(data), settings_of(data, config)
    about = {
        "deployment": load_trust(directory.trust).deployment,
        "made_at": now_text(),
        "software": f"auditspan {__version__}",
        "store": settings.store.url,
        "journal": settings.journal.url,
    }
    with _held(directory), progress_of_one("copying", as_json) as progress:
        manifest = make_backup(directory.root, out, about, progress)
    if as_json:
        print_json({"folder": out, **about, "files": len(manifest.files), "bytes": manifest.size})
        return
    console.print(
        f"{out}: {len(manifest.files):,} files, {manifest.size:,} bytes. Private keys are in it.", soft_wrap=True
    )
    elsewhere = ["store"] * (settings.store.url != EMBEDDED) + ["journal"] * is_kafka(settings)
    if elsewhere:
        console.print(f"Elsewhere, and not in it: {' and '.join(elsewhere)}.", soft_wrap=True)


@contextmanager
def _held(directory: DataDirectory) -> Iterator[None]:
    try:
        held = directory.lock(_PURPOSE)
    except DataDirectoryBusy as busy:
        if busy.purpose not in (SERVICE, STORE_SERVICE):
            raise
        raise AuditSpanError(
            f"{busy.message} A backup of it would not be of one moment.",
            remedy="Stop it (SIGTERM; it seals and signs what it acknowledged, and senders keep their records), back "
            "up, and start it again.",
        ) from busy
    with held:
        yield


@reports_errors
def restore(
    source: Annotated[Path, typer.Option("--from", help="Folder that `auditspan backup` wrote.", file_okay=False)],
    data: Annotated[Path, typer.Option("--data", help="Data directory to make; must not exist, or be empty.")],
    nothing_since: Annotated[
        bool, typer.Option("--nothing-since", help="You state that the service has not run since this backup was made.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a backup back: every file is compared with its digest, and nothing appears unless all are as they were.

    What was sealed and signed after the backup is not in it, and going on would sign a second history of the same logs.
    So `auditspan up` does not start on a restored directory, unless it was stated with --nothing-since that there is no
    such thing. Reading, checking and exporting what it holds needs no statement.

    \b
    auditspan restore --from /mnt/backup/2026-11-27 --data ./data --nothing-since
    auditspan ledger check --data ./data --full
    """
    from auditspan.backup import now_text, read_manifest, restore_backup

    manifest = read_manifest(source)
    directory = DataDirectory(data)
    said = {"backup": manifest.about.get("made_at"), "restored_at": now_text()}
    # Together with the rest: at no moment is there a directory that goes on without a statement.
    marked = {} if nothing_since else {directory.restored.name: (json.dumps(said, indent=1) + "\n").encode()}
    with progress_of_one("restoring", as_json) as progress:
        restore_backup(source, data, manifest, progress, marked)
    if as_json:
        print_json({"data": data, **said, "files": len(manifest.files), "goes_on": nothing_since})
        return
    console.print(f"{data}: {len(manifest.files):,} files as of {said['backup']}.", soft_wrap=True)
    if not nothing_since:
        console.print(
            f"It is for reading: `auditspan up` does not start on it. See: auditspan ledger recover --data {data}",
            soft_wrap=True,
        )
