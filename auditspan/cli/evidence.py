"""``auditspan evidence``: packages that prove what they show, and the verifier."""

from __future__ import annotations

import getpass
import os
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from auditspan.cli.moments import nanoseconds
from auditspan.cli.output import JsonOption, console, errors, plain, print_json, reports_errors, reports_errors_with
from auditspan.cli.verdict import EXIT_USAGE, Verdict
from auditspan.data_directory import DataDirectory

__all__ = ["app", "progress_bar"]

_MOST_JOBS: Final = 4
"""Processes that verify, where nothing else is asked for: each takes some 300 MB."""

app = typer.Typer(no_args_is_help=True, help="Evidence packages: export them, and verify them offline.")


def progress_bar() -> Progress:
    """How far a long command is, for whoever watches."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        # A person watches a terminal; a file or a pipe gets the result alone.
        console=errors,
        disable=not errors.is_terminal,
        transient=True,
    )


@app.command()
@reports_errors
def export(
    data: Annotated[
        Path, typer.Option("--data", help="Data directory of the service, running or not.", file_okay=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist, or be empty.")],
    time_from: Annotated[
        str | None, typer.Option("--from", help="First arrival time covered (UTC); default: the beginning.")
    ] = None,
    time_to: Annotated[
        str | None, typer.Option("--to", help="First arrival time no longer covered (UTC); default: now.")
    ] = None,
    where: Annotated[str | None, typer.Option(help="Query over header fields; headers of the rest stay in.")] = None,
    previous: Annotated[
        Path | None, typer.Option(help="Earlier package to be consistent with; default: the last one exported.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export an evidence package: intervals of every log, proven complete, with the events that a query selects.

    \b
    auditspan evidence export --data ./data --out ./package
    auditspan evidence export --data ./data --from 2026-11-01 --to 2026-12-01 --where "flagged = true" --out ./november
    """
    from auditspan.cli.reading import open_reader
    from auditspan.exporters.evidence.export import export_package
    from auditspan.ledger.keys import load_signing_key
    from auditspan.ledger.trust import load_trust
    from auditspan.policy.artifacts_kept import kept

    directory = DataDirectory(data)

    with ExitStack() as stack:
        reading = stack.enter_context(open_reader(data, None))

        def artifact(digest: str) -> bytes | None:
            # What was activated on another machine is in the store alone.
            content = kept(directory.reference, digest)
            return reading.store.artifact(digest) if content is None else content

        bar = stack.enter_context(progress_bar()) if not as_json else None
        task = bar.add_task("exporting", total=None) if bar is not None else None

        def progress(done: int, total: int) -> None:
            if bar is not None and task is not None:
                bar.update(task, completed=done, total=total)

        result = export_package(
            reading.store,
            artifact,
            load_signing_key(directory.signing_key),
            load_trust(directory.trust).deployment,
            out,
            time_from=nanoseconds(time_from, 0),
            time_to=nanoseconds(time_to, time.time_ns()),
            where=where,
            previous=previous,
            record=partial(_record, directory, reading.running),
            progress=progress,
        )
    if as_json:
        print_json(
            {
                "folder": result.folder,
                "manifest_sha256": result.manifest_sha256,
                "leaves": result.leaves,
                "selected": result.selected,
                "withheld": result.withheld,
                "flagged": result.flagged,
                "intervals": result.intervals,
            }
        )
        return
    console.print(
        f"{plain(str(result.folder))}: {result.leaves:,} leaves proven, {result.selected:,} shown, "
        f"{result.withheld:,} as headers, {result.flagged:,} flagged.\n"
        f"Verify with: auditspan evidence verify {out} --trust {directory.trust}",
        soft_wrap=True,
    )


def _record(directory: DataDirectory, running: bool, body: dict[str, Any]) -> None:
    """Have the export sealed in the control log: by the service, or by the next one to start."""
    from auditspan.cli.config import settings_of
    from auditspan.journal.opening import is_kafka

    settings = settings_of(directory.root, None)
    if running and not is_kafka(settings):
        from auditspan.cli.control_socket import ask

        ask(directory.control_socket, "POST", "/evidence/exported", {"actor": acting_user(), "body": body})
        return
    from auditspan.cli.journal_writing import journal_to_write
    from auditspan.processors.control_entries import ControlLog
    from auditspan.semconv import EventClass

    with journal_to_write(directory, settings) as journal:
        ControlLog(journal).append(EventClass.EVIDENCE_EXPORTED, acting_user(), body)


def acting_user() -> str:
    """Who runs this command, as the control log names a person without a credential."""
    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):  # an account without a name, as in some containers
        return f"user:{os.getuid()}"


@app.command()
@reports_errors_with(EXIT_USAGE)
def verify(
    folder: Annotated[Path, typer.Argument(help="The evidence package.")],
    trust: Annotated[Path, typer.Option(help="trust.json with the operator's public keys, got by another way.")],
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Logs to verify at once; default: as many as there are cores, 4 at most.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify an evidence package offline: nothing altered, nothing left out.

    Exit status: 0 valid, 1 invalid, 2 incomplete (a file is absent and nothing else is wrong), 3 the command is wrong.

    \b
    auditspan evidence verify ./package --trust ./trust.json
    auditspan evidence verify ./package --trust ./trust.json --json
    """
    from auditspan.exporters.evidence.rendering import render
    from auditspan.exporters.evidence.verify import verify_package
    from auditspan.ledger.keys import KeyFileError
    from auditspan.ledger.trust import load_trust

    try:
        trusted = load_trust(trust)
    except KeyFileError as error:
        # Whoever verifies has no keys to make and no backup to restore.
        raise KeyFileError(
            error.message, remedy="Ask the operator for trust.json, by another way than the package came."
        ) from error
    with ExitStack() as stack:
        bar = stack.enter_context(progress_bar()) if not as_json else None
        task = bar.add_task("verifying", total=None) if bar is not None else None

        def progress(done: int, total: int) -> None:
            if bar is not None and task is not None:
                bar.update(task, completed=done, total=total)

        report = verify_package(folder, trusted, progress, jobs or min(os.cpu_count() or 1, _MOST_JOBS))
    if as_json:
        typer.echo(report.to_json())
    else:
        render(report, console)
    raise Verdict(report.exit_code)
