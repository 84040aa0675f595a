"""The crash matrix in its long form: ``make crash``, or ``python tests/crash [--kills N] [--boundary N] ...``.

Two runs on real Kafka with two collectors, two processors and a store of their own: kills at random instants with three
brokers, then kills at every boundary of persistence. Each prints its seed; ``AUDITSPAN_TEST_SEED`` repeats the faults.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import conftest  # noqa: F401 - where the modules of the neighbouring suites are
from boundaries import Boundaries
from broker import missing
from matrix import Load, run_matrix, seed_of_run
from schedule import schedule
from topologies import SESSION_TIMEOUT, on_kafka
from tracer import why_impossible

_SETTLE = 600.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=110, help="kills at random instants")
    parser.add_argument("--boundary", type=int, default=10, help="kills at each boundary of persistence")
    parser.add_argument("--brokers", type=int, default=3, choices=(1, 3), help="of the run with random instants")
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        sys.exit(f"{reason}.")
    kills = 0
    seed = seed_of_run()
    if options.kills:
        kills += _random(seed, options.kills, options.brokers)
    if options.boundary:
        kills += _boundaries(seed, options.boundary)
    print(f"The crash matrix held: {kills} kills.")
    return 0


def _random(seed: int, kills: int, brokers: int) -> int:
    with _folder() as folder, on_kafka(Path(folder), brokers) as topology:
        faults = schedule(
            seed,
            topology.weights,
            kills,
            zombies=topology.zombies * 2,
            zombie_seconds=SESSION_TIMEOUT + 3,
            proxied=list(topology.store_ways),
            fillable=topology.fillable,
        )
        totals = run_matrix(topology, Path(folder) / "load", seed, faults, _SETTLE)
    print(f"Random instants, {brokers} brokers: {totals}", flush=True)
    if not topology.fillable:
        print(f"No broker's disk became full: {why_impossible()}.", flush=True)
    return totals.kills


def _boundaries(seed: int, times: int) -> int:
    def strike(topology: object, load: Load, supervisor: object, witness: object) -> Counter[str]:
        made = Boundaries(topology, load, supervisor, witness)  # type: ignore[arg-type]
        made.strike_each(times)
        return made.struck

    with _folder() as folder, on_kafka(Path(folder)) as topology:
        totals = run_matrix(topology, Path(folder) / "load", seed, (), _SETTLE, strike)
    print(f"Boundaries of persistence: {totals}", flush=True)
    assert all(totals.faults[name] >= times for name in totals.faults)
    return totals.kills


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="auditspan-crash-")


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(code)
