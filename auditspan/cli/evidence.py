"""``auditspan evidence``: packages that prove what they show, and the verifier."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from auditspan.cli.evidence_compare import diff
from auditspan.cli.evidence_print import print_
from auditspan.cli.evidence_requests import list_, request
from auditspan.cli.evidence_sealing import seal
from auditspan.cli.evidence_trust import trusted
from auditspan.cli.moments import nanoseconds
from auditspan.cli.output import JsonOption, console, plain, print_json, reports_errors, reports_errors_with
from auditspan.cli.progress_bar import progress_of_one
from auditspan.cli.verdict import EXIT_USAGE, Verdict
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.semconv import EventClass

__all__ = ["app"]

_MOST_JOBS: Final = 4
"""Processes that verify, where nothing else is asked for: each takes some 300 MB."""

app = typer.Typer(
    no_args_is_help=True, help="Evidence: request it, export packages, verify them offline, compare and print them."
)
app.command("request")(request)
app.command("list")(list_)
app.command("diff")(diff)
app.command("print")(print_)


@app.command()
@reports_errors
def export(
    data: Annotated[
        Path, typer.Option("--data", help="Data directory of the service, running or not.", file_okay=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder to write; must not exist, or be empty. With --zip the file NAME.zip.")
    ],
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
    request_id: Annotated[
        str | None, typer.Option("--request", help="Sealed request to answer: its times and its query are taken.")
    ] = None,
    zipped: Annotated[bool, typer.Option("--zip", help="Write one zip file instead of a folder.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Export an evidence package: intervals of every log, proven complete, with the events that a query selects.

    `SUMMARY.html` in it is one page to begin with.

    \b
    auditspan evidence export --data ./data --out ./package
    auditspan evidence export --data ./data --request ID --zip --out ./package.zip
    auditspan evidence export --data ./data --from 2026-11-01 --to 2026-12-01 --where "flagged = true" --out ./november
    """
    from auditspan.cli.reading import open_reader
    from auditspan.exporters.evidence.control import control_log_of
    from auditspan.exporters.evidence.export import export_package
    from auditspan.exporters.evidence.requests import find_request
    from auditspan.ledger.keys import load_signing_key
    from auditspan.ledger.trust import load_trust
    from auditspan.policy.artifacts_kept import kept

    if request_id is not None and (time_from, time_to, where) != (None, None, None):
        raise AuditSpanError(
            "A request says itself what is asked for.", remedy="Leave out --from, --to and --where, or --request."
        )
    directory = DataDirectory(data)

    with ExitStack() as stack:
        reading = stack.enter_context(open_reader(data, None))

        def artifact(digest: str) -> bytes | None:
            # What was activated on another machine is in the store alone.
            content = kept(directory.reference, digest)
            return reading.store.artifact(digest) if content is None else content

        progress = stack.enter_context(progress_of_one("exporting", as_json))
        control = control_log_of(reading.store)
        asked = None if request_id is None else find_request(reading.store, control, request_id)

        def record(body: dict[str, Any]) -> None:
            seal(directory, reading.running, EventClass.EVIDENCE_EXPORTED, body)

        result = export_package(
            reading.store,
            artifact,
            load_signing_key(directory.signing_key),
            load_trust(directory.trust).deployment,
            out,
            time_from=asked.time_from if asked else nanoseconds(time_from, 0),
            time_to=asked.time_to if asked else nanoseconds(time_to, time.time_ns()),
            where=asked.where if asked else where,
            control=control,
            previous=previous,
            request=asked,
            zipped=zipped,
            record=record,
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
                "request": request_id,
            }
        )
        return
    console.print(
        f"{plain(str(result.folder))}: {result.leaves:,} leaves proven, {result.selected:,} shown, "
        f"{result.withheld:,} as headers, {result.flagged:,} flagged.\n"
        f"Verify with: auditspan evidence verify {result.folder} --trust {directory.trust}",
        soft_wrap=True,
    )
    if not zipped:
        console.print(f"Begin with: {plain(str(result.folder / 'SUMMARY.html'))}", soft_wrap=True)


@app.command()
@reports_errors_with(EXIT_USAGE)
def verify(
    folder: Annotated[Path, typer.Argument(help="The evidence package: its folder, or its zip file.")],
    trust: Annotated[Path, typer.Option(help="trust.json with the operator's public keys, got by another way.")],
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Logs to verify at once; default: as many as there are cores, 4 at most.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write the whole report as one HTML page.", dir_okay=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify an evidence package offline: nothing altered, nothing left out.

    Exit status: 0 valid, 1 invalid, 2 incomplete (a file is absent and nothing else is wrong), 3 the command is wrong.

    \b
    auditspan evidence verify ./package --trust ./trust.json
    auditspan evidence verify ./package.zip --trust ./trust.json --json --html ./report.html
    """
    from auditspan.buffers import keep_buffers
    from auditspan.exporters.evidence.rendering import render
    from auditspan.exporters.evidence.verify import verify_package

    keep_buffers()
    keys = trusted(trust)
    with ExitStack() as stack:
        progress = stack.enter_context(progress_of_one("verifying", as_json))
        report = verify_package(folder, keys, progress, jobs or min(os.cpu_count() or 1, _MOST_JOBS))
    if html is not None:
        from auditspan.exporters.evidence.report_page import report_page

        html.write_text(report_page(report))
    if as_json:
        typer.echo(report.to_json())
    else:
        render(report, console)
    raise Verdict(report.exit_code)
