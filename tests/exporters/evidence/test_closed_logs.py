"""Evidence over a change of generation: the end of a log is its end, and the next logs are in the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from auditspan.exporters.evidence.report import Report
from auditspan.exporters.evidence.verify import verify_package
from exported import export
from sealed_world import SECOND, T0, Log, World
from tampering import rows_of, statement_of

from auditspan.store.clickhouse import ClickHouseStore

SUCCESSOR = {"successor": {"generation": 2, "partitions": 1}}
EVER = {"time_from": 0, "time_to": T0 + 10_000 * SECOND}


def verified(store: ClickHouseStore, world: World, folder: Path, **options: Any) -> Report:
    world.store_into(store)
    export(store, world, folder, **options)
    return verify_package(folder, world.trust)


@pytest.fixture
def grown(request: pytest.FixtureRequest) -> World:
    """A minute of two logs and one that others feed, and one of the eleven logs that follow the two."""
    world = World(request.node.name)
    first, second = world.logs
    first.event(T0 + SECOND, sequence=0)
    first.event(T0 + 2 * SECOND, sequence=4)
    second.event(T0 + 3 * SECOND, sequence=0, stream="stream-2")
    world.batch(T0 + 10 * SECOND)
    first.log_leaf("audit.gap", {"emitter": "gateway", "stream": "stream-1", "from": 1, "to": 4, "seen_at": str(T0)})
    world.close(11)
    world.batch(T0 + 11 * SECOND)
    foreign = Log("f" * 32, "otlp_spans-0", epoch=world.control.epoch)
    foreign.log_leaf("audit.log.opened", world.opened_body(foreign))
    world.control.control("audit.log.opened", world.opened_body(foreign), T0 + 12 * SECOND)
    logs = world.open(11)
    world.logs.append(foreign)
    foreign.event(T0 + 70 * SECOND)
    logs[2].event(T0 + 70 * SECOND, sequence=2)
    logs[2].log_leaf("audit.gap.closed", {"emitter": "gateway", "stream": "stream-1", "from": 2, "to": 3})
    logs[10].event(T0 + 71 * SECOND)
    world.batch(T0 + 80 * SECOND)
    return world


def test_a_package_over_two_generations_is_valid(store: ClickHouseStore, tmp_path: Path, grown: World) -> None:
    report = verified(store, grown, tmp_path / "package", **EVER)
    assert report.verdict == "VALID", report.faults[:5]
    new = [f"events.2-{number}" for number in range(11)]
    exported = [log["partition"] for log in statement_of(tmp_path / "package")["predicate"]["logs"]]
    assert exported == ["events-0", "events-1", "otlp_spans-0", *new]
    assert report.counts["proven"] == report.counts["leaves"] == sum(len(log.rows) for log in grown.logs)
    assert [(gap["from"], gap["to"], gap["came_late"]) for gap in report.gaps] == [("1", "4", 1)]
    said = {note.split(" ")[0]: note for note in report.notes}
    assert "the log is closed" in said["events-0"] and "the log is closed" in said["events-1"]
    assert all("nothing ends the interval yet" in said[partition] for partition in (*new, "otlp_spans-0"))


def test_of_a_log_that_was_closed_before_the_interval_its_end_is_there(
    store: ClickHouseStore, tmp_path: Path, grown: World
) -> None:
    report = verified(store, grown, tmp_path / "package", time_from=T0 + 60 * SECOND, time_to=T0 + 10_000 * SECOND)
    assert report.verdict == "VALID", report.faults[:5]
    for log in grown.logs[:2]:
        (row,) = rows_of(tmp_path / "package" / "events" / f"{log.log_id}-00000.parquet")
        assert (row["class"], row["leaf_index"]) == ("audit.batch", len(log.rows) - 1)
        assert any(note.startswith(f"{log.partition} ({log.log_id}): the log is closed") for note in report.notes)


def close(log: Log, epochs: dict[int, str]) -> None:
    log.log_leaf("audit.log.closed", SUCCESSOR)
    log.batch(epochs)


def an_event_follows(log: Log, epochs: dict[int, str]) -> int:
    close(log, epochs)
    return log.event(T0 + 20 * SECOND, sequence=1)


def a_second_closing_follows(log: Log, epochs: dict[int, str]) -> int:
    close(log, epochs)
    return log.log_leaf("audit.log.closed", SUCCESSOR)


def a_batch_follows(log: Log, epochs: dict[int, str]) -> int:
    close(log, epochs)
    return log.batch(epochs)


def a_gap_stands_between(log: Log, epochs: dict[int, str]) -> int:
    leaf = log.log_leaf("audit.log.closed", SUCCESSOR)
    log.log_leaf("audit.gap", {"emitter": "gateway", "stream": "stream-1", "from": 1, "to": 4, "seen_at": str(T0)})
    log.batch(epochs)
    return leaf


def it_is_said_twice(log: Log, epochs: dict[int, str]) -> int:
    leaf = log.log_leaf("audit.log.closed", SUCCESSOR)
    log.log_leaf("audit.log.closed", SUCCESSOR)
    return leaf


def its_batch_consumes_an_entry(log: Log, epochs: dict[int, str]) -> int:
    log.event(T0 + 20 * SECOND, sequence=1)
    return log.log_leaf("audit.log.closed", SUCCESSOR)


def nothing_says_that_it_is_closed(log: Log, epochs: dict[int, str]) -> int:
    return log.batch(epochs)


DISHONEST = [
    an_event_follows,
    a_second_closing_follows,
    a_batch_follows,
    a_gap_stands_between,
    it_is_said_twice,
    its_batch_consumes_an_entry,
    nothing_says_that_it_is_closed,
]


def dishonest(name: str, end: Callable[[Log, dict[int, str]], int]) -> tuple[World, int]:
    """All of it signed, as whoever has the key can do."""
    world = World(name, logs=1)
    world.logs[0].event(T0 + SECOND, sequence=0)
    world.batch(T0 + 2 * SECOND)
    leaf = end(world.logs[0], world.epochs)
    world.batch(T0 + 30 * SECOND)
    return world, leaf


@pytest.mark.parametrize("end", DISHONEST, ids=lambda end: end.__name__)
def test_an_end_that_is_none_is_a_fault(
    store: ClickHouseStore, tmp_path: Path, end: Callable[[Log, dict[int, str]], int]
) -> None:
    world, leaf = dishonest(end.__name__, end)
    report = verified(store, world, tmp_path / "package", **EVER)
    assert set(report.fault_counts) == {"log.closed"}, report.faults
    assert report.faults[0].leaf == (world.logs[0].log_id, leaf)


def test_the_signed_tree_ends_where_the_log_does(store: ClickHouseStore, tmp_path: Path) -> None:
    """What follows lies outside of the interval, or its closing just at the beginning of it."""
    world, _ = dishonest("hidden", an_event_follows)
    before = verified(store, world, tmp_path / "before", time_from=0, time_to=T0 + SECOND)
    assert before.verdict == "VALID", "the interval ends before the closing"
    world = World("within", logs=1)
    log = world.logs[0]
    close(log, world.epochs)
    closing = len(log.rows) - 1
    log.event(T0 + 20 * SECOND, sequence=1)
    world.batch(T0 + 30 * SECOND)
    for name, begin, end in (("end", 0, T0), ("begin", T0 + 2 * SECOND, T0 + 10_000 * SECOND)):
        report = verified(store, world, tmp_path / name, time_from=begin, time_to=end)
        assert set(report.fault_counts) == {"log.closed"}, (name, report.faults)
        assert report.faults[0].leaf == (log.log_id, closing + 1)


def test_a_control_log_does_not_end(store: ClickHouseStore, tmp_path: Path) -> None:
    world = World("control", logs=1)
    world.logs[0].event(T0 + SECOND, sequence=0)
    world.control.control("audit.log.closed", SUCCESSOR, T0)
    world.batch(T0 + 2 * SECOND)
    report = verified(store, world, tmp_path / "package", **EVER)
    assert set(report.fault_counts) == {"log.closed"}
    assert report.faults[0].leaf is not None and report.faults[0].leaf[0] == world.control.log_id
