"""Real journals and real stores for the processors' tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from auditspan.processors.batch import LogContext
from auditspan.processors.metrics import LogMetrics, ProcessorMetrics
from prometheus_client import CollectorRegistry
from sealing_inputs import CONTEXT, PARTITION

from auditspan.journal.sqlite import SqliteJournal
from auditspan.store.clickhouse import ClickHouseStore

sys.path.insert(0, str(Path(__file__).parents[1]))
"""For the slow deriver in ``tests/reference``."""


@pytest.fixture
def metrics() -> LogMetrics:
    return ProcessorMetrics(CollectorRegistry()).of(PARTITION)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(tmp_path / "journal.sqlite")
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ClickHouseStore]:
    made = ClickHouseStore.embedded(tmp_path / "store")
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def context(journal: SqliteJournal) -> LogContext:
    return replace(CONTEXT, opening=replace(CONTEXT.opening, journal=journal.identity))
