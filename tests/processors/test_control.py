"""Which logs there are, when processes start at once, crash half-way, and race."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from auditspan.processors.batch import Opening
from auditspan.processors.control import Logs, find_logs, open_logs, open_next_generation
from auditspan.processors.control_entries import ControlLog
from auditspan.processors.metrics import LogMetrics
from auditspan.processors.own_batches import Successor
from auditspan.processors.processor import LogProcessor
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sealing_deployment import running
from sealing_inputs import CONTEXT
from waiting import until

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import MOST_PARTITIONS, EntryKind, NewEntry
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.checkpoint import Checkpoint, log_origin, sign_checkpoint
from auditspan.semconv import EventClass
from auditspan.store.clickhouse import ClickHouseStore

KEY = [(str(EventClass.KEY_ADDED), {"algorithm": "Ed25519", "public_key": "AA=="})]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(tmp_path / "journal.sqlite", 3)
    yield made
    made.close()


def opening(journal: SqliteJournal, partition: str, log_id: str) -> tuple[str, str, dict]:
    body = {
        "deployment": "plant",
        "journal": journal.identity,
        "log_id": log_id,
        "partition": partition,
        "generation": 1,
    }
    return str(EventClass.LOG_OPENED), "system:auditspan", body


def classes(journal: SqliteJournal) -> list[str]:
    entries = journal.read("control", 0, max_entries=1000, max_bytes=1 << 20)
    return [entry.body.split(b'"class":"')[1].split(b'"')[0].decode() for entry in entries]


def opened(journal: SqliteJournal, store: ClickHouseStore) -> Logs:
    return open_logs(journal, store, "plant", actor="system:auditspan", first_entries=KEY)


def ids(logs: Logs) -> dict[str, str]:
    return {one.partition: one.log_id for one in (logs.control, *logs.data)}


def test_nobody_but_the_owner_opens_logs(journal: SqliteJournal, store: ClickHouseStore) -> None:
    assert find_logs(journal, store, "plant") is None
    logs = opened(journal, store)
    assert ids(find_logs(journal, store, "plant")) == ids(logs)
    assert sorted(ids(logs)) == ["control", "events-0", "events-1", "events-2"]
    assert opened(journal, store) == logs
    assert classes(journal).count("audit.log.opened") == 4


def test_the_first_opening_of_a_partition_counts(journal: SqliteJournal, store: ClickHouseStore) -> None:
    names = ["control", "events-0", "events-1", "events-2"]
    ControlLog(journal).append_all([opening(journal, name, f"{i:032x}") for i, name in enumerate(names)])
    ControlLog(journal).append_all([opening(journal, name, f"{i + 100:032x}") for i, name in enumerate(names)])
    assert ids(opened(journal, store)) == {name: f"{i:032x}" for i, name in enumerate(names)}


def test_owners_that_open_at_once_agree(journal: SqliteJournal, store: ClickHouseStore) -> None:
    together = threading.Barrier(4)
    found: list[dict[str, str]] = []

    def run() -> None:
        own = store.reader()
        together.wait()
        found.append(ids(opened(journal, own)))
        own.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert found[0] == found[1] == found[2] == found[3] == ids(find_logs(journal, store, "plant"))


def test_what_another_owner_began_is_completed(journal: SqliteJournal, store: ClickHouseStore) -> None:
    ControlLog(journal).append_all([opening(journal, "control", "0" * 32), opening(journal, "events-1", "1" * 32)])
    assert find_logs(journal, store, "plant") is None
    logs = ids(opened(journal, store))
    assert (logs["control"], logs["events-1"]) == ("0" * 32, "1" * 32)
    assert classes(journal).count("audit.log.opened") == 4
    assert classes(journal).count("audit.key.added") == 1


def test_a_recovery_is_journaled_once_whatever_comes_later(tmp_path: Path, store: ClickHouseStore) -> None:
    """It stands between the openings and the key, and neither an heir nor a topic that comes later repeats it."""
    first = [(str(EventClass.LEDGER_RECOVERED), {"statement": {}, "signatures": {}}), *KEY]

    class More(SqliteJournal):
        partitions = ("events-0", "spans-0")
        own_partitions = ("events-0",)

    journal = SqliteJournal(tmp_path / "journal.sqlite")
    try:
        for _ in range(2):
            open_logs(journal, store, "plant", actor="system:auditspan", first_entries=first)
        wanted = ["audit.log.opened"] * 2 + ["audit.ledger.recovered", "audit.key.added"]
        assert classes(journal) == wanted
        ControlLog(journal).append("audit.checkpoint", "system:auditspan", {"checkpoints": []})
    finally:
        journal.close()
    journal = More(tmp_path / "journal.sqlite")
    try:
        logs = open_logs(journal, store, "plant", actor="system:auditspan", first_entries=first)
        assert "spans-0" in ids(logs)
        assert classes(journal) == [*wanted, "audit.checkpoint", "audit.log.opened"]
    finally:
        journal.close()


def test_a_stranger_in_the_control_partition_opens_nothing(journal: SqliteJournal, store: ClickHouseStore) -> None:
    stranger = ControlLog(journal)._entry(*opening(journal, "control", "f" * 32))[1]
    written = NewEntry(
        EntryKind.CONTROL, "kafka:x/auditspan.events.control", "none", stranger.arrival_time, "jcs", stranger.body
    )
    journal.append([("control", written)]).result()
    with pytest.raises(AuditSpanError, match="The control log opened"):
        opened(journal, store)


def test_a_topic_that_grew_is_refused(tmp_path: Path, store: ClickHouseStore) -> None:
    with running(tmp_path) as deployment:
        until(lambda: deployment.pipeline.status()[-1].leaves > 3)

    class Grown(SqliteJournal):
        own_partitions = partitions = ("events-0", "events-1")

    journal = Grown(tmp_path / "journal.sqlite")
    try:
        with pytest.raises(AuditSpanError, match="the number of partitions of its generation"):
            opened(journal, store)
    finally:
        journal.close()


def test_a_topic_of_others_may_come_later(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        until(lambda: deployment.pipeline.status()[-1].leaves > 3)

    class More(SqliteJournal):
        partitions = ("events-0", "spans-0")
        own_partitions = ("events-0",)

    store = ClickHouseStore.embedded(tmp_path / "store")
    journal = More(tmp_path / "journal.sqlite")
    try:
        assert find_logs(journal, store, "plant") is None
        logs = ids(opened(journal, store))
        assert sorted(logs) == ["control", "events-0", "spans-0"]
        assert ids(opened(journal, store)) == logs
        assert ids(find_logs(journal, store, "plant")) == logs
    finally:
        journal.close()
        store.close()


class Generations(SqliteJournal):
    """A file that has the partitions of these generations to show, as Kafka has topics."""

    def __init__(self, path: Path, generations: dict[int, tuple[str, ...]]) -> None:
        super().__init__(path)
        self._said = generations

    @property
    def generations(self) -> dict[int, tuple[str, ...]]:
        return self._said

    @property
    def own_partitions(self) -> tuple[str, ...]:
        return list(self._said.values())[-1]

    @property
    def partitions(self) -> tuple[str, ...]:
        return tuple(name for names in self._said.values() for name in names)


def close_log(journal: SqliteJournal, store: ClickHouseStore, opening: Opening, metrics: LogMetrics) -> None:
    processor = LogProcessor(journal, store, replace(CONTEXT, opening=opening), metrics, minimum_interval=0)
    while processor.run_once(0):
        pass
    processor.close(Successor(2, 2))


LATER = ("events.2-0", "events.2-1")


def test_the_next_generation_is_opened_when_every_log_before_it_is_closed(tmp_path: Path, metrics: LogMetrics) -> None:
    with running(tmp_path) as deployment:
        until(lambda: deployment.pipeline.status()[-1].leaves > 3)
    store = ClickHouseStore.embedded(tmp_path / "store")
    journal = Generations(tmp_path / "journal.sqlite", {1: ("events-0",), 2: LATER})
    try:
        logs = opened(journal, store)
        assert sorted(ids(logs)) == ["control", "events-0"]
        assert not open_next_generation(journal, store, logs, actor="system:test")
        close_log(journal, store, logs.of("events-0"), metrics)
        assert open_next_generation(journal, store, logs, actor="system:test")
        grown = find_logs(journal, store, "plant")
        assert grown is not None
        assert sorted(ids(grown)) == ["control", "events-0", *LATER]
        assert [grown.of(partition).generation for partition in LATER] == [2, 2]
        assert not open_next_generation(journal, store, grown, actor="system:test"), "nothing is missing"
        assert ids(opened(journal, store)) == ids(grown)
        journal._said = {2: LATER}
        forgotten = find_logs(journal, store, "plant")
        assert forgotten is not None
        assert ids(forgotten) == ids(grown), "a closed log stays a log when its partition is gone"
    finally:
        journal.close()
        store.close()


def test_a_partition_that_is_gone_before_its_log_was_closed_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        until(lambda: deployment.pipeline.status()[-1].leaves > 3)
    store = ClickHouseStore.embedded(tmp_path / "store")
    journal = Generations(tmp_path / "journal.sqlite", {2: LATER})
    try:
        with pytest.raises(AuditSpanError, match=r"events-0 is gone, and its log .* was not closed"):
            open_next_generation(journal, store, opened(journal, store), actor="system:test")
    finally:
        journal.close()
        store.close()


def test_as_many_logs_as_may_be_opened_fit_one_round_of_checkpoints(tmp_path: Path, store: ClickHouseStore) -> None:
    most = Generations(tmp_path / "journal.sqlite", {1: tuple(f"events-{k}" for k in range(MOST_PARTITIONS))})
    more = Generations(tmp_path / "more.sqlite", {1: tuple(f"events-{k}" for k in range(MOST_PARTITIONS + 1))})
    try:
        logs = opened(most, store)
        key, name = Ed25519PrivateKey.generate(), "d" * 128
        note = sign_checkpoint(Checkpoint(log_origin(name, logs.control.log_id), 2**53 - 1, b"r" * 32), key)
        entry = {"log_id": "0" * 32, "size": 2**53 - 1, "root": base64.b64encode(b"r" * 32).decode(), "note": note}
        assert len(logs.data) == MOST_PARTITIONS
        round_ = {"checkpoints": [entry] * len(logs.data), "control": entry}
        ControlLog(most).append(EventClass.CHECKPOINT, "system:test", round_)
        with pytest.raises(AuditSpanError, match="would have 97 data logs"):
            opened(more, store)
    finally:
        most.close()
        more.close()
