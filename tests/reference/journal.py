"""The deriver's inputs as a deployment keeps them: the SQLite journal's file, and the leaves of the store."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from .derive import Batch, DerivationError, Entry, Log


def batches_of(leaves: Iterable[bytes]) -> list[Batch]:
    """The batch boundaries that stored leaves name."""
    found = []
    successor = None
    for leaf in leaves:
        header = json.loads(leaf)
        if header["class"] == "audit.log.closed":
            successor = header["body"]["successor"]["partitions"]
        if header["class"] == "audit.batch":
            body = header["body"]
            epoch = body["epoch"]
            found.append(Batch(body["to"], epoch["number"], epoch["digest"], body["software"], successor))
            successor = None
    return found


def journal_entries(path: Path, partition: str) -> list[Entry]:
    """The entries of one partition of a SQLite journal, which must not have been trimmed."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as journal:
        row = journal.execute("SELECT id, earliest FROM partitions WHERE name = ?", (partition,)).fetchone()
        if row is None or row[1] != 0:
            raise DerivationError(f"the journal has not all of {partition}")
        base = row[0] << 48
        rows = journal.execute(
            "SELECT position, kind, emitter, authentication, arrival_time, encoding, body FROM entries "
            "WHERE position >= ? AND position < ? ORDER BY position",
            (base, base + (1 << 48)),
        ).fetchall()
    journal.close()
    return [Entry(position - base, *rest) for position, *rest in rows]


def opened_logs(control: Iterable[Entry]) -> dict[str, Log]:
    """The logs that the entries of the control partition open, by partition."""
    logs: dict[str, Log] = {}
    for entry in control:
        said = json.loads(entry.body) if entry.kind == "control" else {}
        if said.get("class") == "audit.log.opened":
            body = said["body"]
            log = Log(
                body["deployment"],
                body["journal"],
                body["log_id"],
                body["partition"],
                body["generation"],
                entry.arrival_time,
            )
            # Of several that race the first one counts.
            logs.setdefault(body["partition"], log)
    return logs


def earlier_of(logs: Mapping[str, Log], log: Log) -> list[Log]:
    """The logs of the generations before that of ``log``, generation by generation (section 2)."""
    if not _is_own(log):
        return []
    before = [one for one in logs.values() if _is_own(one) and one.generation < log.generation]
    return sorted(before, key=lambda one: (one.generation, len(one.partition), one.partition))


def _is_own(log: Log) -> bool:
    return re.fullmatch(r"events(\.[0-9]+)?-[0-9]+", log.partition) is not None
