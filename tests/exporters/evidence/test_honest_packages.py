from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from auditspan.exporters.evidence.verify import verify_package
from exported import export
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sealed_world import SECOND, T0, World

from auditspan.store.clickhouse import ClickHouseStore


def test_honest_packages_are_valid(packages: dict[str, Path], world: World) -> None:
    for name in ("all", "flagged", "later", "last minute"):
        report = verify_package(packages[name], world.trust)
        assert report.faults == [] and report.verdict == "VALID", (name, report.faults[:5])


def test_packages_of_random_shape_are_valid(store: ClickHouseStore) -> None:
    """Several logs, some of them empty, late arrivals, batches of any size, any interval and query."""
    made = [0]

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(
        st.integers(0, 4),
        st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.booleans()), max_size=12), max_size=6),
        st.tuples(st.integers(-10, 300), st.integers(1, 300)),
        st.sampled_from(
            [None, "flagged = true", "not flagged = true", "class = 'nothing'", "sequence < 5 or asset is null"]
        ),
        st.booleans(),
    )
    def check(
        logs: int, rounds: list[list[tuple[int, int, bool]]], span: tuple[int, int], where: str | None, epoch: bool
    ) -> None:
        made[0] += 1
        world = World(f"random-{made[0]}", logs=logs)
        sequences = [0] * max(logs, 1)
        for number, events in enumerate(rounds):
            at = T0 + number * 50 * SECOND
            for log, delay, flagged in events:
                if log < logs:
                    world.logs[log].event(at + delay * SECOND, sequence=sequences[log], flagged=flagged)
                    sequences[log] += 1
            if epoch and number == 2:
                world.activate(2)
            world.batch(at + 45 * SECOND)
        world.batch(T0 + 400 * SECOND)
        world.store_into(store)
        folder = Path(tempfile.mkdtemp())
        try:
            start = max(0, T0 + span[0] * SECOND)
            options: dict[str, Any] = {"time_from": start, "time_to": start + span[1] * SECOND, "where": where}
            export(store, world, folder / "package", **options)
            report = verify_package(folder / "package", world.trust)
            assert report.verdict == "VALID", report.faults[:5]
            assert report.counts["proven"] == report.counts["leaves"]
        finally:
            shutil.rmtree(folder)

    check()
