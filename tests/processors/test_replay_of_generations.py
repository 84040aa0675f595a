"""A replay knows where a log ended and what went on, and holds a later generation against the earlier ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from auditspan.processors.control import opened_logs
from grown_journal import GrownJournal
from reference.derive import Derived, Entry, Log, derive
from reference.journal import batches_of, earlier_of
from reference.tree import Tree
from replayed_world import World, faults, loaded_once, of, places
from sealing_deployment import running
from sealing_inputs import NOW, SECOND, access, request
from test_replay import one_byte
from waiting import until

from auditspan.journal.contract import EntryKind, NewEntry
from auditspan.store.clickhouse import ClickHouseStore

COUNTS = (2, 3)
OLD = ("events-0", "events-1")
NEW = ("events.2-0", "events.2-1", "events.2-2")


@contextmanager
def sealing(root: Path, *shown: int) -> Iterator[Any]:
    journal = GrownJournal(root / "journal.sqlite", COUNTS, shown)
    with running(root, journal=journal, clock=lambda: NOW) as deployment:
        yield deployment
        until(lambda: is_sealed(deployment))


def is_sealed(deployment: Any) -> bool:
    found = deployment.pipeline.status()
    partitions = {one.partition for one in found}
    return partitions > set(deployment.journal.partitions) and all(one.lag_entries == 0 for one in found)


def foreign(count: int) -> bytes:
    return request(*(access(None, _trace_id=bytes([i + 1]) * 16) for i in range(count)), stream=None)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two logs, and three that follow them: what the old ones sealed comes again, and what they missed comes late."""
    root = tmp_path_factory.mktemp("generations") / "sealed"
    root.mkdir()
    with sealing(root, 1) as deployment:
        deployment.append("events-0", [request(*(access(i) for i in range(40)))], NOW)
        deployment.append("events-1", [foreign(5)], NOW + SECOND)
        deployment.append("events-0", [request(access(50))], NOW + 5 * SECOND)
    with sealing(root, 1, 2) as deployment:
        again = request(access(3), access(7, **{"audit.action": "other"}), access(45), access(60))
        deployment.append("events.2-1", [again], NOW + 6 * SECOND)
        deployment.append("events.2-0", [foreign(6), foreign(6)], NOW + 2 * SECOND)
        until(lambda: is_sealed(deployment))
        deployment.append("events.2-1", [request(access(46), access(61))], NOW + 70 * SECOND)
    return root


@pytest.fixture(scope="module", autouse=True)
def _references_are_loaded_once() -> Iterator[None]:
    with loaded_once():
        yield


@contextmanager
def opened(root: Path, *shown: int) -> Iterator[World]:
    journal = GrownJournal(root / "journal.sqlite", COUNTS, shown or (1, 2))
    world = World(root, journal, ClickHouseStore.embedded(root / "store"))
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def copy(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "copy", symlinks=True))


@pytest.fixture
def world(copy: Path) -> Iterator[World]:
    with opened(copy) as made:
        yield made


def leaves_of(world: World, partition: str) -> list[bytes]:
    return [row["header"] for row in world.rows(partition, "header")]


def test_all_generations_replay_with_identical_roots(sealed: Path) -> None:
    with opened(sealed) as world:
        report = world.replay()
        assert (report.verdict, faults(report), report.notes) == ("IDENTICAL", [], [])
        assert [log.partition for log in report.logs] == ["control", *OLD, *NEW]
        for log in report.logs:
            leaves = leaves_of(world, log.partition)
            assert log.root == Tree(leaves).root(len(leaves)).hex()
            assert (log.leaves, log.signed_to, log.replayed_from) == (len(leaves), len(leaves), 0)
            assert log.batches == len(batches_of(leaves))
            assert log.entries == world.journal.high_water_mark(log.partition)
            assert not log.notes
        for partition in OLD:
            assert batches_of(leaves_of(world, partition))[-1].successor == 3
        late = [json.loads(leaf) for leaf in leaves_of(world, "events.2-1")]
        assert {"audit.conflict", "audit.gap.closed"} <= {leaf["class"] for leaf in late}
        assert sum(leaf["body"]["duplicates"] for leaf in late if leaf["class"] == "audit.batch") == 1


def test_the_slow_deriver_gives_the_same_leaves(sealed: Path) -> None:
    with opened(sealed) as world:
        logs = {
            one.partition: Log(one.deployment, one.journal, one.log_id, one.partition, one.generation, one.opened_at)
            for one in opened_logs(world.journal, world.store)
        }
        derived: dict[str, Derived] = {}
        for partition in (*OLD, *NEW):
            rows = world.rows(partition, "header, facts")
            leaves = [row["header"] for row in rows]
            facts = {tuple(json.loads(row["header"])["position"]): row["facts"] for row in rows if row["facts"]}
            read = world.journal.read(partition, 0, max_entries=1000, max_bytes=1 << 30)
            entries = [
                Entry(
                    one.offset,
                    str(one.kind),
                    one.emitter,
                    one.authentication,
                    one.arrival_time,
                    one.encoding,
                    one.body,
                )
                for one in read
            ]
            before = [derived[one.partition] for one in earlier_of(logs, logs[partition])]
            derived[partition] = derive(logs[partition], entries, batches_of(leaves), b"k" * 32, facts, before)
            assert list(map(json.loads, leaves)) == list(map(json.loads, derived[partition].leaves))
            assert leaves == derived[partition].leaves


def test_one_log_of_a_later_generation_alone(sealed: Path) -> None:
    with opened(sealed) as world:
        report = world.replay("events.2-1")
        assert (report.verdict, len(report.logs)) == ("IDENTICAL", 1)
        assert any("Logs of earlier generations were not replayed" in note for note in report.notes)
        assert not any("earlier generations" in note for note in world.replay("events-1").notes)


def test_one_altered_bit_anywhere_in_a_closing_is_found_with_its_leaf(world: World) -> None:
    """Its batch consumes nothing, so all that says where the log ended are these two leaves, and each vouches."""
    end = len(leaves_of(world, "events-0"))
    for leaf, keys in ((end - 2, ("generation", "partitions", "class", "arrival_time")), (end - 1, ("from", "to"))):
        header = leaves_of(world, "events-0")[leaf]
        for key in keys:
            at = header.index(f'"{key}":'.encode()) + len(key) + 4
            world.alter("events-0", leaf, "header", one_byte("header", at))
            report = world.replay("events-0")
            assert places(report) == {("events-0", leaf)}, (key, faults(report))
            world.alter("events-0", leaf, "header", one_byte("header", at))
    assert world.replay("events-0").exit_code == 0


@pytest.mark.parametrize("back", [1, 2])
def test_a_closing_of_which_a_leaf_is_missing(world: World, back: int) -> None:
    leaf = len(leaves_of(world, "events-0")) - back
    world.command(
        f"ALTER TABLE auditspan.events DELETE WHERE log_id = '{world.log_id('events-0')}' AND leaf_index = {leaf}"
    )
    report = world.replay()
    assert ("events-0", leaf) in places(report)
    assert {partition for partition, _ in places(report)} == {"events-0"}


def test_a_successor_that_is_not_the_journals(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    generations = {1: OLD, 2: NEW[:2]}
    monkeypatch.setattr(GrownJournal, "generations", property(lambda self: generations))
    report = world.replay("events-0")
    (fault,) = faults(report)
    assert (fault.code, fault.leaf) == ("leaf.differs", len(leaves_of(world, "events-0")) - 2)
    assert '"partitions": 2' in fault.expected and '"partitions": 3' in fault.actual


def test_a_closed_log_of_a_journal_that_has_no_later_generation(copy: Path) -> None:
    with opened(copy, 1) as world:
        report = world.replay("events-1")
        (fault,) = faults(report)
        assert (fault.code, fault.leaf) == ("leaf.differs", len(leaves_of(world, "events-1")) - 2)
        assert "no later generation" in fault.expected


def test_nothing_follows_a_closing(world: World) -> None:
    """Not even a second closing, which would consume nothing either."""
    end = len(leaves_of(world, "events-1"))
    world.store._connection.command(
        "INSERT INTO auditspan.events SELECT * REPLACE (leaf_index + 2 AS leaf_index) FROM (SELECT * FROM "
        f"auditspan.events WHERE log_id = '{world.log_id('events-1')}' AND leaf_index >= {end - 2}) "
        "SETTINGS insert_deduplicate = 0"
    )
    report = world.replay("events-1")
    (fault,) = faults(report)
    assert (fault.code, fault.leaf) == ("leaf.extra", end)


def test_entries_behind_the_end_are_told_and_are_no_fault(world: World) -> None:
    late = NewEntry(EntryKind.OTLP, "gateway", "bearer", NOW, "otlp_proto", request(access(99)))
    world.journal.append([("events-1", late)] * 2).result()
    report = world.replay("events-1")
    assert report.verdict == "IDENTICAL"
    assert of(report, "events-1").notes[0].startswith("2 journal entries came after the end")


def test_a_partition_that_is_gone_is_checked_by_headers(copy: Path) -> None:
    with opened(copy, 2) as world:
        report = world.replay()
        assert (report.verdict, report.exit_code) == ("INCOMPLETE", 2)
        for partition in OLD:
            log = of(report, partition)
            assert log.not_derived == [
                f"The journal no longer has the partition {partition}: no leaf can be derived again, the {log.leaves} "
                "that are sealed were checked by their headers and the signed trees."
            ]
            assert log.replayed_from == log.leaves == log.signed_to
            assert log.root == Tree(leaves_of(world, partition)).root(log.leaves).hex()
        assert {of(report, name).state for name in ("control", *NEW)} == {"identical"}
        leaf = world.leaf("events-0", "class = 'model.access'", 20)
        world.alter("events-0", leaf, "payload", one_byte("payload"))
        assert places(world.replay("events-0")) == {("events-0", leaf)}


def test_a_partition_that_is_gone_before_its_log_was_closed(copy: Path) -> None:
    with opened(copy, 2) as world:
        end = len(leaves_of(world, "events-0"))
        world.command(
            f"ALTER TABLE auditspan.events DELETE WHERE log_id = '{world.log_id('events-0')}' "
            f"AND leaf_index >= {end - 2}"
        )
        assert "and the log was not closed before" in of(world.replay("events-0"), "events-0").not_derived[0]


def batches(world: World, partition: str) -> Sequence[dict[str, Any]]:
    leaves = map(json.loads, leaves_of(world, partition))
    return [leaf["body"] for leaf in leaves if leaf["class"] == "audit.batch"]


def test_what_is_left_of_a_trimmed_log_is_derived_again(world: World) -> None:
    """The end of a log needs no entry; the logs after it are restored from all that was before them."""
    closing, later = batches(world, "events-0")[-1], batches(world, "events.2-1")
    assert closing["gaps"] == 1
    world.journal.trim("events-0", world.journal.high_water_mark("events-0"))
    world.journal.trim("events.2-1", later[-2]["to"])
    report = world.replay()
    assert (report.verdict, faults(report)) == ("INCOMPLETE", [])
    assert of(report, "events-0").replayed_from == closing["first_leaf"]
    assert of(report, "events.2-1").replayed_from == later[-1]["first_leaf"] > 0
    assert of(report, "events.2-0").state == "identical"
