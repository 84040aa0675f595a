"""Honest packages are valid, whatever their shape; and an attack on any of them is found.

The short form of ``make attack``: the same generators, with fewer seeds.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from auditspan.exporters.evidence.verify import verify_package
from exported import export
from random_attacks import attacked
from random_world import HAPPENINGS, random_world
from sealed_world import World

from auditspan.store.clickhouse import ClickHouseStore

SEEDS = range(30)


def test_honest_packages_are_valid(packages: dict[str, Path], world: World) -> None:
    for name in ("all", "flagged", "later", "last minute"):
        report = verify_package(packages[name], world.trust)
        assert report.faults == [] and report.verdict == "VALID", (name, report.faults[:5])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    made = ClickHouseStore.embedded(tmp_path_factory.mktemp("random") / "store")
    made.migrate()
    yield made
    made.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_package_of_random_shape_is_valid_until_it_is_attacked(
    seed: int, shared: ClickHouseStore, tmp_path: Path
) -> None:
    made = random_world(seed)
    for number, package in enumerate(made.packages(shared, tmp_path)):
        report = verify_package(package, made.trust)
        assert report.verdict == "VALID", report.faults[:5]
        assert report.counts["proven"] == report.counts["leaves"]
        assert report.determinations["made_again"] == (report.determinations["facts"] if made.judged else 0)
        for folder, found in attacked(package, made.world.key, random.Random(seed), tmp_path, 3 if not number else 0):
            attacked_report = verify_package(folder, made.trust)
            assert found.is_in(attacked_report), (found, attacked_report.faults[:5])


@pytest.mark.parametrize("seed", range(1_000, 1_004))
def test_a_determination_sealed_milder_is_found_where_it_is(seed: int, shared: ClickHouseStore, tmp_path: Path) -> None:
    made = random_world(seed, false=True)
    made.world.store_into(shared)
    export(shared, made.world, tmp_path / "package", time_from=0, time_to=2**62)
    report = verify_package(tmp_path / "package", made.trust)
    if made.false is None:
        assert report.verdict == "VALID", report.faults[:5]
    else:
        assert set(report.fault_counts) == {"determination.mismatch"}, report.faults[:5]
        assert made.false in [fault.leaf for fault in report.faults]


def test_the_seeds_of_the_short_form_hold_much() -> None:
    """What the generators can do is there, and not only what is likely."""
    worlds = [random_world(seed) for seed in SEEDS]
    logs = [log for made in worlds for log in made.world.logs]
    kinds = {row["class"] for log in logs for row in log.rows}
    wanted = {"audit.quarantined", "audit.conflict", "other", "audit.gap", "audit.gap.closed", "audit.log.closed"}
    assert kinds >= wanted
    assert {len(made.world.logs) for made in worlds} >= {0, 1, 2, 3}
    assert max(log.generation for log in logs) >= 2
    assert len({row["sealing_month"] for log in logs for row in log.rows}) > 1
    assert any(made.judged for made in worlds) and max(made.epoch for made in worlds) > 1
    assert any(random_world(seed, false=True).false for seed in range(1_000, 1_004))
    assert any(len(made.keys) > 1 for made in worlds), "a key is rotated"
    assert len(HAPPENINGS) >= 12
