from __future__ import annotations

from sealed_batches import LOG, sealed

from auditspan.store.clickhouse import ClickHouseStore


def test_a_batch_is_there_with_every_column_as_it_was(store: ClickHouseStore) -> None:
    batch = sealed(0, 3)
    store.append_batch(batch)
    assert store.next_leaf(LOG) == 4
    stored = store.query("SELECT * FROM auditspan.events ORDER BY leaf_index").to_pylist()
    for row, expected in zip(stored, batch.leaves.to_pylist(), strict=True):
        row["trace_id"], row["span_id"] = row.pop("trace_id_raw"), row.pop("span_id_raw")
        for name, value in expected.items():
            assert row[name] == value or (value is None and row[name] in ("", b"")), name
