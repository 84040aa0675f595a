"""``auditspan spool``: records that wait on disk for a collector."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from auditspan.cli.output import EXIT_FAILURE, JsonOption, console, print_json, print_table, reports_errors
from auditspan.errors import AuditSpanError
from auditspan.instrumentation.adoption import count_refused, inspect_spool, ship_spool
from auditspan.instrumentation.settings import InstrumentationSettings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The spool of the instrumentation: what waits on disk for a collector.")

SpoolOption = Annotated[
    Path | None,
    typer.Option("--spool", help="Spool directory; default AUDITSPAN_SPOOL_DIRECTORY.", file_okay=False),
]


def _settings(spool: Path | None, endpoint: str | None = None) -> InstrumentationSettings:
    given = {"AUDITSPAN_SPOOL_DIRECTORY": str(spool) if spool else None, "AUDITSPAN_ENDPOINT": endpoint}
    return InstrumentationSettings.from_environment(
        {**os.environ, **{name: value for name, value in given.items() if value is not None}}
    )


def _directory(settings: InstrumentationSettings) -> Path:
    """The spool. One that is not there is a mistake in its name, and not an empty one."""
    if not settings.spool_directory.is_dir():
        raise AuditSpanError(
            f"There is no spool directory {settings.spool_directory}.",
            remedy="Name the one that the emitters write with --spool or AUDITSPAN_SPOOL_DIRECTORY.",
        )
    return settings.spool_directory


@app.command()
@reports_errors
def status(spool: SpoolOption = None, as_json: JsonOption = False) -> None:
    """Show every stream in the spool and how many of its records are not acknowledged.

    \b
    auditspan spool status --spool /var/spool/auditspan
    """
    directory = _directory(_settings(spool))
    streams = [asdict(stream) for stream in inspect_spool(directory)]
    refused = count_refused(directory)
    if as_json:
        print_json({"spool": directory, "streams": streams, "refused": refused})
        return
    print_table(f"Spool {directory}", ["stream", "live", "pending", "size"], streams, lines=False)
    if refused:
        console.print(f"{refused} records were refused by collectors and are kept in {directory}/refused.")


@app.command()
@reports_errors
def ship(
    spool: SpoolOption = None,
    endpoint: Annotated[str | None, typer.Option(help="Collector; default AUDITSPAN_ENDPOINT.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Give up on a silent collector after so many seconds.")
    ] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Deliver what dead processes left behind. The token is read from AUDITSPAN_TOKEN or AUDITSPAN_TOKEN_FILE.

    Exit status 1 when something is still in the spool.

    \b
    AUDITSPAN_TOKEN=… auditspan spool ship --spool /var/spool/auditspan --endpoint http://127.0.0.1:4318
    """
    settings = _settings(spool, endpoint)
    report = ship_spool(_directory(settings), settings, timeout=timeout)
    if as_json:
        print_json(asdict(report))
    else:
        console.print(
            f"{report.acknowledged} records acknowledged, {report.refused} refused, {report.pending} still here; "
            f"{report.streams} streams done, {report.live} left to their living processes.",
            soft_wrap=True,
        )
    if report.pending:
        raise typer.Exit(EXIT_FAILURE)
