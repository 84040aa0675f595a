from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from auditspan.store.clickhouse import ClickHouseStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ClickHouseStore]:
    made = ClickHouseStore.embedded(tmp_path / "store")
    made.migrate()
    yield made
    made.close()
