from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sealed_batches import LOG, sealed

from auditspan.store.clickhouse import ClickHouseStore


def _killed_run(path: Path, acknowledgements: int, delay: float) -> int:
    """Kill a writer ``delay`` seconds after its n-th acknowledgement; the last count of leaves it acknowledged."""
    script = Path(__file__).with_name("killed_writer.py")
    acknowledged = 0
    with subprocess.Popen([sys.executable, str(script), str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        for _ in range(acknowledgements):
            acknowledged = int(process.stdout.readline())
        time.sleep(delay)
        process.kill()
        for line in process.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                acknowledged = int(line)
    return acknowledged


@pytest.mark.crash
def test_every_acknowledged_batch_survives_sigkill_exactly_once(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged = 0
    for _ in range(8):
        acknowledged = max(
            acknowledged, _killed_run(tmp_path / "store", chance.randrange(0, 4), chance.uniform(0, 0.05))
        )
    store = ClickHouseStore.embedded(tmp_path / "store")
    stored = [row for block in store.leaves(LOG, 0, 2**40) for row in block.to_pylist()]
    store.close()
    assert [row["leaf_index"] for row in stored] == list(range(len(stored)))
    assert len(stored) >= acknowledged > 0
    expected: list[bytes] = []
    while len(expected) < len(stored):
        expected += sealed(len(expected), 40 + len(expected) % 37).leaves["header"].to_pylist()
    assert [row["header"] for row in stored] == expected
