"""``auditspan evidence request`` and ``list``: who asked for evidence and why, and what was exported."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from auditspan.cli.evidence_sealing import acting_user, seal
from auditspan.cli.moments import nanoseconds, rfc3339
from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors
from auditspan.semconv import EventClass

__all__ = ["list_", "request"]

_ALL: Final = "everything"


@reports_errors
def request(
    data: Annotated[
        Path, typer.Option("--data", help="Data directory of the service, running or not.", file_okay=False)
    ],
    by: Annotated[str, typer.Option("--by", help="Who asks: a person or an office, as the package will name it.")],
    basis: Annotated[str, typer.Option("--basis", help='Legal basis, such as "15 CFR 762.7".')],
    time_from: Annotated[
        str | None, typer.Option("--from", help="First arrival time asked for (UTC); default: the beginning.")
    ] = None,
    time_to: Annotated[
        str | None, typer.Option("--to", help="First arrival time no longer asked for (UTC); default: now.")
    ] = None,
    where: Annotated[str | None, typer.Option(help="Query over header fields; default: everything.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Seal a request for evidence in the control log, and print its id, by which an export answers it.

    \b
    auditspan evidence request --data ./data --by "BIS Office of Export Enforcement" --basis "15 CFR 762.7" \\
        --from 2026-11-01 --to 2026-12-01 --where "flagged = true"
    """
    from auditspan.cli.reading import existing, open_reader
    from auditspan.exporters.evidence.requests import request_body

    directory = existing(data)
    request_id = str(uuid.uuid4())
    body = request_body(request_id, by, basis, nanoseconds(time_from, 0), nanoseconds(time_to, time.time_ns()), where)
    # Held while it is journaled: where no service runs, this command is the journal's one writer.
    with open_reader(data, None) as reading:
        running = reading.running
        seal(directory, running, EventClass.EVIDENCE_REQUESTED, body)
    if as_json:
        print_json(body | {"actor": acting_user(), "sealed": running})
        return
    console.print(request_id)
    if not running:
        console.print("No service runs here: the next one to start seals it.")


@reports_errors
def list_(
    data: Annotated[
        Path, typer.Option("--data", help="Data directory of the service, running or not.", file_okay=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """List the requests for evidence and the exports that the control log has sealed, each in its order.

    A request is open until a package was exported that names it.

    \b
    auditspan evidence list --data ./data
    """
    from auditspan.cli.reading import open_reader
    from auditspan.exporters.evidence.control import control_log_of
    from auditspan.exporters.evidence.requests import exports_of, requests_of

    with open_reader(data, None) as reading:
        control = control_log_of(reading.store)
        requests, exports = requests_of(reading.store, control), exports_of(reading.store, control)
    answers: dict[str, list[str]] = {}
    for export in exports:
        answers.setdefault(str(export["request"]), []).append(str(export["manifest_sha256"]))
    rows: list[dict[str, Any]] = [
        {
            "id": one.id,
            "state": "exported" if answers.get(one.id) else "open",
            "packages": answers.get(one.id, []),
            "by": one.by,
            "basis": one.basis,
            "from": rfc3339(one.time_from),
            "to": rfc3339(one.time_to),
            "where": one.where,
            "actor": one.actor,
            "sealed_at": rfc3339(one.sealed_at),
            "leaf_index": one.leaf_index,
        }
        for one in requests
    ]
    made = [
        export | {name: _moment(export[name]) for name in ("from", "to")} | {"sealed_at": rfc3339(export["sealed_at"])}
        for export in exports
    ]
    if as_json:
        print_json({"requests": rows, "exports": made})
        return
    columns = ["request", "asked for", "by", "state"]
    shown: list[dict[str, Any]] = [
        {
            "request": f"{row['id']}\n{_short(row['sealed_at'])}",
            "asked for": f"{_short(row['from'])} to {_short(row['to'])}\n{row['where'] or _ALL}",
            "by": f"{row['by']}\n{row['basis']}",
            "state": "\n".join([row["state"], *row["packages"]]),
        }
        for row in rows
    ]
    print_table(f"{len(rows)} request{'' if len(rows) == 1 else 's'}", columns, shown, prose="state", whole="request")
    columns = ["export", "of", "request", "manifest"]
    shown = [
        {
            "export": f"{_short(row['sealed_at'])}\n{row['actor']}",
            "of": f"{_short(row['from'])} to {_short(row['to'])}\n{row['where'] or _ALL}",
            "request": row["request"],
            "manifest": row["manifest_sha256"],
        }
        for row in made
    ]
    print_table(f"{len(made)} export{'' if len(made) == 1 else 's'}", columns, shown, prose="manifest", whole="request")
    if any(row["state"] == "open" for row in rows):
        console.print(plain(f"Answer one with: auditspan evidence export --data {data} --request ID --out FOLDER"))


def _moment(nanoseconds_text: object) -> str | None:
    """A time as the control log has it; what is no time stays away."""
    text = str(nanoseconds_text)
    return rfc3339(min(int(text), 2**63 - 1)) if text.isascii() and text.isdigit() else None


def _short(moment: str | None) -> str:
    """To the second."""
    return "" if moment is None else f"{moment[:19]}Z"
