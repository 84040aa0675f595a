"""A replay gives the leaves and roots that were sealed, and finds whatever was altered, with its leaf."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from auditspan.processors.replay.compare import STORED
from reference.journal import batches_of
from reference.tree import Tree
from replayed_world import World, copied, faults, loaded_once, of, opened, places, seal
from sealing_deployment import running
from sealing_inputs import NOW, SECOND, access, request

from auditspan.errors import AuditSpanError
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.keys import SALT_KEY_LENGTH

KEYS = ("log_id", "leaf_index", "sealing_month")
"""Columns that the table is ordered or cut by: no UPDATE can alter them, only another row in place of the old one."""

OTHER_VALUES = {
    "sequence": "ifNull(sequence, 0) + 1",
    "event_time": "ifNull(event_time, toDateTime64(1, 9, 'UTC')) + INTERVAL 1 NANOSECOND",
    "arrival_time": "arrival_time - INTERVAL 1 NANOSECOND",
    "flagged": "NOT flagged",
    "rule_ids": "arrayPushBack(rule_ids, 'x')",
    "missing_facts": "arrayPushBack(missing_facts, 'x')",
    "faults": "arrayPushBack(faults, 'x')",
    "reference_epoch": "reference_epoch + 1",
}
"""How the columns that are no text are altered; texts and bytes have one byte replaced or, where empty, added."""


def one_byte(column: str, at: int = 3) -> str:
    """The expression that is ``column`` with one bit of one byte flipped, or with one byte where it had none."""
    where = f"least({at}, length({column}) - 1)"
    byte = f"char(bitXor(reinterpretAsUInt8(substring({column}, {where} + 1, 1)), 1))"
    flipped = f"concat(substring({column}, 1, {where}), {byte}, substring({column}, {where} + 2))"
    return f"if(empty({column}), 'x', {flipped})"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("replay") / "sealed"
    root.mkdir()
    seal(root)
    return root


@pytest.fixture(scope="module", autouse=True)
def _references_are_loaded_once() -> Iterator[None]:
    with loaded_once():
        yield


@pytest.fixture
def world(sealed: Path, tmp_path: Path) -> Iterator[World]:
    """A copy of what was sealed, of the test's own."""
    with copied(sealed, tmp_path / "copy") as made:
        yield made


def test_an_honest_deployment_replays_with_identical_roots(sealed: Path) -> None:
    with opened(sealed) as world:
        report = world.replay()
        assert (report.verdict, report.exit_code, faults(report)) == ("IDENTICAL", 0, [])
        assert [log.partition for log in report.logs] == ["control", "events-0", "events-1"]
        for log in report.logs:
            leaves = [row["header"] for row in world.rows(log.partition, "header")]
            assert log.root == Tree(leaves).root(len(leaves)).hex()
            assert (log.leaves, log.signed_to, log.replayed_from) == (len(leaves), len(leaves), 0)
            assert log.batches == len(batches_of(leaves))
            assert log.entries == world.journal.high_water_mark(log.partition)
            assert log.checkpoints >= 3
            assert not log.notes
        classes = {row["class"] for row in world.rows("events-0", "class")}
        assert {"audit.conflict", "audit.gap", "audit.gap.closed", "audit.heartbeat"} <= classes
        epochs = {json.loads(row["header"])["reference_epoch"] for row in world.rows("events-0", "header")}
        assert epochs == {1, 2}


def test_one_log_alone(sealed: Path) -> None:
    with opened(sealed) as world:
        by_partition = world.replay("events-1")
        by_id = world.replay(world.log_id("events-1"))
        assert by_partition.logs == by_id.logs
        assert [log.partition for log in by_id.logs] == ["events-1"]
        assert "control log was not replayed" in by_id.notes[0]
        with pytest.raises(AuditSpanError, match=r"no log 'events-9'.*"):
            world.replay("events-9")


COLUMNS = [name for name in STORED if name not in KEYS]


@pytest.mark.parametrize("column", ["payload", "salt", "facts", "class", "sequence", "why"])
def test_one_altered_byte_alone_is_found_with_its_leaf(world: World, column: str) -> None:
    leaf = world.leaf("events-0", "class = 'model.access'", 17)
    world.alter("events-0", leaf, column, OTHER_VALUES.get(column) or one_byte(column))
    report = world.replay()
    assert report.exit_code == 1
    assert places(report) == {("events-0", leaf)}
    assert {fault.column for fault in faults(report)} == {column.removesuffix("_raw")}
    assert {fault.log_id for fault in faults(report)} == {world.log_id("events-0")}


def test_one_altered_byte_of_every_column_is_found_with_its_leaf(world: World) -> None:
    """Each column in a leaf of its own, of events and of leaves that the log originated."""
    altered = {}
    leaves = world.rows("events-0", "leaf_index, class", "class IN ('model.access', 'audit.batch', 'audit.gap')")
    spare = [column for column in COLUMNS if column not in ("class", "payload")]
    for place, column in enumerate([*COLUMNS, *spare][: len(leaves)]):
        leaf = leaves[-1 - place]["leaf_index"]
        if column == "header" and leaves[-1 - place]["class"] == "audit.batch":
            continue
        altered[leaf] = (column, OTHER_VALUES.get(column) or one_byte(column))
    world.alter_many("events-0", altered)
    expected = {leaf: column.removesuffix("_raw") for leaf, (column, _) in altered.items()}
    assert set(expected.values()) == {column.removesuffix("_raw") for column in COLUMNS}
    report = world.replay("events-0")
    assert {fault.leaf: fault.column for fault in faults(report)} == expected


def test_one_altered_bit_anywhere_in_headers_is_found_with_its_leaf(world: World) -> None:
    leaves = world.rows("events-1", "leaf_index", "class = 'model.access'")[:20]
    altered = {row["leaf_index"]: ("header", one_byte("header", 43 * place)) for place, row in enumerate(leaves)}
    world.alter_many("events-1", altered)
    report = world.replay("events-1")
    assert places(report) == {("events-1", row["leaf_index"]) for row in leaves}
    assert {(fault.code, fault.column) for fault in faults(report)} == {("leaf.differs", "header")}


def test_one_altered_bit_anywhere_in_a_batch_leaf_is_found_with_its_leaf(world: World) -> None:
    """What a batch leaf says is the input of the replay, so its alteration must not become the truth."""
    leaf = world.leaf("events-0", "class = 'audit.batch'", 2)
    header = world.rows("events-0", "header", f"leaf_index = {leaf}")[0]["header"]
    keys = ("from", "to", "first_leaf", "number", "digest", "software")
    for at in [0, *(header.index(f'"{key}":'.encode()) + len(key) + 4 for key in keys)]:
        world.alter("events-0", leaf, "header", one_byte("header", at))
        report = world.replay("events-0")
        assert places(report) == {("events-0", leaf)}, (at, header[at : at + 10], faults(report))
        world.alter("events-0", leaf, "header", one_byte("header", at))
    assert world.replay("events-0").exit_code == 0


@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_batch_leaf_whose_class_was_altered_does_not_hide(world: World, place: int) -> None:
    leaves = world.rows("events-0", "leaf_index", "class = 'audit.batch'")
    leaf = leaves[place]["leaf_index"]
    world.alter("events-0", leaf, "class", "'audit.gap'")
    report = world.replay()
    assert places(report) == {("events-0", leaf)}
    assert {fault.column for fault in faults(report)} == {"class"}


@pytest.mark.parametrize("what", ["first", "inside", "batch", "last"])
def test_a_removed_leaf_is_missed(world: World, what: str) -> None:
    last = world.rows("events-0", "max(leaf_index) AS m", "1 GROUP BY log_id, leaf_index")
    leaf = {
        "first": 0,
        "inside": world.leaf("events-0", "class = 'model.access'", 5),
        "batch": world.leaf("events-0", "class = 'audit.batch'", 1),
        "last": max(row["m"] for row in last),
    }[what]
    world.command(
        f"ALTER TABLE auditspan.events DELETE WHERE log_id = '{world.log_id('events-0')}' AND leaf_index = {leaf}"
    )
    report = world.replay()
    assert ("events-0", leaf) in places(report)
    assert {place for place, _ in places(report)} == {"events-0"}
    assert report.exit_code == 1


def insert_changed(world: World, leaf: int, changes: str) -> None:
    """Insert a copy of a stored leaf with other values, given as ``REPLACE`` of a SELECT."""
    world.store._connection.command(
        f"INSERT INTO auditspan.events SELECT * REPLACE ({changes}) FROM (SELECT * FROM auditspan.events "
        f"WHERE log_id = '{world.log_id('events-0')}' AND leaf_index = {leaf}) SETTINGS insert_deduplicate = 0"
    )


def test_a_leaf_that_is_there_twice(world: World) -> None:
    leaf = world.leaf("events-0", "class = 'model.access'", 9)
    insert_changed(world, leaf, "record_id AS record_id")
    report = world.replay()
    assert [(fault.code, fault.leaf) for fault in faults(report)] == [("leaf.duplicate", leaf)]


@pytest.mark.parametrize(
    ("change", "column"),
    [("sealing_month + 1 AS sealing_month", "sealing_month"), ("leaf_index + 1000 AS leaf_index", None)],
)
def test_another_row_in_place_of_a_leaf(world: World, change: str, column: str | None) -> None:
    leaf = world.leaf("events-0", "class = 'model.access'", 9)
    insert_changed(world, leaf, change)
    month = min(row["sealing_month"] for row in world.rows("events-0", "sealing_month"))
    world.command(
        f"ALTER TABLE auditspan.events DELETE WHERE log_id = '{world.log_id('events-0')}' AND leaf_index = {leaf} "
        f"AND sealing_month = {month}"
    )
    report = world.replay()
    assert ("events-0", leaf) in places(report)
    assert column in {fault.column for fault in faults(report)}


def test_an_altered_journal_is_told_from_an_altered_store(sealed: Path, tmp_path: Path) -> None:
    with copied(sealed, tmp_path / "copy") as world:
        leaf = world.leaf("events-0", "sequence = 60", 0)
        offset = json.loads(world.rows("events-0", "header", f"leaf_index = {leaf}")[0]["header"])["position"][0]
    with sqlite3.connect(tmp_path / "copy" / "journal.sqlite") as journal:
        number = journal.execute("SELECT id FROM partitions WHERE name = 'events-0'").fetchone()[0]
        position = (number << 48) + offset
        (body,) = journal.execute("SELECT body FROM entries WHERE position = ?", (position,)).fetchone()
        changed = body.replace(b"record-60", b"record-69")
        assert changed != body
        journal.execute("UPDATE entries SET body = ? WHERE position = ?", (changed, position))
    journal.close()
    with opened(tmp_path / "copy") as world:
        report = world.replay()
        assert ("events-0", leaf) in places(report)
        assert any("the journal" in note and "altered" in note for note in of(report, "events-0").notes)


def test_another_salt_key_gives_other_leaves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import replayed_world

    made = replayed_world.Known
    monkeypatch.setattr(replayed_world, "Known", lambda name, _key, *rest: made(name, bytes(SALT_KEY_LENGTH), *rest))
    report = world.replay("events-1")
    assert {fault.code for fault in faults(report)} == {"leaf.differs", "salt.differs"}
    assert any("salt key" in note for note in of(report, "events-1").notes)


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("note", one_byte("note", 300), "checkpoint.signature"),
        ("note", one_byte("note", 60), "checkpoint.signature"),
        ("root", one_byte("root", 5), "checkpoint.differs"),
    ],
)
def test_an_altered_checkpoint(world: World, column: str, value: str, code: str) -> None:
    log_id = world.log_id("events-0")
    # A key column of the table cannot be updated.
    rows = world.store.query(
        "SELECT max(size) AS size FROM auditspan.checkpoints WHERE log_id = {id:String}", {"id": log_id}
    ).to_pylist()
    size = rows[0]["size"]
    world.store._connection.command(
        f"INSERT INTO auditspan.checkpoints SELECT * REPLACE ({value} AS {column}) FROM auditspan.checkpoints "
        f"WHERE log_id = '{log_id}' AND size = {size}"
    )
    report = world.replay()
    assert report.exit_code == 1
    assert {fault.code for fault in faults(report)} <= {code, "checkpoint.malformed"}
    assert {fault.log_id for fault in faults(report)} == {log_id}


def test_leaves_of_a_log_that_was_never_opened(world: World) -> None:
    insert_changed(world, 0, f"'{'ab' * 16}' AS log_id")
    report = world.replay()
    assert [(fault.code, fault.leaf, fault.actual) for fault in faults(report)] == [
        ("leaf.extra", None, f"a log {'ab' * 16}")
    ]


def test_a_store_that_lost_its_end_is_not_taken_for_a_shorter_log(world: World) -> None:
    cut = world.leaf("events-1", "class = 'audit.batch'", -2)
    world.command(
        f"ALTER TABLE auditspan.events DELETE WHERE log_id = '{world.log_id('events-1')}' AND leaf_index > {cut}"
    )
    report = world.replay()
    assert {fault.code for fault in faults(report)} == {"root.differs"}
    assert places(report) == {("events-1", cut + 1)}


def test_a_trimmed_journal_says_from_where_on_and_checks_the_rest_by_its_headers(world: World) -> None:
    bodies = [json.loads(row["header"])["body"] for row in world.rows("events-0", "header", "class = 'audit.batch'")]
    # In the middle of a batch: it begins with the next one.
    world.journal.trim("events-0", bodies[2]["from"] + 1)
    report = world.replay()
    log = of(report, "events-0")
    assert (report.verdict, report.exit_code) == ("INCOMPLETE", 2)
    assert log.replayed_from == bodies[3]["first_leaf"]
    assert log.signed_to == log.leaves
    assert f"leaves from {log.replayed_from:,} on were derived again" in log.not_derived[0]
    assert log.root == of(report, "events-0").root
    assert of(report, "events-1").state == "identical"

    columns = ("payload", "salt", "facts", "record_id", "actor_id", "arrival_time")
    # None of those that came again later: what is altered in them alters what is made of the repetition.
    first = world.leaf("events-0", "class = 'model.access'", 20)
    altered = {first + i: (name, OTHER_VALUES.get(name) or one_byte(name)) for i, name in enumerate(columns)}
    world.alter_many("events-0", altered)
    found = {fault.leaf: fault.column for fault in faults(world.replay("events-0"))}
    assert found == {leaf: column for leaf, (column, _) in altered.items()}
    leaf = world.leaf("events-0", "class = 'model.access'", 30)
    assert leaf < log.replayed_from
    world.alter("events-0", leaf, "header", "replaceOne(header, 'bearer', 'bearex')")
    found = {fault.code for fault in faults(world.replay("events-0"))}
    assert "root.differs" in found


def test_a_journal_of_which_nothing_is_left(world: World) -> None:
    for partition in ("control", "events-0", "events-1"):
        world.journal.trim(partition, world.journal.high_water_mark(partition))
    report = world.replay()
    assert report.exit_code == 2
    assert all(log.replayed_from == log.leaves == log.signed_to for log in report.logs)
    leaf = world.leaf("control", "class = 'audit.reference.activated'", 0)
    world.command(
        f"ALTER TABLE auditspan.events DELETE WHERE log_id = '{world.log_id('control')}' AND leaf_index = {leaf}"
    )
    assert ("control", leaf) in places(world.replay())


def test_an_epoch_whose_artifacts_are_gone_is_replayed_from_its_stored_facts(world: World) -> None:
    epochs = [json.loads(row["header"]) for row in world.rows("control", "header", "class LIKE 'audit.reference%'")]
    digests = [{one["name"]: one["sha256"] for one in leaf["body"]["body"]["artifacts"]} for leaf in epochs]
    assert digests[0]["parties.yaml"] != digests[1]["parties.yaml"]
    (world.root / "reference" / digests[0]["parties.yaml"]).unlink()
    assert world.replay("events-0").exit_code == 0, "the store keeps artifacts as well"
    world.command(f"ALTER TABLE auditspan.reference_artifacts DELETE WHERE sha256 = '{digests[0]['parties.yaml']}'")
    report = world.replay()
    assert report.exit_code == 2
    assert not faults(report)
    assert "parties.yaml" in of(report, "events-0").not_derived[0]
    assert "epoch 1" in of(report, "events-0").not_derived[0]
    leaf = world.leaf("events-0", "class = 'model.access' AND reference_epoch = 1", 6)
    world.alter("events-0", leaf, "facts", one_byte("facts", 30))
    assert places(world.replay()) == {("events-0", leaf)}


def test_a_determination_that_the_packs_do_not_give(world: World) -> None:
    """Facts and header altered to agree: the packs of the epoch say otherwise, and so does the signed root."""
    leaf = world.leaf("events-0", "class = 'model.access'", 2)
    world.alter("events-0", leaf, "determination", "'no_license_required'")
    world.alter("events-0", leaf, "header", "replaceOne(header, '\"review\"', '\"no_license_required\"')")
    assert places(world.replay()) == {("events-0", leaf)}


def test_a_journal_that_lost_its_end(sealed: Path, tmp_path: Path) -> None:
    with copied(sealed, tmp_path / "copy") as world:
        last = world.leaf("events-1", "class = 'audit.batch'", -2)
    with sqlite3.connect(tmp_path / "copy" / "journal.sqlite") as journal:
        number = journal.execute("SELECT id FROM partitions WHERE name = 'events-1'").fetchone()[0]
        journal.execute(
            "DELETE FROM entries WHERE position >= ? AND position < ?", ((number << 48) + 5, number + 1 << 48)
        )
    journal.close()
    with opened(tmp_path / "copy") as world:
        report = world.replay()
        assert "journal.short" in of(report, "events-1").fault_counts
        assert all(leaf is not None and leaf <= last + 1 for _, leaf in places(report))


def test_beside_a_pipeline_that_goes_on(tmp_path: Path) -> None:
    from replayed_world import Known, replay
    from sealing_deployment import KEY

    with running(tmp_path, partitions=2) as deployment:
        known = Known("plant", b"k" * 32, [KEY.public_key()], tmp_path / "reference", tmp_path / "signer")
        reader, journal = deployment.store.reader(), SqliteJournal(tmp_path / "journal.sqlite", read_only=True)
        verdicts = []
        for number in range(6):
            bodies = [request(*(access(20 * number + i) for i in range(20)))] * 2
            deployment.append("events-0", bodies, NOW + number * SECOND)
            verdicts.append(replay(journal, reader, known).verdict)
        assert set(verdicts) == {"IDENTICAL"}
        reader.close()
        journal.close()


def test_nothing_was_opened(tmp_path: Path) -> None:
    (tmp_path / "signer").mkdir()
    with opened(tmp_path) as world:
        world.store.migrate()
        with pytest.raises(AuditSpanError, match="has opened no log yet"):
            world.replay()


def test_comparing_columns() -> None:
    from auditspan.processors.replay.compare import differing_rows

    text = pa.array(["a", None, "", "b"]).dictionary_encode()
    assert differing_rows(text, pa.array(["a", "", None, "c"])).tolist() == [3]
    assert differing_rows(pa.array([1, None, 3]), pa.array([1, 0, 4])).tolist() == [1, 2]
    lists = pa.array([["a"], None, ["a", "b"], ["a", "b"]])
    assert differing_rows(lists, pa.array([["a"], [], ["a", "c"], ["b"]])).tolist() == [2, 3]
    assert differing_rows(lists, pa.array([["a"], [], ["a", "c"], ["a", "b"]])).tolist() == [2]
    times = pa.array([1, None], pa.timestamp("ns", "UTC"))
    assert differing_rows(times, pa.array([2, None], pa.timestamp("ns", "UTC"))).tolist() == [0]
