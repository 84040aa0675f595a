"""The deriver's inputs as a deployment keeps them: the SQLite journal's file, and the leaves of the store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from .derive import Batch, DerivationError, Entry, Log


def batches_of(leaves: Iterable[bytes]) -> list[Batch]:
    """The batch boundaries that stored leaves name."""
    found = []
    for leaf in leaves:
        header = json.loads(leaf)
        if header["class"] == "audit.batch":
            body = header["body"]
            found.append(Batch(body["to"], body["epoch"]["number"], body["epoch"]["digest"], body["software"]))
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
