from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from exported import export
from sealed_world import SECOND, T0, World, varied_world

from auditspan.store.clickhouse import ClickHouseStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ClickHouseStore]:
    made = ClickHouseStore.embedded(tmp_path / "store")
    made.migrate()
    yield made
    made.close()


@pytest.fixture(scope="session")
def world() -> World:
    return varied_world()


@pytest.fixture(scope="session")
def packages(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packages of one deployment: everything, the flagged events of the second minute, and the same again later."""
    folder = tmp_path_factory.mktemp("packages")
    made = ClickHouseStore.embedded(folder / "store")
    try:
        made.migrate()
        world.store_into(made)
        export(made, world, folder / "all", time_from=0, time_to=T0 + 10_000 * SECOND)
        export(made, world, folder / "flagged", where="flagged = true")
        export(made, world, folder / "later", where="flagged = true", previous=folder / "all")
        export(made, world, folder / "last minute", time_from=T0 + 110 * SECOND, time_to=T0 + 10_000 * SECOND)
        other = varied_world("b")
        other.store_into(made)
        export(made, other, folder / "other")
    finally:
        made.close()
    return {name: folder / name for name in ("all", "flagged", "later", "last minute", "other")}


@pytest.fixture
def copy(packages: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a package that a test may do anything to."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(packages[name], tmp_path / name))

    return make
