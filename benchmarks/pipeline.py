"""Journal → store: decode, determine, seal, insert with fsync; spans per CPU-second of the whole process, and memory.

All threads count, those of the embedded store too. The journal is filled before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from auditspan.processors.control import open_logs

from auditspan.buffers import keep_buffers
from auditspan.journal.sqlite import SqliteJournal
from auditspan.store.clickhouse import ClickHouseStore
from benchmarks.pace import Pace
from benchmarks.sealing import DEPLOYMENT, StageClock, context_of, processor_of, seal_until
from benchmarks.workload import LARGE, SMALL, Shape, entries

TARGETS = {LARGE.name: 50_000, SMALL.name: 70_000}
MEMORY_LIMIT = 1.5e9
_SHAPES = {"large": LARGE, "small": SMALL}
_WARM_UP = 60_000
_TOLERANCE = 0.7
_GROWTH = 1.25
"""Largest memory of 3M spans by that of 1M that still counts as flat."""


@dataclass
class Figures:
    """One run. Rates are per CPU-second of the process; memory is its largest resident size in bytes.

    ``stages`` are microseconds of CPU per span. What the store does in the background, such as merging, counts to the
    stage in whose time it falls.
    """

    shape: str
    spans: int
    cpu_seconds: float
    wall_seconds: float
    spans_per_cpu_second: float
    peak_memory: int
    stages: dict[str, float]
    pace: float
    """How fast the machine was, by `benchmarks.pace`."""


def fill(folder: Path, shape: Shape, spans: int) -> None:
    """A journal of ``spans`` spans."""
    journal = SqliteJournal(folder / "journal.sqlite", queue_bytes=1 << 30)
    portion = []
    for entry in entries(spans + _WARM_UP, shape):
        portion.append(("events-0", entry))
        if len(portion) == 200:
            journal.append(portion).result()
            portion = []
    if portion:
        journal.append(portion).result()
    journal.close()


def measure(folder: Path, shape: Shape, spans: int) -> Figures:
    """Seal the journal in ``folder``."""
    keep_buffers()
    pace = Pace()
    clock = StageClock([(SqliteJournal, "read"), (SqliteJournal, "wait")])
    journal = SqliteJournal(folder / "journal.sqlite")
    store = ClickHouseStore.embedded(folder / "store")
    store.migrate()
    opening = open_logs(journal, store, DEPLOYMENT, actor="benchmark").data[0]
    processor = processor_of(journal, store, context_of(opening))
    end = journal.high_water_mark(processor.partition)
    seal_until(processor, _WARM_UP // 2, end)
    done = seal_until(processor, None, end, clock, pace)
    journal.close()
    store.close()
    pace.look()
    return Figures(
        shape=shape.name,
        spans=done.spans,
        cpu_seconds=done.cpu_seconds,
        wall_seconds=done.wall_seconds,
        spans_per_cpu_second=done.rate,
        peak_memory=done.peak_memory,
        stages=done.stages,
        pace=pace.value,
    )


def run(shape: str, spans: int) -> Figures:
    """Fill in one process and measure in another, so that neither's memory is the other's."""
    with tempfile.TemporaryDirectory(prefix="auditspan-bench-") as folder:
        for part in ("fill", "measure"):
            command = [sys.executable, "-m", "benchmarks.pipeline", part, shape, str(spans), folder]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return Figures(**json.loads(said))


def main() -> int:
    """``fill`` and ``measure`` are the two halves of ``run``; without them all shapes are run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=["fill", "measure"])
    parser.add_argument("shape", nargs="?", choices=sorted(_SHAPES))
    parser.add_argument("spans", nargs="?", type=int, default=1_000_000)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the spans")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    if arguments.part == "fill":
        fill(arguments.folder, _SHAPES[arguments.shape], arguments.spans)
        return 0
    if arguments.part == "measure":
        print(json.dumps(asdict(measure(arguments.folder, _SHAPES[arguments.shape], arguments.spans))))
        return 0
    scale = 10 if arguments.quick else 1
    runs = []
    for shape, spans in (("large", 1_000_000), ("small", 1_000_000), ("large", 3_000_000)):
        runs.append(run(shape, spans // scale))
        if not arguments.json:
            _show(runs[-1])
    passed = _passed(runs)
    if arguments.json:
        print(
            json.dumps({"cores": os.cpu_count(), "runs": [asdict(each) for each in runs], "passed": passed}, indent=2)
        )
    return 0 if passed else 1


def _passed(runs: list[Figures]) -> bool:
    fast = all(each.spans_per_cpu_second >= _TOLERANCE * each.pace * TARGETS[each.shape] for each in runs)
    small = all(each.peak_memory <= MEMORY_LIMIT for each in runs)
    return fast and small and runs[-1].peak_memory <= _GROWTH * runs[0].peak_memory


def _show(figures: Figures) -> None:
    print(
        f"{figures.shape}: {figures.spans:,} spans, {figures.spans_per_cpu_second:,.0f} a CPU-second "
        f"(target {TARGETS[figures.shape]:,}, the machine at {figures.pace:.0%} of its pace), "
        f"{figures.spans / figures.wall_seconds:,.0f}/s wall, "
        f"peak memory {figures.peak_memory / 1e6:,.0f} MB"
    )
    for stage, cost in figures.stages.items():
        print(f"    {stage:<26}{cost:6.2f} µs")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
