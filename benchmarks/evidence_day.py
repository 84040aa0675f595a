"""One day out of a log of 10⁸ leaves: outside of the day there are kept nodes of the tree, and no leaf at all.

So whatever an export reads beyond the day, it does not find, and fails.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from benchmarks.evidence_rows import (
    DATA,
    DEPLOYMENT,
    T0,
    artifact,
    batch_row,
    event_rows,
    signed,
    signing_key,
    store_control,
    table_of,
)

LEAVES = 100_000_000
TILE = 256
BEGIN = 195_313 * TILE
"""First leaf of the day: half of the log lies before it."""
BATCH = 20_000


def prepare_day(folder: Path, events: int) -> None:
    """A store with the day's leaves, from the batch leaf before them to the one that ends them, and the other nodes."""
    import numpy as np
    import pyarrow as pa

    from auditspan.ledger.hashing import leaf_hashes
    from auditspan.ledger.merkle import CompactRange
    from auditspan.store.clickhouse import ClickHouseStore
    from auditspan.store.contract import SealedBatch

    class Anywhere(ClickHouseStore):
        """A store whose logs may begin in their middle."""

        def next_leaf(self, log_id: str, known: int = 0) -> int:
            return super().next_leaf(log_id, known) or known

    end = BEGIN + -(-events // TILE) * TILE
    store = Anywhere.embedded(folder / "store")
    store.migrate()
    day = CompactRange(BEGIN)
    nodes: dict[int, dict[int, bytes]] = {8: {}, 16: {}, 24: {}}

    def keep(level: int, first: int, hashes: Any) -> None:
        if level in nodes:
            nodes[level].update({first + place: digest.tobytes() for place, digest in enumerate(hashes)})

    before = batch_row(DATA, BEGIN - 10, BEGIN, 0, 10, T0 - 1, 1)
    leaf, offset, first = BEGIN + 1, 10, BEGIN
    waiting = [table_of([before])]
    while leaf < end:
        count = min(BATCH, end - leaf - 1)
        rows = event_rows(leaf, offset, count)
        leaf += count
        at = T0 + (offset + count - 1) * 1_000
        tail = batch_row(DATA, leaf - count, leaf, offset, offset + count, at, 1)
        offset, leaf = offset + count, leaf + 1
        whole = pa.concat_tables([*waiting, rows, table_of([tail])]).unify_dictionaries().combine_chunks()
        day.extend_column(leaf_hashes(whole["header"]), keep)
        store.append_batch(SealedBatch(DATA, first, whole))
        waiting, first = [], leaf
    (folder / "until").write_text(str(at))
    # Over the roots of tiles there is the same tree, 8 levels lower.
    upper = CompactRange()
    for number in range(LEAVES // TILE):
        digest = nodes[8].setdefault(number, hashlib.sha256(struct.pack(">Q", number)).digest())
        upper.append(digest, lambda level, index, node: nodes.get(level + 8, {}).setdefault(index, node))
    tree = CompactRange.of(0, LEAVES, upper.roots)
    for level, kept in nodes.items():
        numbers = sorted(kept)
        for start in range(0, len(numbers), 50_000):
            part = numbers[start : start + 50_000]
            store.append_nodes(
                DATA,
                pa.table(
                    {
                        "level": pa.array(np.full(len(part), level, np.uint8)),
                        "node_index": pa.array(part, pa.uint64()),
                        "hash": pa.array([kept[number] for number in part], pa.binary()),
                    }
                ),
            )
    store_control(store, signed(DATA, tree))
    store.close()


def export_day(folder: Path) -> int:
    """Export the day; bytes of its range proof as it stands in the manifest."""
    from auditspan.exporters.evidence.export import export_package
    from auditspan.exporters.evidence.statement import open_envelope

    from auditspan.store.clickhouse import ClickHouseStore

    store = ClickHouseStore.embedded(folder / "store")
    until = int((folder / "until").read_text())
    try:
        export_package(
            store, artifact, signing_key(), DEPLOYMENT, folder / "package", time_from=T0, time_to=until, record=None
        )
    finally:
        store.close()
    payload, _ = open_envelope((folder / "package" / "manifest.json").read_bytes(), [signing_key().public_key()])
    (log,) = json.loads(payload)["predicate"]["logs"]
    return len(json.dumps(log["range_proof"]))


def verify_day(folder: Path) -> int:
    """Verify it; how many leaves are proven."""
    from auditspan.exporters.evidence.verify import verify_package

    from auditspan.ledger.trust import Trust

    result = verify_package(folder / "package", Trust(DEPLOYMENT, (signing_key().public_key(),)))
    assert result.verdict == "VALID", result.to_json()
    return result.counts["proven"]
