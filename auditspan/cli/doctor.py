"""``auditspan doctor``: reconcile spool, journal, store and checkpoints, and say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from auditspan.cli.config import settings_of
from auditspan.cli.findings import Finding
from auditspan.cli.output import EXIT_FAILURE, JsonOption, console, print_json, print_table, reports_errors
from auditspan.cli.reading import existing
from auditspan.instrumentation.adoption import count_refused, inspect_spool

__all__ = ["doctor"]


@reports_errors
def doctor(
    data: Annotated[
        Path, typer.Option("--data", help="Data directory of the service, running or not.", file_okay=False)
    ],
    spool: Annotated[
        Path | None,
        typer.Option(help="Spool directory to look into as well.", file_okay=False, envvar="AUDITSPAN_SPOOL_DIRECTORY"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Hash every leaf of every log against its checkpoint.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare spool, journal, store and checkpoints, and say what to do about each difference.

    Exit status 1 when something is wrong; what merely waits is no fault.

    \b
    auditspan doctor --data ./data --spool /var/spool/auditspan
    auditspan doctor --data ./data --full --json
    """
    from auditspan.cli.examination import examine

    findings = list(_spool(spool)) if spool is not None else []
    findings += examine(existing(data), settings_of(data, config), full)
    wrong = sum(finding.state == "wrong" for finding in findings)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [
            {
                "check": finding.check,
                "state": finding.state,
                "found, and what to do": "\n→ ".join(filter(None, (finding.found, finding.remedy))),
            }
            for finding in findings
        ]
        print_table("Findings", ["check", "state", "found, and what to do"], rows, lines=False)
        console.print("Nothing is wrong." if not wrong else f"{wrong} of {len(findings)} checks found a fault.")
    if wrong:
        raise typer.Exit(EXIT_FAILURE)


def _spool(spool: Path) -> Iterator[Finding]:
    if not spool.is_dir():
        yield Finding("spool", "wrong", f"there is no directory {spool}", "Name the one that the emitters write.")
        return
    streams = inspect_spool(spool)
    for stream in streams:
        if stream.live:
            yield Finding(f"spool {stream.stream}", "ok", f"{stream.pending:,} records; its process lives and ships")
        elif stream.pending:
            yield Finding(
                f"spool {stream.stream}",
                "waiting",
                f"{stream.pending:,} records of a process that is gone",
                f"Run: auditspan spool ship --spool {spool}",
            )
    refused = count_refused(spool)
    if refused:
        yield Finding(
            "spool",
            "wrong",
            f"{refused:,} records were refused by a collector",
            f"They are kept in {spool / 'refused'}, and audit.gap events say why. Put the cause right, such as a token "
            "or a limit, and keep the folder as evidence of what could not be sent.",
        )
    elif not any(stream.pending for stream in streams):
        yield Finding("spool", "ok", "nothing waits")
