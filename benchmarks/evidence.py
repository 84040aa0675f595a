"""Evidence: what is sealed is exported and verified, and how time and memory depend on how much there is.

    python -m benchmarks.evidence [--events N] [--day N]

Events have payloads of 1 kB, and a third as many have ordinary ones of 570 B; determinations are by the shipped rules.
Measured are: the tree with its checkpoints; an export, beside a plain ``COPY … TO`` of the same rows by DuckDB; a
verification with every check on, the process that makes determinations again counted in; memory at a third of the
events and at all; and one day of a log of 10⁸ leaves, of which nothing but the day is there.

Exits 1 below 70 % of a figure, rates at the pace of the machine (`benchmarks.pace`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auditspan.buffers import keep_buffers
from auditspan.cli.without_pandas import without_pandas
from benchmarks.evidence_day import export_day, prepare_day, verify_day
from benchmarks.evidence_rows import (
    DATA,
    DEPLOYMENT,
    SHAPES,
    T0,
    artifact,
    batch_row,
    event_rows,
    log_row,
    opened_body,
    signed,
    signing_key,
    store_control,
    table_of,
)
from benchmarks.pace import Pace

ROOT = Path(__file__).parent.parent
TREE_PER_CPU_SECOND = 400_000
EXPORT_BY_COPY = 0.5
VERIFY_PER_CPU_SECOND = 120_000
VERIFY_LARGE_PER_CPU_SECOND = 60_000
PROOF_BYTES = 4_000
PEAK_MIB = 476
"""500 MB."""
TOLERANCE = 0.7
GROWTH = 1.35
BATCH = 20_000
TREE_LEAVES = 400_000
_LOOK_SECONDS = 0.25
"""Between two looks at the most memory that a process has had: looking costs time of the process that is measured."""


def prepare(folder: Path, events: int, shape: str = "1 kB") -> None:
    """A store with one data log and the control log that speaks of it."""
    import pyarrow as pa

    from auditspan.ledger.merkle import CompactRange, leaf_hash
    from auditspan.store.clickhouse import ClickHouseStore
    from auditspan.store.contract import SealedBatch

    store = ClickHouseStore.embedded(folder / "store")
    store.migrate()
    tree, leaf, offset = CompactRange(), 0, 0
    while offset < events:
        count, first = min(BATCH, events - offset), leaf
        head = [log_row(DATA, 0, "audit.log.opened", opened_body(DATA, "events-0"), None, 1, T0)] if not leaf else []
        leaf += len(head)
        rows = event_rows(leaf, offset, count, shape)
        leaf += count
        at = T0 + (offset + count - 1) * 1_000
        tail = batch_row(DATA, first, leaf, offset, offset + count, at, 1)
        leaf += 1
        offset += count
        whole = (
            pa.concat_tables([table_of([*head]), rows, table_of([tail])])
            if head
            else pa.concat_tables([rows, table_of([tail])])
        )
        nodes: list[tuple[int, int, bytes]] = []
        tree.extend(map(leaf_hash, whole["header"].to_pylist()), lambda *node, into=nodes: into.append(node))
        store.append_batch(SealedBatch(DATA, first, whole.unify_dictionaries().combine_chunks()))
        kept = [node for node in nodes if node[0] % 8 == 0]
        store.append_nodes(
            DATA,
            pa.table(
                {
                    "level": pa.array([node[0] for node in kept], pa.uint8()),
                    "node_index": pa.array([node[1] for node in kept], pa.uint64()),
                    "hash": pa.array([node[2] for node in kept], pa.binary()),
                }
            ),
        )
    store_control(store, signed(DATA, tree))
    store.close()


def export(folder: Path, events: int) -> None:
    from auditspan.exporters.evidence.export import export_package

    from auditspan.store.clickhouse import ClickHouseStore

    store = ClickHouseStore.embedded(folder / "store")
    started, cpu = time.perf_counter(), time.process_time()
    result = export_package(store, artifact, signing_key(), DEPLOYMENT, folder / "package", time_from=0, time_to=2**62)
    report("export", result.leaves, started, cpu)
    store.close()


def verify(folder: Path, events: int) -> None:
    from auditspan.exporters.evidence.verify import verify_package

    from auditspan.ledger.trust import Trust

    with ChildrenPeak() as children:
        started, cpu = time.perf_counter(), time.process_time()
        result = verify_package(folder / "package", Trust(DEPLOYMENT, (signing_key().public_key(),)))
        assert result.verdict == "VALID", result.to_json()
        assert result.counts["payload_matched"] == events
        report("verify", result.counts["leaves"], started, cpu, children_mib=children.mib)


def copy(folder: Path, events: int) -> None:
    """The rows of the package's events written again by DuckDB: the same columns, the same compression.

    They are in memory before, so that writing alone is measured: some 5 GB for a million.
    """
    import duckdb

    source, target = str(folder / "package" / "events" / "*.parquet"), str(folder / "copy.parquet")
    connection = duckdb.connect()
    rows = connection.read_parquet(source).arrow()
    connection.register("rows", rows if not hasattr(rows, "read_all") else rows.read_all())
    started, cpu = time.perf_counter(), time.process_time()
    connection.execute(f"COPY rows TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")
    report("copy", events, started, cpu)


class ChildrenPeak:
    """The most memory that processes started by this one have had, the largest of each added up: ``mib``."""

    def __init__(self) -> None:
        self._peaks: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> ChildrenPeak:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def mib(self) -> float:
        return sum(self._peaks.values()) / 1024

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            for tasks in Path("/proc/self/task").glob("*/children"):
                try:
                    for child in map(int, tasks.read_text().split()):
                        said = Path(f"/proc/{child}/status").read_text()
                        # Until it runs its own program, a process has the memory of the one that started it.
                        if b"judge" in Path(f"/proc/{child}/cmdline").read_bytes():
                            self._peaks[child] = int(said.split("VmHWM:")[1].split()[0])
                except (OSError, IndexError):
                    continue  # it has ended meanwhile


def tree(folder: Path, events: int) -> None:
    """Leaf hashes, nodes, and a signed checkpoint for each batch, as the processors make them."""
    import pyarrow as pa

    from auditspan.ledger.hashing import leaf_hashes
    from auditspan.ledger.merkle import CompactRange

    headers = event_rows(1, 0, BATCH)["header"].combine_chunks()
    batches = [pa.array(headers.to_pylist(), pa.binary()) for _ in range(3)]
    made: list[Any] = []
    whole = CompactRange()
    started, cpu = time.perf_counter(), time.process_time()
    for number in range(TREE_LEAVES // BATCH):
        whole.extend_column(leaf_hashes(batches[number % 3]), lambda *nodes: made.append(nodes))
        signed(DATA, whole)
    assert whole.end == TREE_LEAVES and made
    report("tree", TREE_LEAVES, started, cpu)


def day(folder: Path, events: int) -> None:
    """One day of a long log: prepared, exported, verified."""
    prepare_day(folder, events)
    started, cpu = time.perf_counter(), time.process_time()
    proof = export_day(folder)
    exported = time.perf_counter() - started
    leaves = verify_day(folder)
    report("day", leaves, started, cpu, proof_bytes=proof, export_seconds=exported)


def report(name: str, leaves: int, started: float, cpu: float, **more: float) -> None:
    """Print what was measured, with the processes that were waited for."""
    wall, used = time.perf_counter() - started, time.process_time() - cpu
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    used += others.ru_utime + others.ru_stime
    # What the system says of ended processes is what this one had when it started them.
    peak = own.ru_maxrss / 1024 + more.get("children_mib", 0.0)
    print(json.dumps({"name": name, "leaves": leaves, "wall": wall, "cpu": used, "peak_mib": peak, **more}))


PHASES: dict[str, Callable[[Path, int], None]] = {
    "export": export, "copy": copy, "verify": verify, "tree": tree, "day": day,
}  # fmt: skip


def phase(name: str, folder: Path, events: int, shape: str = "1 kB") -> dict[str, Any]:
    """Run a part in a process of its own, and what it found."""
    command = [sys.executable, "-m", "benchmarks.evidence", "--phase", name, "--shape", shape]
    command += ["--folder", str(folder), "--events", str(events)]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1])) if done.stdout.strip() else {}


def measure(events: int, shape: str, *names: str) -> dict[str, dict[str, Any]]:
    """The figures of parts, and the size of the package, for so many events of a shape."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        phase("prepare", folder, events, shape)
        figures = {each: phase(each, folder, events) for each in names}
        files = (path for path in (folder / "package").rglob("*") if path.is_file())
        figures["size"] = {"bytes": sum(path.stat().st_size for path in files)}
        return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--day", type=int, default=1_000_000, help="leaves of the day of the long log; 0: leave it out")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--phase", choices=["prepare", *PHASES])
    parser.add_argument("--shape", choices=SHAPES, default="1 kB")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.phase == "prepare":
        prepare(options.folder, options.events, options.shape)
        return 0
    if options.phase:
        # As the program starts that a person runs.
        without_pandas()
        keep_buffers()
        PHASES[options.phase](options.folder, options.events)
        return 0
    pace = Pace()
    ordinary = measure(options.events // 3, "570 B", "export", "verify")
    pace.look()
    small = measure(options.events // 3, "1 kB", "export", "copy", "verify", "tree")
    pace.look()
    large = measure(options.events, "1 kB", "export", "verify")
    pace.look()
    long: dict[str, Any] = {}
    if options.day:
        with tempfile.TemporaryDirectory() as name:
            long = phase("day", Path(name), options.day)
    found = judged(ordinary, small, large, long, pace.value)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        show(found, options.events, large["size"]["bytes"])
    return 0 if found["passed"] else 1


def judged(
    ordinary: dict[str, Any], small: dict[str, Any], large: dict[str, Any], long: dict[str, Any], pace: float
) -> dict[str, Any]:
    """The figures beside their targets, and whether they are reached as far as they must be."""

    def rate(run: dict[str, Any], name: str, per: str) -> float:
        return float(run[name]["leaves"] / run[name][per])

    speed = {
        "tree and checkpoints, leaves/CPU-s": (rate(small, "tree", "cpu"), TREE_PER_CPU_SECOND),
        "verify, 570 B, events/CPU-s": (rate(ordinary, "verify", "cpu"), VERIFY_PER_CPU_SECOND),
        "verify, 1 kB, events/CPU-s": (rate(large, "verify", "cpu"), VERIFY_LARGE_PER_CPU_SECOND),
    }
    plain = {
        "export, 570 B, events/s": rate(ordinary, "export", "wall"),
        "export, 1 kB, events/s": rate(large, "export", "wall"),
    }
    least = {"export by DuckDB's COPY": (small["copy"]["wall"] / small["export"]["wall"], EXPORT_BY_COPY)}
    most = {f"{name}, peak MiB": (large[name]["peak_mib"], PEAK_MIB) for name in ("verify",)}
    if long:
        most["one day of 10⁸ leaves, bytes of proof"] = long["proof_bytes"], PROOF_BYTES
    peaks = {name: [small[name]["peak_mib"], large[name]["peak_mib"]] for name in ("export", "verify")}
    good = all(value >= TOLERANCE * pace * wanted for value, wanted in speed.values())
    good &= all(value >= wanted for value, wanted in least.values())
    good &= all(value <= wanted for value, wanted in most.values())
    good &= all(after <= GROWTH * before for before, after in peaks.values())
    return {
        "figures": {name: {"value": value, "target": wanted, "pace": pace} for name, (value, wanted) in speed.items()},
        "plain": plain,
        "least": {name: {"value": value, "target": wanted} for name, (value, wanted) in least.items()},
        "most": {name: {"value": value, "target": wanted} for name, (value, wanted) in most.items()},
        "peak_mib": peaks,
        "day": long,
        "passed": good,
    }


def show(found: dict[str, Any], events: int, size: int) -> None:
    """Print the figures for a person."""
    print(f"{events:,} events, {os.cpu_count()} cores; package {size / 2**20:,.0f} MiB")
    for name, each in found["figures"].items():
        reached = each["value"] >= TOLERANCE * each["pace"] * each["target"]
        said = "ok" if reached else "BELOW 70 %"
        print(f"{name:<40}{each['value']:>12,.0f}   figure {each['target']:,} at pace {each['pace']:.0%}   {said}")
    for name, value in found["plain"].items():
        print(f"{name:<40}{value:>12,.0f}")
    for kind, is_good in (("least", float.__ge__), ("most", float.__le__)):
        for name, each in found[kind].items():
            said = "ok" if is_good(float(each["value"]), float(each["target"])) else "MISSED"
            print(f"{name:<40}{each['value']:>12,.2f}   at {kind} {each['target']:,}   {said}")
    for name, (before, after) in found["peak_mib"].items():
        said = "flat" if after <= GROWTH * before else "GROWS"
        print(f"{name + ', peak MiB':<40}{after:>12,.0f}   at a third {before:,.0f}   {said}")
    if found["day"]:
        day = found["day"]
        print(f"one day: {day['leaves']:,} leaves exported in {day['export_seconds']:.0f} s, nothing else touched")


if __name__ == "__main__":
    sys.exit(main())
