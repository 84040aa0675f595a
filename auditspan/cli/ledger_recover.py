"""``auditspan ledger recover``: what a restored store lacks, and the deployment that goes on for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditspan.cli.config import settings_of
from auditspan.cli.output import EXIT_FAILURE, JsonOption, console, print_json, print_table, reports_errors
from auditspan.cli.progress_bar import progress_of_one
from auditspan.cli.reading import existing
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from auditspan.cli.lost_leaves import LostLeaves
    from auditspan.data_directory import DataDirectory

__all__ = ["recover"]


@reports_errors
def recover(
    data: Annotated[Path, typer.Option("--data", help="Data directory that lost what was signed.", file_okay=False)],
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Begin a deployment here that goes on for it; must not exist, or be empty."),
    ] = None,
    deployment: Annotated[str | None, typer.Option(help="With --into: name of the new deployment.")] = None,
    reason: Annotated[str | None, typer.Option(help="With --into: what happened; it is sealed.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a restored store lacks of what was signed; with --into, begin a deployment that goes on for it.

    A log that lost signed leaves is never continued: whoever holds a checkpoint over them would see two histories. The
    new deployment has a name, keys and logs of its own. The first thing that it seals, as audit.ledger.recovered, is
    who recovered and why, the tree that is left of each old log and the largest one that was signed; the old key and
    the new one both sign it, and every verification report of the new deployment repeats it.

    Settings, tokens, party registry and screening lists are copied, so that those who send and read go on. What the
    journal holds and the store lost is journaled again, so that it is not lost. Rules and licenses that officers
    activated are to be activated again. The old directory seals nothing more; it can be read, checked and exported.

    Exit status: 0 nothing is lost, or the deployment is there; 1 something is lost, or may be in a directory that was
    restored from a backup.

    \b
    auditspan ledger recover --data ./data
    auditspan ledger recover --data ./data --into ./data-2 --deployment eu-2.example.com --reason "disk lost, case 7"
    """
    from auditspan.cli.lost_leaves import lost_leaves

    directory, settings = existing(data), settings_of(data, config)
    lost = lost_leaves(directory, settings)
    whole, restored = all(one.whole for one in lost), directory.restored.exists()
    if into is None:
        if deployment is not None or reason is not None:
            raise AuditSpanError(
                "--deployment and --reason are of the deployment that --into begins.", remedy="Add --into."
            )
        _report(directory, lost, as_json)
        return
    if whole and not restored:
        raise AuditSpanError(
            "Nothing is lost: the store has all that signer/ and the control partition say was signed.",
            remedy=f"Go on with it: auditspan up --data {directory.root}",
        )
    if deployment is None or reason is None:
        raise AuditSpanError(
            "A deployment that goes on for another one has a name of its own, and says why.",
            remedy="Add --deployment and --reason.",
        )
    from auditspan.cli.recovering import begin_successor

    with progress_of_one("carrying over", as_json) as progress:
        recovery = begin_successor(
            directory, settings, config or directory.settings, lost, into, deployment, reason, progress
        )
    carried = sum(log.carried for log in recovery.logs)
    if as_json:
        print_json(
            {
                "logs": [one.to_json() for one in lost],
                "restored": restored,
                "recovered": True,
                "data": into,
                "deployment": recovery.deployment,
                "predecessor": recovery.predecessor,
                "carried": carried,
            }
        )
        return
    _show(lost)
    console.print(
        f"{into} is the deployment {recovery.deployment}, which goes on for {recovery.predecessor}: {carried:,} "
        "entries of the journal that the store lacks will be sealed in it.\n"
        f"Start it: auditspan up --data {into}\n"
        f"Give {into / 'trust.json'} to whoever verifies, beside the one of {recovery.predecessor}, and keep "
        f"{directory.root} for reading and `auditspan evidence export`.",
        soft_wrap=True,
    )


def _report(directory: DataDirectory, lost: Sequence[LostLeaves], as_json: bool) -> None:
    """Say what is lost, and end with status 1 when something is or may be."""
    whole, restored = all(one.whole for one in lost), directory.restored.exists()
    if as_json:
        print_json({"logs": [one.to_json() for one in lost], "restored": restored, "recovered": False})
        raise typer.Exit(EXIT_FAILURE if restored or not whole else 0)
    _show(lost)
    if whole and not restored:
        console.print("Nothing is lost: the store has all that signer/ and the control partition say was signed.")
        return
    if whole:
        raise AuditSpanError(
            f"{directory.root} was restored from a backup: what was sealed and signed after it is not known here.",
            remedy="Put a newer signer/ beside it and ask again, or state with `auditspan restore --nothing-since` "
            "that the service has not run since the backup. If it has, begin a deployment that goes on for it: --into.",
        )
    raise AuditSpanError(
        "A log that lost signed leaves is not continued: its next checkpoint would contradict one in the world.",
        remedy="Put the newest store, journal and signer/ back, if any copy has them. Else begin a deployment that "
        "goes on for it, with --into, and keep this directory for reading and `auditspan evidence export`.",
    )


def _show(lost: Sequence[LostLeaves]) -> None:
    print_table("Logs", ["log", "in the store", "signed", "lost"], [one.row() for one in lost], lines=False)
