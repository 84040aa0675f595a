"""``auditspan doctor``: reconcile spool, journal, store and checkpoints, and say what to do."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from auditspan.cli.output import EXIT_FAILURE, JsonOption, print_json, print_table, reports_errors
from auditspan.cli.reading import open_reader
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.instrumentation.adoption import count_refused, inspect_spool
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.checkpoint import CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.keys import load_salt_key, load_signing_key, load_trust
from auditspan.ledger.merkle import CompactRange, leaf_hash
from auditspan.store.contract import Store

__all__ = ["doctor"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    state: Literal["ok", "waiting", "wrong"]
    found: str
    remedy: str = ""


@reports_errors
def doctor(
    data: Annotated[
        Path, typer.Option("--data", help="Data directory of the service, running or not.", file_okay=False)
    ],
    spool: Annotated[Path | None, typer.Option(help="Spool directory to look into as well.", file_okay=False)] = None,
    full: Annotated[bool, typer.Option("--full", help="Hash every leaf of every log against its checkpoint.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare spool, journal, store and checkpoints, and say what to do about each difference.

    Exit status 1 when something is wrong; what merely waits is no fault.

    \b
    auditspan doctor --data ./data --spool /var/spool/auditspan
    auditspan doctor --data ./data --full --json
    """
    directory = DataDirectory(data)
    findings = list(_keys(directory))
    if spool is not None:
        findings += _spool(spool)
    if directory.journal.exists():
        with open_reader(data, None) as store:
            findings += _logs(directory, store, full)
    else:
        findings.append(Finding("journal", "waiting", "there is none yet", f"Start: auditspan up --data {data}"))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table("Findings", ["check", "state", "found", "remedy"], [asdict(finding) for finding in findings])
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(EXIT_FAILURE)


def _keys(directory: DataDirectory) -> Iterator[Finding]:
    for name, load in (
        ("signing key", lambda: load_signing_key(directory.signing_key)),
        ("salt key", lambda: load_salt_key(directory.salt_key)),
        ("trust.json", lambda: load_trust(directory.trust)),
    ):
        try:
            load()
        except AuditSpanError as error:
            yield Finding(name, "wrong", error.message, error.remedy)
        else:
            yield Finding(name, "ok", "readable, and by its owner alone where it is private")


def _spool(spool: Path) -> Iterator[Finding]:
    for stream in inspect_spool(spool):
        if stream.live:
            yield Finding(f"spool {stream.stream}", "ok", f"{stream.pending} records; its process lives and ships them")
        elif stream.pending:
            yield Finding(
                f"spool {stream.stream}",
                "waiting",
                f"{stream.pending} records of a process that is gone",
                f"Run: auditspan spool ship --spool {spool}",
            )
    refused = count_refused(spool)
    if refused:
        yield Finding(
            "spool",
            "wrong",
            f"{refused} records were refused by the collector",
            f"They are kept in {spool}/refused; the audit.gap records say why.",
        )


def _logs(directory: DataDirectory, store: Store, full: bool) -> Iterator[Finding]:
    journal = SqliteJournal(directory.journal, read_only=True)
    try:
        opened = store.query(
            "SELECT log_id, header FROM auditspan.events "
            "WHERE leaf_index = 0 AND class = 'audit.log.opened' ORDER BY log_id"
        ).to_pylist()
        if not opened:
            yield Finding("store", "waiting", "nothing is sealed yet", "Start the service.")
        for row in opened:
            body = json.loads(row["header"])["body"]
            partition, log_id = body["partition"], row["log_id"]
            if body["journal"] != journal.identity:
                yield Finding(partition, "wrong", "the store is of another journal", "Put the right pair together.")
                continue
            yield _progress_of(journal, store, partition, log_id)
            yield from _checkpoint_of(directory, store, partition, log_id, full)
    finally:
        journal.close()


def _progress_of(journal: SqliteJournal, store: Store, partition: str, log_id: str) -> Finding:
    last = store.last_batch(log_id)
    sealed_to = json.loads(last)["body"]["to"] if last is not None else 0
    end = journal.high_water_mark(partition)
    if sealed_to > end:
        return Finding(
            partition,
            "wrong",
            f"sealed to {sealed_to}, but the journal ends at {end}",
            "The journal was restored from an older backup: put the newer one back.",
        )
    if sealed_to < end:
        return Finding(
            partition,
            "waiting",
            f"{end - sealed_to} journal entries are not sealed yet",
            "They are sealed while `auditspan up` runs; if this does not shrink, see its log.",
        )
    return Finding(partition, "ok", f"all {end} journal entries are sealed")


def _checkpoint_of(
    directory: DataDirectory, store: Store, partition: str, log_id: str, full: bool
) -> Iterator[Finding]:
    name = f"{partition} checkpoint"
    leaves = store.next_leaf(log_id)
    kept = store.last_checkpoint(log_id)
    if kept is None:
        yield Finding(name, "waiting", "nothing is signed yet", "A running service signs within a second.")
        return
    loaded = load_trust(directory.trust)
    try:
        checkpoint = open_checkpoint(kept.note, log_origin(loaded.deployment, log_id), loaded.keys)
    except CheckpointInvalid as error:
        yield Finding(
            name, "wrong", f"{error.code}: {error}", "The store was altered, or the keys are of another deployment."
        )
        return
    if checkpoint.size > leaves:
        yield Finding(
            name,
            "wrong",
            f"{checkpoint.size} leaves were signed, the store holds {leaves}",
            "Leaves are missing: restore the newest backup of the store.",
        )
        return
    if full:
        tree = CompactRange()
        for batch in store.leaves(log_id, 0, checkpoint.size):
            tree.extend([leaf_hash(header) for header in batch.column("header").to_pylist()])
        if tree.root() != checkpoint.root:
            yield Finding(
                name,
                "wrong",
                f"the leaves give the root {_text(tree.root())}, signed is {_text(checkpoint.root)}",
                "A sealed leaf was altered: export evidence of older intervals to find where, and restore a backup.",
            )
            return
    yield Finding(
        name, "ok", f"{checkpoint.size} of {leaves} leaves are signed{' and every leaf fits' if full else ''}"
    )


def _text(root: bytes) -> str:
    return base64.b64encode(root).decode()
