"""Journal → store: decode, determine, seal, insert with fsync; spans per CPU-second of the whole process, and memory.

All threads count, those of the embedded store too. The journal is filled before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from auditspan.processors.batch import LogContext
from auditspan.processors.control import open_logs
from auditspan.processors.determine import Determiner
from auditspan.processors.epochs import epoch_of
from auditspan.processors.memory import keep_buffers
from auditspan.processors.metrics import ProcessorMetrics
from auditspan.processors.processor import LogProcessor
from prometheus_client import CollectorRegistry

from auditspan.journal.sqlite import SqliteJournal
from auditspan.policy.reference import Reference
from auditspan.store.clickhouse import ClickHouseStore
from benchmarks.workload import LARGE, SMALL, Shape, entries

TARGETS = {LARGE.name: 50_000, SMALL.name: 70_000}
MEMORY_LIMIT = 1.5e9
_SHAPES = {"large": LARGE, "small": SMALL}
_WARM_UP = 60_000


@dataclass
class Figures:
    """One run. Rates are per CPU-second of the process; memory is its largest resident size in bytes."""

    shape: str
    spans: int
    cpu_seconds: float
    wall_seconds: float
    spans_per_cpu_second: float
    peak_memory: int
    stages: dict[str, float]


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
    journal = SqliteJournal(folder / "journal.sqlite")
    store = ClickHouseStore.embedded(folder / "store")
    store.migrate()
    reference = Reference.packaged()
    logs = open_logs(journal, store, "bench.local", actor="benchmark")
    context = LogContext(
        opening=logs.data[0],
        salt_key=secrets.token_bytes(32),
        epoch=epoch_of(reference.to_control_body()),
        software="auditspan benchmark",
        determine=Determiner(reference).determine,
    )
    metrics = ProcessorMetrics(CollectorRegistry()).of("events-0")
    processor = LogProcessor(journal, store, context, metrics, minimum_interval=0.0)
    while processor.tree.size < _WARM_UP // 2:
        processor.run_once(0)
    before = processor.tree.size
    cpu, wall = time.process_time(), time.perf_counter()
    while processor.run_once(0):
        pass
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    sealed = processor.tree.size - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    journal.close()
    store.close()
    return Figures(shape.name, sealed, cpu, wall, sealed / cpu, peak, {})


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
    arguments = parser.parse_args()
    if arguments.part == "fill":
        fill(arguments.folder, _SHAPES[arguments.shape], arguments.spans)
        return 0
    if arguments.part == "measure":
        print(json.dumps(asdict(measure(arguments.folder, _SHAPES[arguments.shape], arguments.spans))))
        return 0
    failed = False
    scale = 10 if arguments.quick else 1
    for shape, spans in (("large", 1_000_000), ("small", 1_000_000), ("large", 3_000_000)):
        figures = run(shape, spans // scale)
        target = TARGETS[figures.shape]
        failed |= figures.spans_per_cpu_second < 0.7 * target or figures.peak_memory > MEMORY_LIMIT / 0.7
        print(
            f"{figures.shape}: {figures.spans:,} spans, {figures.spans_per_cpu_second:,.0f} a CPU-second "
            f"(target {target:,}), {figures.spans / figures.wall_seconds:,.0f}/s wall, "
            f"peak memory {figures.peak_memory / 1e6:,.0f} MB",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
