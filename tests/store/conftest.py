from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "faults"))

from store_backends import Backend, embedded, served, server

from auditspan.store.clickhouse import ClickHouseStore

SERVER = os.environ.get("AUDITSPAN_TEST_CLICKHOUSE", "")
"""http://user:password@host:port of a ClickHouse server for these tests: its database ``auditspan`` is dropped."""


@pytest.fixture(params=["server"] if SERVER else ["embedded", "served"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """The store under test, and its operator, who may do what no client may."""
    if request.param == "server":
        made = server(SERVER)
    else:
        made = (embedded if request.param == "embedded" else served)(tmp_path / "store")
    with made as backend:
        yield backend


@pytest.fixture
def store(backend: Backend) -> ClickHouseStore:
    return backend.store


@pytest.fixture
def operator(backend: Backend) -> ClickHouseStore:
    return backend.operator


@pytest.fixture
def embedded_store(tmp_path: Path) -> Iterator[ClickHouseStore]:
    with embedded(tmp_path / "store") as backend:
        yield backend.store
