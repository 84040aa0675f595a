"""Seals unflagged reviews until it is killed, and says after each batch how many."""

from __future__ import annotations

import sys
from pathlib import Path

from sealed_batches import LOG, batch_row, event_row, table_of

from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import SealedBatch

if __name__ == "__main__":
    store = ClickHouseStore.embedded(Path(sys.argv[1]))
    store.migrate()
    for first in range(0, 1_000_000, 11):
        asked = {"determination": "review", "missing_facts": ["actor_party"]}
        rows = [event_row(leaf, actor_id=f"a{leaf % 50}", **asked) for leaf in range(first, first + 10)]
        store.append_batch(SealedBatch(LOG, first, table_of([*rows, batch_row(first + 10)])))
        print(first, flush=True)
