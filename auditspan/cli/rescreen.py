"""``auditspan rescreen``: who of stored events stands on the list that is in force now."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditspan.cli.config import settings_of
from auditspan.cli.evidence_sealing import acting_user
from auditspan.cli.moments import nanoseconds
from auditspan.cli.output import JsonOption, console, errors, print_json, print_table, reports_errors
from auditspan.cli.reading import existing, open_reader
from auditspan.cli.screening_extra import require_screening
from auditspan.data_directory import DataDirectory
from auditspan.semconv import EventClass

if TYPE_CHECKING:
    from auditspan.config import Settings
    from auditspan.store.contract import Store

__all__ = ["rescreen"]


@reports_errors
def rescreen(
    data: Annotated[Path, typer.Option("--data", help="Data directory of the service.", file_okay=False)],
    since: Annotated[
        str,
        typer.Option("--since", help="First arrival time looked at (ISO 8601; UTC without a zone).", metavar="TIME"),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is found; seal nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Screen the parties of stored events against the list in force, and seal what their events do not say yet.

    Screened are the parties that acted or were the end user, and whoever an event names as end user, consignee or final
    recipient, each once, however many events name them. For each of them and entry one `screening.rescreened` is added
    to the control log: who, which entry, by which name, how many events, and, where transfers were completed, what to
    stop (General Prohibition 10). Each is a case (`auditspan cases list`). No determination of the past is changed. A
    second run adds what is new since the first.

    \b
    auditspan rescreen --since 2026-01-01 --data ./data --dry-run
    auditspan rescreen --since 2026-01-01 --data ./data --json
    """
    require_screening()
    from auditspan.policy.rescreening import rescreened, unsaid
    from auditspan.policy.stored_epochs import StoredEpochs

    directory, settings = existing(data), settings_of(data, None)
    with ExitStack() as stack:
        reading = stack.enter_context(open_reader(data, None, settings))
        with errors.status("Screening …"):
            reference = StoredEpochs(reading.store, directory.reference).newest_reference()
            found = rescreened(reading.store, reference, nanoseconds(since, 0), time.time_ns())
        before = _sealed(reading.store) if reading.running else _said(reading.store, directory, settings)
        new = unsaid(found, before)
        if new and not dry_run:
            _record(directory, settings, reading.running, new)
    if as_json:
        print_json({"found": found, "new": len(new), "dry_run": dry_run})
    else:
        _show(found, len(new), dry_run)


def _sealed(store: Store) -> list[Mapping[str, Any]]:
    leaves = store.query(_RESCREENED, {"class": EventClass.SCREENING_RESCREENED.value})["header"].to_pylist()
    return [json.loads(leaf)["body"]["body"] for leaf in leaves]


_RESCREENED = "SELECT header FROM auditspan.events WHERE class = {class:String} AND payload = '' ORDER BY leaf_index"


def _said(store: Store, directory: DataDirectory, settings: Settings) -> list[Mapping[str, Any]]:
    """Those that are sealed, and those that are journaled and wait for a service to seal them."""
    from contextlib import closing

    from auditspan.journal.opening import open_journal
    from auditspan.processors.control import opened_logs, said_from

    with closing(open_journal(directory, settings, read_only=True)) as journal:
        # Read before the leaves: what is sealed in between is then seen twice, and never not at all.
        last = store.last_batch(opened_logs(journal, store)[0].log_id)
        offset = int(json.loads(last)["body"]["to"]) if last is not None else 0
        waiting = [
            said["body"] for said in said_from(journal, offset) if said.get("class") == EventClass.SCREENING_RESCREENED
        ]
        return [*_sealed(store), *waiting]


def _record(directory: DataDirectory, settings: Settings, running: bool, bodies: Sequence[Mapping[str, Any]]) -> None:
    """Have it sealed in the control log: by the service, or by the next one to start."""
    from auditspan.journal.opening import is_kafka

    actor = acting_user()
    if running and not is_kafka(settings):
        from auditspan.cli.control_socket import ask

        for body in bodies:
            ask(directory.control_socket, "POST", "/screening/rescreened", {"actor": actor, "body": body})
        return
    from auditspan.cli.journal_writing import journal_to_write
    from auditspan.processors.control_entries import ControlLog

    with journal_to_write(directory, settings) as journal:
        log = ControlLog(journal)
        for body in bodies:
            log.append(EventClass.SCREENING_RESCREENED, actor, dict(body))


def _show(found: Sequence[Mapping[str, Any]], new: int, dry_run: bool) -> None:
    rows = [
        {
            "party": f"{one['party'] or 'no party'}\n{one['whose'] or 'itself'}: {one['name'] or 'more names'}",
            "list, entry": f"{one['entry']['list']}\n{one['entry']['id']}",
            "like": f"{one['entry']['matched']} ({one['entry']['role']})\nof {one['entry']['listed_as']}",
            "score": f"{float(one['entry']['score']):.2f}",
            "events": f"{one['events']:,}\n{one['transfers']:,} transfers",
        }
        for one in found
    ]
    print_table(f"{len(rows)} likenesses", ["party", "list, entry", "like", "score", "events"], rows, prose="like")
    stopped = next((one["stop"] for one in found if "stop" in one), None)
    if stopped:
        console.print(
            f"Transfers were completed. Until it is known who that is, nobody may {', '.join(stopped)} what was "
            "transferred (General Prohibition 10, 15 CFR 736.2(b)(10)).",
            soft_wrap=True,
        )
    state = "would be sealed" if dry_run else "added to the control log"
    console.print(f"{new} of {len(rows)} {state}; the others were said before.", soft_wrap=True)
    if rows and not dry_run:
        console.print("Each is a case until an officer clears the hit: auditspan cases list", soft_wrap=True)
