"""Appends batches to the store named on the command line and says each on stdout once it is acknowledged."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sealed_batches import LOG, sealed

from auditspan.store.clickhouse import ClickHouseStore


def main() -> None:
    store = ClickHouseStore.embedded(Path(sys.argv[1]))
    store.migrate()
    print("open", flush=True)
    while True:
        first = store.next_leaf(LOG)
        batch = sealed(first, 40 + first % 37)
        store.append_batch(batch)
        print(first + batch.leaves.num_rows, flush=True)


main()
