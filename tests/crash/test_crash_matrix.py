"""The crash matrix in its short form. ``make crash`` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
from matrix import run_matrix, seed_of_run
from schedule import Kind, schedule
from topologies import SESSION_TIMEOUT, on_kafka, single


@pytest.mark.crash
@pytest.mark.timeout(600)
def test_one_process(tmp_path: Path) -> None:
    seed = seed_of_run()
    with single(tmp_path) as topology:
        totals = run_matrix(topology, tmp_path / "load", seed, schedule(seed, topology.weights, 4), 90)
    print(totals)
    assert totals.kills >= 4


@pytest.mark.crash
@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_kafka_two_collectors_two_processors(tmp_path: Path, kafka_here: None) -> None:
    seed = seed_of_run()
    with on_kafka(tmp_path) as topology:
        faults = schedule(
            seed,
            topology.weights,
            5,
            zombies=topology.zombies[:1],
            zombie_seconds=SESSION_TIMEOUT + 3,
            proxied=list(topology.store_ways),
        )
        totals = run_matrix(topology, tmp_path / "load", seed, faults, 120)
    print(totals)
    assert totals.kills >= 5
    assert totals.faults[f"{Kind.ZOMBIE.value} processor"] == 1


def test_a_seed_gives_the_same_faults_again() -> None:
    weights = {"broker-1": 1.0, "store": 2.0, "processor-1": 1.0}
    options = {
        "zombies": ("processor-1",),
        "zombie_seconds": 9.0,
        "proxied": ("processor-1",),
        "fillable": ("broker-1",),
    }
    first, second, other = ([*schedule(seed, weights, 40, **options)] for seed in (7, 7, 8))
    assert first == second != other
    assert sum(fault.kills for fault in first) == 40
    assert {fault.kind for fault in first} == set(Kind)
    assert {fault.target for fault in first} == set(weights)
