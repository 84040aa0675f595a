"""`check_ledger` finds whatever was changed in the store, names the leaf, and reads no more than came since."""

from __future__ import annotations

import base64
import json
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from auditspan.processors.ledger_check import CheckReport, check_ledger
from auditspan.processors.ledger_checked import confirmed, read_checked, write_checked
from auditspan.processors.replay.compare import RENDERED, STORED
from auditspan.processors.replay.signatures import Deployment as Known
from replayed_world import World, copied, opened, seal
from sealing_deployment import KEY, running
from sealing_inputs import NOW, SECOND, access, request
from test_pipeline import signed_everything
from test_replay import KEYS, OTHER_VALUES, one_byte
from waiting import until

from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.merkle import CompactRange
from auditspan.store.clickhouse import ClickHouseStore

PUBLIC = [KEY.public_key()]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ledger") / "sealed"
    root.mkdir()
    seal(root)
    return root


@pytest.fixture
def world(sealed: Path, tmp_path: Path) -> Iterator[World]:
    with copied(sealed, tmp_path / "copy") as made:
        yield made


def check(world: World, **options: Any) -> CheckReport:
    known = Known("plant", b"k" * 32, PUBLIC, world.root / "reference", world.root / "signer")
    with closing(world.store.reader()) as rows:
        return check_ledger(world.journal, world.store, rows, known, **options)


def found(report: CheckReport) -> set[tuple[str, str, int | None]]:
    return {(log.partition, fault.code, fault.leaf) for log in report.logs for fault in log.faults}


def test_an_honest_store_is_whole(sealed: Path) -> None:
    with opened(sealed) as world:
        report = check(world)
        assert (report.verdict, report.exit_code, found(report)) == ("WHOLE", 0, set())
        assert [log.partition for log in report.logs] == ["control", "events-0", "events-1"]
        for log in report.logs:
            leaves = len(world.rows(log.partition, "leaf_index"))
            assert (log.checked_from, log.leaves, log.leaves_read, log.unsigned) == (0, leaves, leaves, 0)
            assert log.good.end == leaves and log.checkpoints >= 3
        assert json.loads(json.dumps(report.to_json()))["verdict"] == "WHOLE"


CHECKED = [name for name in STORED if name not in KEYS and name not in RENDERED and name != "header"]


def test_one_altered_byte_of_every_column_is_found_with_its_leaf(world: World) -> None:
    leaves = world.rows("events-0", "leaf_index", "class = 'model.access'")
    altered = {
        leaves[-1 - place]["leaf_index"]: (column, OTHER_VALUES.get(column) or one_byte(column))
        for place, column in enumerate(CHECKED)
    }
    world.alter_many("events-0", altered)
    report = check(world)
    assert report.exit_code == 1
    named = {fault.leaf: fault.column for log in report.logs for fault in log.faults if fault.code != "leaf.extra"}
    assert named.items() >= {leaf: column.removesuffix("_raw") for leaf, (column, _) in altered.items()}.items()


def test_an_altered_header_is_found_by_what_it_commits_to_and_by_the_tree(world: World) -> None:
    leaf = world.leaf("events-0", "class = 'model.access'", 5)
    world.alter("events-0", leaf, "header", "replaceOne(header, 'stream-1', 'stream-9')")
    faults = found(check(world))
    assert ("events-0", "column.differs", leaf) in faults
    assert any(code == "root.differs" and at <= leaf for _, code, at in faults)


def test_a_header_altered_with_all_that_follows_from_it_is_found_by_the_tree(world: World) -> None:
    """How the sender was known: no column says it, and every hash beside it fits."""
    leaf = world.leaf("events-0", "class = 'model.access'", 30)
    world.alter("events-0", leaf, "header", "replaceOne(header, 'bearer', 'cookie')")
    faults = found(check(world))
    assert {(partition, code) for partition, code, _ in faults} == {("events-0", "root.differs")}
    ((_, _, begin),) = faults
    assert begin <= leaf < begin + 256


def test_a_swapped_typed_column_is_found_at_both_leaves(world: World) -> None:
    first, second = (world.leaf("events-0", "class = 'model.access'", place) for place in (3, 4))
    values = {row["leaf_index"]: row["record_id"] for row in world.rows("events-0", "leaf_index, record_id")}
    world.alter_many(
        "events-0",
        {first: ("record_id", f"'{values[second]}'"), second: ("record_id", f"'{values[first]}'")},
    )
    assert found(check(world)) == {("events-0", "column.differs", first), ("events-0", "column.differs", second)}


def test_payload_and_salt_of_two_leaves_swapped(world: World) -> None:
    first, second = (world.leaf("events-0", "class = 'model.access'", place) for place in (3, 4))
    other = {first: second, second: first}
    values = {row["leaf_index"]: row for row in world.rows("events-0", "leaf_index, hex(payload) AS p, hex(salt) AS s")}
    where = f"log_id = '{world.log_id('events-0')}'"
    changes = ", ".join(
        f"{name} = multiIf({', '.join(f'leaf_index = {leaf}, unhex({values[other[leaf]][key]!r})' for leaf in other)}, "
        f"{name})"
        for name, key in (("payload", "p"), ("salt", "s"))
    )
    world.command(f"ALTER TABLE auditspan.events UPDATE {changes} WHERE {where}")
    codes = found(check(world))
    for leaf in other:
        assert {("events-0", "payload.differs", leaf), ("events-0", "salt.differs", leaf)} <= codes


@pytest.mark.parametrize("partition", ["events-0", "control"])
def test_a_deleted_leaf(world: World, partition: str) -> None:
    leaf = 2
    where = f"log_id = '{world.log_id(partition)}' AND leaf_index = {leaf}"
    world.command(f"ALTER TABLE auditspan.events DELETE WHERE {where}")
    assert (partition, "leaf.missing", leaf) in found(check(world))


def copy_row(world: World, leaf: int, index: int, log_id: str = "") -> None:
    """A row as another one, as an administrator inserts it."""
    mine = world.log_id("events-0")
    replaced = f"{index} AS leaf_index" + (f", '{log_id}' AS log_id" if log_id else "")
    world.store._connection.command(
        f"INSERT INTO auditspan.events SELECT * REPLACE ({replaced}) FROM auditspan.events AS e "
        f"WHERE e.log_id = '{mine}' AND e.leaf_index = {leaf}"
    )


def test_an_inserted_leaf_after_the_end(world: World) -> None:
    end = len(world.rows("events-0", "leaf_index"))
    copy_row(world, 3, end)
    assert ("events-0", "leaf.extra", end) in found(check(world))


def test_a_leaf_that_is_there_twice(world: World) -> None:
    copy_row(world, 4, 3)
    assert ("events-0", "leaf.duplicate", 3) in found(check(world))


def test_a_leaf_far_away(world: World) -> None:
    end = len(world.rows("events-0", "leaf_index"))
    copy_row(world, 3, 10**6)
    codes = found(check(world))
    assert ("events-0", "leaf.missing", end) in codes and ("events-0", "leaf.extra", end) in codes


def test_a_leaf_of_any_number_is_found_at_once(world: World) -> None:
    copy_row(world, 3, 2**63)
    assert ("events-0", "leaf.extra", 2**63) in found(check(world))


def test_a_log_that_was_never_opened(world: World) -> None:
    copy_row(world, 0, 0, log_id="f" * 32)
    assert ("control", "leaf.extra", None) in found(check(world))


def test_the_newest_batches_taken_away_with_their_checkpoints(world: World) -> None:
    """As a store of an older backup: only what lies outside of it knows better."""
    log_id = world.log_id("events-1")
    batches = world.rows("events-1", "leaf_index", "class = 'audit.batch'")
    keep = batches[0]["leaf_index"] + 1
    world.command(f"ALTER TABLE auditspan.events DELETE WHERE log_id = '{log_id}' AND leaf_index >= {keep}")
    world.command(f"ALTER TABLE auditspan.checkpoints DELETE WHERE log_id = '{log_id}' AND size > {keep}")
    assert ("events-1", "root.differs", keep) in found(check(world))
    for state in (world.root / "signer").glob("*.json"):
        state.unlink()
    assert ("events-1", "root.differs", keep) in found(check(world)), "the control log and the journal know"


def test_a_note_that_is_none_any_more(world: World) -> None:
    where = f"log_id = '{world.log_id('events-0')}'"
    rows = world.store.query(f"SELECT size, note FROM auditspan.checkpoints WHERE {where} ORDER BY size").to_pylist()
    note = rows[1]["note"]
    forged = note.replace(note.split("\n")[2], base64.b64encode(b"\x07" * 32).decode())
    world.command(f"ALTER TABLE auditspan.checkpoints DELETE WHERE {where} AND size = {rows[1]['size']}")
    world.store._connection.command(
        "INSERT INTO auditspan.checkpoints SELECT {id:String}, {size:UInt64}, 'x', {note:String}, now64(9)",
        {"id": world.log_id("events-0"), "size": rows[1]["size"], "note": forged},
    )
    assert ("events-0", "checkpoint.signature", None) in found(check(world))


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One log of more than two tiles, whose nodes are kept."""
    root = tmp_path_factory.mktemp("larger")
    # Heartbeats as well are of the time of the events.
    with running(root, clock=lambda: NOW) as deployment:
        for k in range(6):
            deployment.append("events-0", [request(*(access(100 * k + i) for i in range(100)))], NOW + k * SECOND)
            until(lambda: signed_everything(deployment))
    return root


def test_an_edited_node(larger: Path, tmp_path: Path) -> None:
    root = shutil.copytree(larger, tmp_path / "copy", symlinks=True)
    with (
        closing(SqliteJournal(root / "journal.sqlite", 1)) as journal,
        closing(ClickHouseStore.embedded(root / "store")) as store,
    ):
        world = World(root, journal, store)
        assert found(check(world)) == set()
        world.command(
            f"ALTER TABLE auditspan.tree_nodes UPDATE hash = unhex('{'07' * 32}') "
            f"WHERE log_id = '{world.log_id('events-0')}' AND level = 8 AND node_index = 0"
        )
        assert found(check(world)) == {("events-0", "node.differs", 0)}
        # Whoever begins after it builds upon it, and the signed root does not fit.
        late = check(world, since=NOW + 4 * SECOND)
        assert {code for _, code, _ in found(late)} == {"root.differs"}


class Counting:
    """A store that counts the leaves that are read of it in rows."""

    def __init__(self, store: ClickHouseStore, counted: list[int]) -> None:
        self._store = store
        self._counted = counted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def reader(self) -> Counting:
        return Counting(self._store.reader(), self._counted)

    def columns(self, *arguments: Any) -> Iterator[Any]:
        for block in self._store.columns(*arguments):
            self._counted.append(len(block))
            yield block

    def query(self, *arguments: Any) -> Any:
        rows = self._store.query(*arguments)
        if "header" in rows.column_names:
            self._counted.append(rows.num_rows)
        return rows


def counted(root: Path, act: Callable[[World], CheckReport]) -> tuple[CheckReport, int]:
    journal, store = SqliteJournal(root / "journal.sqlite", 1), ClickHouseStore.embedded(root / "store")
    read: list[int] = []
    try:
        report = act(World(root, journal, Counting(store, read)))  # type: ignore[arg-type]
        return report, sum(read)
    finally:
        store.close()
        journal.close()


def test_a_daily_run_reads_the_day(larger: Path, tmp_path: Path) -> None:
    root = shutil.copytree(larger, tmp_path / "copy", symlinks=True)
    state = root / "ledger-check.json"

    def run(world: World) -> CheckReport:
        checked = confirmed(world.store, "plant", PUBLIC, read_checked(state))
        report = check(world, checked=checked)
        assert report.exit_code == 0, found(report)
        write_checked(state, report)
        return report

    first, read = counted(root, run)
    assert sum(log.leaves_read for log in first.logs) == sum(log.leaves for log in first.logs) > 600
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    again, least = counted(root, run)
    assert sum(log.leaves_read for log in again.logs) == 0 and least < read / 10
    with running(root) as deployment:
        deployment.append("events-0", [request(*(access(600 + i) for i in range(20)))], NOW + 10 * SECOND)
        until(lambda: signed_everything(deployment))
    third, came = counted(root, run)
    events = next(log for log in third.logs if log.partition == "events-0")
    # Twenty events, a heartbeat and the batches that hold them.
    assert 20 <= events.leaves_read == events.leaves - events.checked_from <= 30
    assert came < 150 < read


def test_since_reads_from_the_batch_of_that_time_on(larger: Path) -> None:
    report, _ = counted(larger, lambda world: check(world, since=NOW + 5 * SECOND))
    events = next(log for log in report.logs if log.partition == "events-0")
    assert report.exit_code == 0
    assert 100 <= events.leaves_read < 210 and events.good.end == events.leaves
    everything, _ = counted(larger, lambda world: check(world, since=0))
    assert sum(log.leaves_read for log in everything.logs) == sum(log.leaves for log in everything.logs)
    nothing, _ = counted(larger, lambda world: check(world, since=2**62))
    assert sum(log.leaves_read for log in nothing.logs) == 0


def test_a_state_that_nobody_signed_is_not_believed(world: World) -> None:
    log_id = world.log_id("events-0")
    tree = CompactRange()
    tree.extend([b"\x07" * 32] * 20)
    assert confirmed(world.store, "plant", PUBLIC, {log_id: tree}) == {}
    good = next(log.good for log in check(world).logs if log.partition == "events-0")
    assert confirmed(world.store, "plant", PUBLIC, {log_id: good}).keys() == {log_id}
    assert confirmed(world.store, "elsewhere", PUBLIC, {log_id: good}) == {}
    world.command(f"ALTER TABLE auditspan.checkpoints DELETE WHERE log_id = '{log_id}' AND size = {good.end}")
    assert confirmed(world.store, "plant", PUBLIC, {log_id: good}) == {}, "then everything is checked"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version":2,"logs":{}}', '{"version":1,"logs":{"a":{"size":5,"roots":["AA=="]}}}']
)
def test_a_state_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "state").write_text(text)
    assert read_checked(tmp_path / "state") == {}
    assert read_checked(tmp_path / "none") == {}
