"""``auditspan replay --verify``: every leaf derived again from the journal."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditspan.cli.config import settings_of
from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors_with
from auditspan.cli.progress_bar import progress_by_partition
from auditspan.cli.reading import existing, open_reader
from auditspan.config import Settings
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.journal.contract import Journal
    from auditspan.processors.replay.report import LogReport, ReplayReport
from auditspan.cli.verdict import EXIT_USAGE, Verdict

__all__ = ["replay"]

_MOST_SHOWN = 20


@reports_errors_with(EXIT_USAGE)
def replay(
    data: Annotated[
        Path,
        typer.Option("--data", help="Data directory with the keys; service running or not.", file_okay=False),
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with the store and what was signed; nothing is ever written.")
    ] = False,
    log: Annotated[
        str | None, typer.Option("--log", help="Only this log: its partition, such as events-0, or its id.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Derive every leaf again from the journal, and compare leaves, columns and roots with the store and signatures.

    Batch boundaries and reference epochs are those that the log names; determinations are made anew with the packs in
    DIR/reference. Where the journal was trimmed, what is left of it is replayed, and the leaves before are checked by
    their own headers and the signed trees. It works beside a running service, through its SQL endpoint or the server
    of store.url; where none runs it opens the embedded store itself, which one process at a time can.

    Exit status: 0 all leaves are identical, 1 something differs (the log and the leaf are named), 2 nothing differs but
    not every leaf could be derived again (journal trimmed, packs of an epoch gone), 3 it could not be done.

    \b
    auditspan replay --verify --data ./data
    auditspan replay --verify --data ./data --log events-0 --json
    """
    if not verify:
        raise AuditSpanError("A replay only verifies.", remedy=f"Run: auditspan replay --verify --data {data}")
    from auditspan.ledger.keys import load_salt_key
    from auditspan.ledger.trust import load_trust
    from auditspan.processors.replay.deployment import Deployment
    from auditspan.processors.replay.deployment import replay as replay_logs

    directory, settings = existing(data), settings_of(data, config)
    trust = load_trust(directory.trust)
    with ExitStack() as stack:
        journal = _journal(directory, settings)
        stack.callback(journal.close)
        reading = stack.enter_context(open_reader(data, None, settings))
        progress = stack.enter_context(progress_by_partition("replaying", as_json))
        report = replay_logs(
            journal,
            reading.store,
            Deployment(
                name=trust.deployment,
                salt_key=load_salt_key(directory.salt_key),
                keys=trust.keys,
                reference_folder=directory.reference,
                signer_state=directory.signer_state,
            ),
            log,
            progress,
        )
    if as_json:
        print_json(report.to_json())
    else:
        _show(report)
    raise Verdict(report.exit_code)


def _journal(directory: DataDirectory, settings: Settings) -> Journal:
    from auditspan.journal.opening import is_kafka, open_journal
    from auditspan.journal.sqlite import SqliteJournal

    if is_kafka(settings):
        return open_journal(directory, settings)
    if not directory.journal.exists():
        raise AuditSpanError(
            f"There is no journal in {directory.journal.parent}.",
            remedy="Name the directory of the service, or set journal.url where the journal is on Kafka.",
        )
    return SqliteJournal(directory.journal, read_only=True)


def _show(report: ReplayReport) -> None:
    columns = ["log", "state", "leaves", "replayed", "batches", "signed", "checkpoints"]
    print_table("Logs", columns, [_row(log) for log in report.logs], lines=False)
    for log in report.logs:
        for fault in log.faults[:_MOST_SHOWN]:
            place = f"leaf {fault.leaf:,}" if fault.leaf is not None else "no leaf"
            column = f" {fault.column}" if fault.column else ""
            console.print(
                plain(
                    f"{log.partition} {place}: {fault.code}{column}: expected {fault.expected}, found {fault.actual}"
                ),
                soft_wrap=True,
            )
        if sum(log.fault_counts.values()) > _MOST_SHOWN:
            counts = ", ".join(f"{count:,} × {code}" for code, count in log.fault_counts.items())
            console.print(f"{log.partition}: in all {counts}; --json lists them.", soft_wrap=True)
        for text in (*log.not_derived, *log.notes):
            console.print(plain(f"{log.partition}: {text}"), soft_wrap=True)
    for text in report.notes:
        console.print(plain(text), soft_wrap=True)
    said = {
        0: "The journal gives every leaf and every root that was signed.",
        1: "The store, the journal or a signature is not as it was: keep all three as they are, and look into it.",
        2: "Nothing differs; not every leaf could be derived again, as said above.",
    }
    console.print(f"{report.verdict}: {said[report.exit_code]}", soft_wrap=True)


def _row(log: LogReport) -> dict[str, str]:
    return {
        "log": log.partition,
        "state": log.state,
        "leaves": f"{log.leaves:,}",
        "replayed": "all" if not log.replayed_from else f"from leaf {log.replayed_from:,}",
        "batches": f"{log.batches:,}",
        "signed": f"{log.signed_to:,}",
        "checkpoints": f"{log.checkpoints:,}",
    }
