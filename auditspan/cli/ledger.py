"""``auditspan ledger``: whether the store still holds what was signed, and what to do when it does not."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditspan.cli.config import settings_of
from auditspan.cli.ledger_recover import recover
from auditspan.cli.moments import nanoseconds
from auditspan.cli.output import (
    JsonOption,
    console,
    plain,
    print_json,
    print_table,
    reports_errors_with,
)
from auditspan.cli.reading import existing, open_reader
from auditspan.cli.verdict import EXIT_USAGE, Verdict
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.processors.ledger_check import CheckedLog, CheckReport

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The sealed logs in the store: check them against what was signed.")

_MOST_SHOWN = 20


@app.command()
@reports_errors_with(EXIT_USAGE)
def check(
    data: Annotated[
        Path,
        typer.Option("--data", help="Data directory with the keys; service running or not.", file_okay=False),
    ],
    since: Annotated[
        str | None,
        typer.Option("--since", help="Check what arrived from this time on (UTC), whatever was checked before."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Check every leaf of every log.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what the store holds with what was signed, leaf by leaf.

    Every stored header is hashed into the tree and compared with the kept nodes and with every signed checkpoint: in
    the store, in the control log, in the control partition and in the signer's state. Payload, salt and facts must be
    what the header commits to, and each typed column what header and payload say. A run begins where the last good one
    ended (DIR/ledger-check.json), so that a daily one reads a day; the first one, and --full, read everything.

    Exit status: 0 the store is what was signed; 1 it is not: the log and the leaf are named; 3 it could not be done.

    \b
    auditspan ledger check --data ./data
    auditspan ledger check --data ./data --full --json
    """
    from auditspan.cli.progress_bar import progress_by_partition
    from auditspan.journal.opening import open_journal
    from auditspan.ledger.keys import load_salt_key
    from auditspan.ledger.trust import load_trust
    from auditspan.processors.ledger_check import check_ledger
    from auditspan.processors.ledger_checked import confirmed, read_checked, write_checked
    from auditspan.processors.replay.signatures import Deployment

    if since is not None and full:
        raise AuditSpanError("--since and --full contradict each other.", remedy="Give one of them.")
    directory, settings = existing(data), settings_of(data, config)
    trust = load_trust(directory.trust)
    with ExitStack() as stack:
        journal = open_journal(directory, settings, read_only=True)
        stack.callback(journal.close)
        store = stack.enter_context(open_reader(data, None, settings)).store
        rows = store.reader()
        stack.callback(rows.close)
        progress = stack.enter_context(progress_by_partition("checking", as_json))
        begins_anew = full or since is not None
        checked = {} if begins_anew else read_checked(directory.ledger_check)
        report = check_ledger(
            journal,
            store,
            rows,
            Deployment(
                name=trust.deployment,
                salt_key=load_salt_key(directory.salt_key),
                keys=trust.keys,
                reference_folder=directory.reference,
                signer_state=directory.signer_state,
            ),
            checked=confirmed(store, trust.deployment, trust.keys, checked),
            since=None if since is None else nanoseconds(since, 0),
            progress=progress,
        )
    if not report.exit_code and since is None:
        # What a run with --since passes over was not checked by it.
        write_checked(directory.ledger_check, report)
    if as_json:
        print_json(report.to_json())
    else:
        _show(report)
    raise Verdict(report.exit_code)


def _show(report: CheckReport) -> None:
    columns = ["log", "leaves", "checked from", "read", "checkpoints", "not signed yet", "faults"]
    print_table("Logs", columns, [_row(log) for log in report.logs], lines=False)
    for log in report.logs:
        for fault in log.faults[:_MOST_SHOWN]:
            place = f"leaf {fault.leaf:,}" if fault.leaf is not None else "no leaf"
            column = f" {fault.column}" if fault.column else ""
            said = f"{fault.code}{column}: expected {fault.expected}, found {fault.actual}"
            console.print(plain(f"{log.partition} ({log.log_id}) {place}: {said}"), soft_wrap=True)
        if sum(log.fault_counts.values()) > _MOST_SHOWN:
            counts = ", ".join(f"{count:,} × {code}" for code, count in log.fault_counts.items())
            console.print(f"{log.partition}: in all {counts}; --json lists them.", soft_wrap=True)
        for text in log.notes:
            console.print(plain(f"{log.partition}: {text}"), soft_wrap=True)
    verdict = {
        0: "The store holds what was signed.",
        1: "The store, or what was signed, is not as it was. Keep both as they are: `auditspan replay --verify` says "
        "what the journal has in their place.",
    }
    console.print(f"{report.verdict}: {verdict[report.exit_code]}", soft_wrap=True)


def _row(log: CheckedLog) -> dict[str, str]:
    return {
        "log": log.partition,
        "leaves": f"{log.leaves:,}",
        "checked from": f"{log.checked_from:,}",
        "read": f"{log.leaves_read:,}",
        "checkpoints": f"{log.checkpoints:,}",
        "not signed yet": f"{log.unsigned:,}",
        "faults": f"{sum(log.fault_counts.values()):,}",
    }


app.command()(recover)
