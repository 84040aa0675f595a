from __future__ import annotations

import hashlib
import threading
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from sealed_batches import ARRIVAL, LOG, OTHER_LOG, batch_row, event_row, sealed, table_of

from auditspan.ledger.merkle import leaf_hash
from auditspan.store import connection, http_connection
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import Fenced, SchemaTooNew, SealedBatch, StoredAnchor, StoredCheckpoint, StoreUnavailable
from auditspan.store.insert_statement import END, conditional_insert, conditions
from auditspan.store.paging import behind_nothing


def _headers(store: ClickHouseStore, log_id: str = LOG) -> list[bytes]:
    blocks = list(store.leaves(log_id, 0, 2**40))
    indices = [index for block in blocks for index in block["leaf_index"].to_pylist()]
    assert indices == list(range(len(indices)))
    return [header for block in blocks for header in block["header"].to_pylist()]


def test_a_batch_is_there_with_every_column_as_it_was(store: ClickHouseStore) -> None:
    batch = sealed(0, 3)
    store.append_batch(batch)
    assert store.next_leaf(LOG) == 4
    stored = store.query("SELECT * FROM auditspan.events ORDER BY leaf_index").to_pylist()
    for row, expected in zip(stored, batch.leaves.to_pylist(), strict=True):
        row["trace_id"], row["span_id"] = row.pop("trace_id_raw"), row.pop("span_id_raw")
        for name, value in expected.items():
            assert row[name] == value or (value is None and row[name] in ("", b"")), name


def test_nulls_that_mean_something_stay_null(store: ClickHouseStore) -> None:
    row = event_row(0, sequence=None, event_time=None, stream=None)
    store.append_batch(SealedBatch(LOG, 0, table_of([row, batch_row(1)])))
    found = store.query("SELECT sequence, event_time, stream FROM auditspan.events WHERE leaf_index = 0").to_pylist()
    assert found == [{"sequence": None, "event_time": None, "stream": ""}]


def test_ids_and_leaf_hash_are_shown_as_people_look_for_them(store: ClickHouseStore) -> None:
    batch = sealed(0, 1)
    store.append_batch(batch)
    row = batch.leaves.to_pylist()[0]
    found = store.query(
        "SELECT trace_id, span_id, lower(hex(leaf_hash)) AS hash FROM auditspan.events WHERE trace_id = {id:String}",
        {"id": row["trace_id"].hex()},
    ).to_pylist()
    digest = hashlib.sha256(b"\0" + row["header"]).hexdigest()
    assert found == [{"trace_id": row["trace_id"].hex(), "span_id": row["span_id"].hex(), "hash": digest}]


def test_logs_are_numbered_apart(store: ClickHouseStore) -> None:
    store.append_batch(sealed(0, 3))
    store.append_batch(sealed(0, 1, log_id=OTHER_LOG))
    store.append_batch(sealed(4, 2))
    assert (store.next_leaf(LOG), store.next_leaf(OTHER_LOG), store.next_leaf("0" * 32)) == (7, 2, 0)
    assert len(_headers(store)) == 7


def test_the_same_batch_again_changes_nothing(store: ClickHouseStore) -> None:
    store.append_batch(sealed(0, 3))
    store.append_batch(sealed(4, 3))
    store.append_batch(sealed(0, 3))
    store.append_batch(sealed(4, 3))
    assert len(_headers(store)) == 8


@pytest.mark.parametrize("first", [0, 2, 4, 8])
def test_a_batch_that_does_not_follow_is_fenced(store: ClickHouseStore, first: int) -> None:
    store.append_batch(sealed(0, 3))
    before = _headers(store)
    batch = sealed(first, 3, salt="another writer") if first != 4 else sealed(8, 1)
    with pytest.raises(Fenced):
        store.append_batch(batch)
    assert _headers(store) == before


def test_of_two_writers_one_is_fenced(store: ClickHouseStore) -> None:
    other = store.reader()
    start = threading.Barrier(2)
    outcomes: dict[str, str] = {}

    def write(writer: ClickHouseStore, salt: str) -> None:
        start.wait()
        try:
            for first in range(0, 40, 4):
                writer.append_batch(sealed(first, 3, salt=salt))
            outcomes[salt] = "owner"
        except Fenced:
            outcomes[salt] = "fenced"

    threads = [threading.Thread(target=write, args=pair) for pair in ((store, "one"), (other, "two"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert sorted(outcomes.values()) == ["fenced", "owner"]
    owner = next(salt for salt, outcome in outcomes.items() if outcome == "owner")
    headers = _headers(store)
    assert len(headers) == 40
    assert all(f'"salt": "{owner}"'.encode() in header for header in headers)


def test_a_batch_whose_insert_was_killed_half_way_gets_in(store: ClickHouseStore, operator: ClickHouseStore) -> None:
    # The engine writes down what it must not insert again before the rows are there: it may remember what nobody has.
    store.append_batch(sealed(0, 3))
    operator.command("ALTER TABLE auditspan.events DELETE WHERE 1 SETTINGS mutations_sync = 1")
    for _ in range(2):
        with suppress(StoreUnavailable):
            store.append_batch(sealed(0, 3))
    assert len(_headers(store)) == 4


def test_a_batch_is_one_part_in_its_month(store: ClickHouseStore, operator: ClickHouseStore) -> None:
    operator.command("SYSTEM STOP MERGES auditspan.events")
    rows = [event_row(index, payload=bytes(900)) for index in range(20_000)]
    half = table_of(rows[:10_000]), table_of([*rows[10_000:], batch_row(20_000)])
    store.append_batch(SealedBatch(LOG, 0, pa.concat_tables(half)))
    parts = operator.query("SELECT partition, rows FROM system.parts WHERE table = 'events' AND active").to_pylist()
    assert parts == [{"partition": "202611", "rows": 20_001}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.select(table.column_names[1:]), "columns"),
        (lambda table: table.slice(1), "without holes"),
        (lambda table: table.slice(0, 0), "at least"),
        (lambda table: pa.concat_tables([table, table]), "without holes"),
    ],
)
def test_a_malformed_batch_is_refused(store: ClickHouseStore, change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store.append_batch(SealedBatch(LOG, 0, change(sealed(0, 3).leaves)))
    assert store.next_leaf(LOG) == 0


def test_a_batch_in_two_months_is_refused(store: ClickHouseStore) -> None:
    rows = [event_row(0), event_row(1, sealing_month=202612), batch_row(2)]
    with pytest.raises(ValueError, match="one sealing month"):
        store.append_batch(SealedBatch(LOG, 0, table_of(rows)))


def test_leaves_come_in_bounded_blocks(store: ClickHouseStore) -> None:
    rows = [event_row(index, header=b"%d" % index * 40) for index in range(30_000)]
    store.append_batch(SealedBatch(LOG, 0, table_of([*rows, batch_row(30_000)])))
    blocks = list(store.leaves(LOG, 10, 30_001))
    assert sum(block.num_rows for block in blocks) == 29_991
    assert max(block.num_rows for block in blocks) <= 16_384
    assert blocks[0]["leaf_index"][0].as_py() == 10
    assert list(store.leaves(LOG, 5, 5)) == [] or sum(b.num_rows for b in store.leaves(LOG, 5, 5)) == 0


def test_a_long_range_is_read_page_by_page(store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a query takes follows the page, and not how many parts a log has."""
    for module in (connection, http_connection):
        monkeypatch.setattr(module, "_PAGE_ROWS", 4)
        monkeypatch.setattr(module, "_NARROW_PAGE_ROWS", 4)
    for first in range(0, 30, 3):
        store.append_batch(sealed(first, 2))
    blocks = [block for block in store.leaves(LOG, 1, 2**53) if block.num_rows]
    assert [index for block in blocks for index in block["leaf_index"].to_pylist()] == list(range(1, 30))
    assert max(block.num_rows for block in blocks) <= 4


def test_behind_a_page_without_rows_the_next_ones_are_found(store: ClickHouseStore) -> None:
    sql = "SELECT number AS n FROM numbers(2000) WHERE n >= {begin:UInt64} AND n < {end:UInt64} AND n % 1500 = 0"
    assert behind_nothing(store.query, sql, {}, 1, 2_000, 10) == 1 + 10 + 160
    assert behind_nothing(store.query, sql, {}, 1_501, 2**60, 10) == 2**60
    assert behind_nothing(store.query, sql, {}, 7, 7, 10) == 7


def test_the_store_hashes_the_leaves_that_it_keeps(store: ClickHouseStore) -> None:
    rows = [event_row(index, header=b"\xff\0%d" % index * 40) for index in range(20_000)]
    store.append_batch(SealedBatch(LOG, 0, table_of([*rows, batch_row(20_000)])))
    found = pa.Table.from_batches(store.leaf_hashes(LOG, 10, 20_001))
    headers = [row["header"] for row in [*rows, batch_row(20_000)]]
    assert found["leaf_index"].to_pylist() == list(range(10, 20_001))
    assert found["leaf_hash"].to_pylist() == [leaf_hash(header) for header in headers[10:]]


@pytest.mark.parametrize("known", [0, 1, 2, 3, 4, 1000])
def test_the_next_leaf_is_the_same_whatever_one_believes(store: ClickHouseStore, known: int) -> None:
    assert store.next_leaf(LOG, known) == 0
    store.append_batch(sealed(0, 2))
    store.append_batch(sealed(3, 1))
    assert store.next_leaf(LOG, known) == store.next_leaf(LOG)
    assert store.next_leaf(OTHER_LOG, known) == 0


def test_a_stream_that_is_left_early_lets_the_next_call_on(store: ClickHouseStore) -> None:
    began = time.monotonic()
    stream = store.stream("SELECT number FROM numbers(100000000000)")
    assert next(stream).num_rows
    stream.close()
    assert time.monotonic() - began < 20, "the query went on for nobody"
    assert store.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_stream_tells_of_an_error_at_its_start_and_in_its_middle(store: ClickHouseStore) -> None:
    with pytest.raises(StoreUnavailable, match="no_such_table"):
        list(store.stream("SELECT * FROM auditspan.no_such_table"))
    with pytest.raises(StoreUnavailable, match="in the middle"):
        list(store.stream("SELECT throwIf(number = 3000000, 'in the middle') AS x FROM numbers(4000000)"))
    assert store.next_leaf(LOG) == 0


def test_parameters_are_never_part_of_the_statement(store: ClickHouseStore) -> None:
    hostile = "' OR 1 = 1 --"
    store.append_batch(sealed(0, 2))
    assert store.query(
        "SELECT count() AS n FROM auditspan.events WHERE emitter = {emitter:String}", {"emitter": hostile}
    ).to_pylist() == [{"n": 0}]
    assert (
        sum(
            block.num_rows
            for block in store.stream("SELECT 1 FROM auditspan.events WHERE emitter = {e:String}", {"e": hostile})
        )
        == 0
    )
    assert store.next_leaf(hostile) == 0


def test_a_reader_sees_what_the_writer_wrote_and_works_beside_it(store: ClickHouseStore) -> None:
    reader = store.reader()
    held = reader.stream("SELECT number FROM numbers(1000000000)")
    next(held)
    store.append_batch(sealed(0, 3))
    held.close()
    assert reader.next_leaf(LOG) == 4
    reader.close()


def test_the_state_of_streams_and_their_sequences(store: ClickHouseStore) -> None:
    rows = [
        event_row(0, sequence=0),
        event_row(1, sequence=5),
        event_row(2, sequence=1),
        event_row(3, sequence=5, faults=["identity.conflict"], **{"class": "audit.conflict"}),
        event_row(4, stream="stream-2", emitter="other", sequence=0),
        event_row(5, stream=None, sequence=None),
        batch_row(6),
    ]
    store.append_batch(SealedBatch(LOG, 0, table_of(rows)))
    assert store.stream_state(LOG).to_pylist() == [
        {"emitter": "gateway", "stream": "stream-1", "highest": 5, "count": 3},
        {"emitter": "other", "stream": "stream-2", "highest": 0, "count": 1},
    ]
    assert store.sequences(LOG, "gateway", "stream-1").to_pylist() == [
        {"sequence": 0, "leaf_index": 0, "arrival_time": ARRIVAL},
        {"sequence": 1, "leaf_index": 2, "arrival_time": ARRIVAL + 2},
        {"sequence": 5, "leaf_index": 1, "arrival_time": ARRIVAL + 1},
        {"sequence": 5, "leaf_index": 3, "arrival_time": ARRIVAL + 3},
    ]
    assert store.stream_state(OTHER_LOG).num_rows == 0


def test_payloads_by_identity(store: ClickHouseStore) -> None:
    rows = [event_row(index) for index in range(3)]
    rows += [event_row(index, stream=None, sequence=None) for index in range(3, 6)]
    rows += [event_row(6, stream=None, sequence=None, **{"class": "audit.quarantined"}), batch_row(7)]
    store.append_batch(SealedBatch(LOG, 0, table_of(rows)))
    keys = [("gateway", "stream-1", 2), ("gateway", "stream-1", 0), ("other", "stream-1", 1), ("gateway", "x'\\", 1)]
    found = store.payloads_of_sequences(LOG, keys).to_pylist()
    assert [(row["sequence"], row["leaf_index"], row["payload"]) for row in found] == [
        (index, index, rows[index]["payload"]) for index in (0, 2)
    ]
    spans = [(rows[index]["emitter"], rows[index]["trace_id"], rows[index]["span_id"]) for index in (4, 0, 6)]
    found = store.payloads_of_spans(LOG, spans).to_pylist()
    assert found == [
        {
            "emitter": "gateway",
            "trace_id": rows[4]["trace_id"],
            "span_id": rows[4]["span_id"],
            "leaf_index": 4,
            "payload": rows[4]["payload"],
        }
    ]
    assert store.payloads_of_spans(LOG, []).num_rows == store.payloads_of_sequences(LOG, []).num_rows == 0
    since = [row for block in store.foreign_identities(LOG, ARRIVAL + 4) for row in block.to_pylist()]
    assert [(row["leaf_index"], row["trace_id"], row["arrival_time"]) for row in since] == [
        (index, rows[index]["trace_id"], ARRIVAL + index) for index in (4, 5)
    ]
    assert list(store.foreign_identities(LOG, ARRIVAL + 10**12)) == []


def test_many_keys_at_once(store: ClickHouseStore) -> None:
    store.append_batch(sealed(0, 12_000))
    keys = [("gateway", "stream-1", index) for index in range(12_000)]
    assert store.payloads_of_sequences(LOG, keys)["leaf_index"].to_pylist() == list(range(12_000))


def test_last_batch_and_log_leaves(store: ClickHouseStore) -> None:
    assert store.last_batch(LOG) is None
    store.append_batch(sealed(0, 2))
    gap = batch_row(4) | {"class": "audit.gap", "header": b'{"gap":true}'}
    emitted = event_row(3, **{"class": "audit.gap"})
    store.append_batch(SealedBatch(LOG, 3, table_of([emitted, gap, batch_row(5)])))
    assert store.last_batch(LOG) == batch_row(5)["header"]
    assert store.log_leaves(LOG, ["audit.gap", "audit.gap.closed"]).to_pylist() == [
        {"leaf_index": 4, "class": "audit.gap", "header": b'{"gap":true}'}
    ]


def test_nodes_are_kept_once(store: ClickHouseStore) -> None:
    def nodes(places: list[int]) -> pa.Table:
        return pa.table(
            {
                "level": pa.array([3] * len(places), pa.uint8()),
                "node_index": pa.array(places, pa.uint64()),
                "hash": pa.array([bytes([place] * 31) + b"\xff" for place in places], pa.binary(32)),
            }
        )

    store.append_nodes(LOG, nodes([0, 1, 2]))
    store.append_nodes(LOG, nodes([2, 3]))
    store.append_nodes(LOG, nodes([]))
    store.append_nodes(OTHER_LOG, nodes([7]))
    assert store.nodes(LOG, 3, 1, 4).to_pylist() == [
        {"node_index": place, "hash": bytes([place] * 31) + b"\xff"} for place in (1, 2, 3)
    ]
    assert store.nodes(LOG, 2, 0, 100).num_rows == 0


def test_checkpoints(store: ClickHouseStore) -> None:
    made = [StoredCheckpoint(LOG, size, "cm9vdA==", f"note\n\n— x {size}\n", ARRIVAL + size) for size in (4, 9, 7)]
    store.append_checkpoints(made)
    store.append_checkpoints(made[:1])
    store.append_checkpoints([])
    assert store.last_checkpoint(LOG) == made[1]
    assert store.last_checkpoint(OTHER_LOG) is None


def test_anchors(store: ClickHouseStore) -> None:
    assert store.newest_anchors(LOG) == []
    first = StoredAnchor(LOG, 7, "timestamp", "tsa", "AAAA", 1_795_500_000_123_456_789)
    later = StoredAnchor(LOG, 12, "timestamp", "tsa", "AAAB", 1_795_500_000_223_456_789)
    witness = StoredAnchor(
        LOG, 9, "cosignature", "witness.example/w", "— witness.example/w AAAA", 1_795_500_000_000_000_000
    )
    store.append_anchors([later, first])
    store.append_anchors([witness, first])
    store.append_anchors([])
    assert store.newest_anchors(LOG) == [witness, later]
    assert store.newest_anchors(OTHER_LOG) == []


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("flagged", "flagged_granules"),
        ("arrival_time > toDateTime64('2020-01-01 00:00:00', 9, 'UTC')", "arrival_granules"),
        ("record_id = 'record-1'", "record_granules"),
        ("trace_id = 'ffffffffffffffffffffffffffffffff'", "trace_granules"),
        ("lower(hex(trace_id_raw)) IN ['ffffffffffffffffffffffffffffffff']", "trace_granules"),
    ],
)
def test_what_people_look_for_is_found_by_an_index(store: ClickHouseStore, condition: str, index: str) -> None:
    store.append_batch(sealed(0, 10))
    plan = store.query(f"EXPLAIN indexes = 1 SELECT * FROM auditspan.events WHERE {condition}")
    assert any(index in line for line in plan["explain"].to_pylist())


def test_flagged_view(store: ClickHouseStore) -> None:
    rows = [
        event_row(0),
        event_row(1, flagged=True, rule_ids=["us-ear.a"], why="why", citations="15 CFR"),
        batch_row(2),
    ]
    store.append_batch(SealedBatch(LOG, 0, table_of(rows)))
    found = store.query("SELECT record_id, rule_ids, why FROM auditspan.flagged").to_pylist()
    assert found == [{"record_id": "record-1", "rule_ids": ["us-ear.a"], "why": "why"}]


def test_migrating_again_does_nothing_and_a_newer_schema_is_refused(
    store: ClickHouseStore, operator: ClickHouseStore
) -> None:
    store.append_batch(sealed(0, 1))
    store.migrate()
    versions = store.query("SELECT version FROM auditspan.migrations ORDER BY version")["version"].to_pylist()
    assert versions == list(range(1, len(versions) + 1))
    operator.command("INSERT INTO auditspan.migrations (version, name) VALUES (9000, 'from_the_future')")
    with pytest.raises(SchemaTooNew, match="9000"):
        store.migrate()
    assert store.next_leaf(LOG) == 2


def test_a_store_survives_its_process_closing_it(tmp_path: Path) -> None:
    for first in (0, 4):
        store = ClickHouseStore.embedded(tmp_path / "store")
        store.migrate()
        store.append_batch(sealed(first, 3))
        store.close()
    again = ClickHouseStore.embedded(tmp_path / "store")
    assert len(_headers(again)) == 8
    again.close()
    assert (tmp_path / "store").stat().st_mode & 0o077 == 0


def test_a_servers_insert_checks_the_next_leaf_in_the_same_statement(
    embedded_store: ClickHouseStore, tmp_path: Path
) -> None:
    # A server reads from input(); the embedded engine runs the very statement over a file.
    store = embedded_store
    batch = sealed(0, 3).leaves.rename_columns(
        [
            "trace_id_raw" if n == "trace_id" else "span_id_raw" if n == "span_id" else n
            for n in sealed(0, 1).leaves.column_names
        ]
    )
    with pa.ipc.new_file(tmp_path / "rows.arrow", batch.schema) as writer:
        writer.write_table(batch.unify_dictionaries().combine_chunks())
    source = f"file('{tmp_path}/rows.arrow', 'Arrow')"

    def insert(first: int) -> None:
        store.command(
            conditional_insert("auditspan.events", batch.column_names, source, "leaf_index").removesuffix(END),
            conditions(LOG, first),
        )

    with pytest.raises(StoreUnavailable, match="another writer owns this log"):
        insert(4)
    assert store.next_leaf(LOG) == 0
    insert(0)
    assert store.next_leaf(LOG) == 4
    with pytest.raises(StoreUnavailable, match="another writer owns this log"):
        insert(0)
    assert len(_headers(store)) == 4
