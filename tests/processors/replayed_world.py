"""A deployment with something of everything, sealed and signed, and ways to alter what it stored."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from auditspan.processors.control import opened_logs
from auditspan.processors.replay.deployment import Deployment as Known
from auditspan.processors.replay.deployment import replay
from auditspan.processors.replay.report import Fault, LogReport, ReplayReport
from sealing_deployment import KEY, artifacts, running
from sealing_inputs import NOW, SECOND, access, request
from waiting import until

from auditspan.journal.sqlite import SqliteJournal
from auditspan.policy.activation import Activation
from auditspan.policy.reference import Reference
from auditspan.store.clickhouse import ClickHouseStore

REVIEWED = {"parties.yaml": b"parties: []\n# reviewed\n"}


def seal(root: Path) -> None:
    """Two data logs, two epochs, gaps and their closing, duplicates, conflicts, quarantine; many batches."""
    beyond = 61 * SECOND
    rounds: list[list[tuple[str, list[bytes], int]]] = [
        [
            ("events-0", [request(*(access(i) for i in range(40)))], NOW),
            ("events-1", [request(*(access(None, _trace_id=bytes([i + 1]) * 16) for i in range(5)), stream=None)], NOW),
        ],
        # Sent again, sent again otherwise, a hole, something that is no request.
        [
            ("events-0", [request(access(3), access(7, **{"audit.action": "other"}), access(60))], NOW + SECOND),
            ("events-1", [b"\xff\xff not protobuf", request(access(None, _trace_id=b"\1" * 16), stream=None)], NOW),
        ],
        [("events-0", [request(access(61, **{"export_control.destination.country": "IR"}))], NOW + beyond)],
        [
            ("events-0", [request(access(45), access(46), access(3))], NOW + 2 * beyond),
            ("events-1", [request(access(i), stream="other") for i in range(20)], NOW + beyond),
        ],
    ]
    for number, options in enumerate(({}, {"artifacts": {**artifacts(), **REVIEWED}})):
        with running(root, partitions=2, **options) as deployment:
            for sending in rounds[2 * number : 2 * number + 2]:
                for partition, bodies, arrival in sending:
                    deployment.append(partition, bodies, arrival)
                until(lambda: all(log.lag_entries == 0 for log in deployment.pipeline.status()))


@dataclass
class World:
    """The stores of a stopped deployment, opened."""

    root: Path
    journal: SqliteJournal
    store: ClickHouseStore

    def replay(self, only: str | None = None) -> ReplayReport:
        known = Known("plant", b"k" * 32, [KEY.public_key()], self.root / "reference", self.root / "signer")
        return replay(self.journal, self.store, known, only)

    def log_id(self, partition: str) -> str:
        return next(one.log_id for one in opened_logs(self.journal, self.store) if one.partition == partition)

    def rows(self, partition: str, names: str, where: str = "1") -> list[dict[str, Any]]:
        sql = f"SELECT {names} FROM auditspan.events WHERE log_id = {{log_id:String}} AND {where} ORDER BY leaf_index"
        return self.store.query(sql, {"log_id": self.log_id(partition)}).to_pylist()

    def leaf(self, partition: str, where: str, place: int = 0) -> int:
        return self.rows(partition, "leaf_index", where)[place]["leaf_index"]

    def command(self, statement: str) -> None:
        self.store._connection.command(f"{statement} SETTINGS mutations_sync = 1")

    def alter(self, partition: str, leaf: int, column: str, value: str) -> None:
        """Set a column of a stored leaf to a ClickHouse expression."""
        where = f"log_id = '{self.log_id(partition)}' AND leaf_index = {leaf}"
        before = self.rows(partition, f"hex(toString({column})) AS v", f"leaf_index = {leaf}")
        self.command(f"ALTER TABLE auditspan.events UPDATE {column} = {value} WHERE {where}")
        assert self.rows(partition, f"hex(toString({column})) AS v", f"leaf_index = {leaf}") != before, (
            "nothing was altered"
        )

    def alter_many(self, partition: str, columns: Mapping[int, tuple[str, str]]) -> None:
        """The same for one column of each of many leaves, in one step."""
        at_once: dict[str, list[str]] = {}
        for leaf, (column, value) in columns.items():
            at_once.setdefault(column, []).append(f"leaf_index = {leaf}, {value}")
        changes = ", ".join(f"{name} = multiIf({', '.join(whens)}, {name})" for name, whens in at_once.items())
        where = f"log_id = '{self.log_id(partition)}'"
        self.command(f"ALTER TABLE auditspan.events UPDATE {changes} WHERE {where}")

    def close(self) -> None:
        self.store.close()
        self.journal.close()


@contextmanager
def opened(root: Path) -> Iterator[World]:
    world = World(root, SqliteJournal(root / "journal.sqlite", 2), ClickHouseStore.embedded(root / "store"))
    try:
        yield world
    finally:
        world.close()


@contextmanager
def copied(sealed: Path, to: Path) -> Iterator[World]:
    shutil.copytree(sealed, to, symlinks=True)
    with opened(to) as world:
        yield world


@contextmanager
def loaded_once() -> Iterator[None]:
    """A reference takes half a second to load, and dozens of replays load the same two."""
    loaded: dict[object, Reference] = {}
    load = Reference.load

    def remembering(
        artifacts: Mapping[str, bytes], number: int, activation: Activation | None = None, folder: Path | None = None
    ) -> Reference:
        key = (number, repr(activation), *(hashlib.sha256(artifacts[name]).digest() for name in sorted(artifacts)))
        if key not in loaded:
            loaded[key] = load(artifacts, number, activation, folder)
        return loaded[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reference, "load", remembering)
        yield


def of(report: ReplayReport, partition: str) -> LogReport:
    return next(log for log in report.logs if log.partition == partition)


def faults(report: ReplayReport) -> list[Fault]:
    return [fault for log in report.logs for fault in log.faults]


def places(report: ReplayReport) -> set[tuple[str, int | None]]:
    return {(fault.partition, fault.leaf) for fault in faults(report)}
