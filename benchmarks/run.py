"""Every benchmark, one after the other, and one table: figure, target, verdict.

    python -m benchmarks.run [--quick] [--write] [--only NAME]

``--quick`` is a short run for a first look. ``--write`` puts the figures into ``docs/benchmarks.md``; with ``--only``
those of one benchmark, beside the others that stand there. Exits 1 if any is below 70 % of its target, rates at the
pace of the machine (`benchmarks.pace`). What needs Kafka is skipped, and says so, where no broker can be started;
screening where its extra is not installed.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.alert_page import page as alert_page
from benchmarks.alert_page import write_page as write_alert_page
from benchmarks.kafka.page import page as kafka_page
from benchmarks.kafka.page import write_page as write_kafka_page
from benchmarks.pace import REFERENCE, hash_rate
from benchmarks.report import PAGE, SKIPPED, Row, aligned, machine, table, write, write_again
from benchmarks.screening_page import page as screening_page
from benchmarks.screening_page import rows as screening_rows
from benchmarks.screening_page import write_page as write_screening_page

_MILLION = 10**6
_SCREENING = "the extra `screening`"


@dataclass(frozen=True)
class Benchmark:
    """A program, the arguments of a short run, what its JSON says, and the arguments of every run."""

    module: str
    quick: list[str]
    rows: Callable[[dict[str, Any]], Iterator[Row]]
    always: tuple[str, ...] = ()
    needs: str = "java and mvn"
    """What it is skipped without."""
    begins: str = ""
    """What the names of all its figures begin with, and those of no other."""


def _pipeline(found: dict[str, Any]) -> Iterator[Row]:
    targets = {"1 kB": 50_000, "570": 70_000}
    for each in found["runs"]:
        spans = f"{each['spans'] / _MILLION:.1f}M spans"
        target = next(value for start, value in targets.items() if each["shape"].startswith(start))
        name = f"journal → store, {each['shape'].split(',')[0]}, {spans}"
        yield Row(f"{name}: spans per CPU-second", each["spans_per_cpu_second"], target, pace=each["pace"])
        yield Row(f"{name}: peak memory", each["peak_memory"] / _MILLION, 1500, limit=True, unit=" MB")
        share = 100 * each["stages"]["determine"] / sum(each["stages"].values())
        yield Row(f"{name}: share of the determination", share, 10, limit=True, unit=" %")
    first, *_, last = found["runs"]
    yield Row(
        "journal → store: memory, last run by first", last["peak_memory"] / first["peak_memory"], 1.25, limit=True
    )


def _asgi_hook(found: dict[str, Any]) -> Iterator[Row]:
    yield Row("ASGI hook, local, p50 by OpenTelemetry's", found["ratios"]["local"], found["target"], limit=True)
    for mode, ratio in found["ratios"].items():
        if mode != "local":
            yield Row(f"ASGI hook, {mode}, p50 by OpenTelemetry's", ratio)


def _evidence(found: dict[str, Any]) -> Iterator[Row]:
    for name, each in found["figures"].items():
        yield Row(f"evidence: {name}", each["value"], each["target"], pace=each["pace"])
    for name, value in found["plain"].items():
        yield Row(f"evidence: {name}", value)
    for name, each in found["least"].items():
        yield Row(f"evidence: {name}", each["value"], each["target"])
    for name, each in found["most"].items():
        yield Row(f"evidence: {name}", each["value"], each["target"], limit=True)
    for name, (before, after) in found["peak_mib"].items():
        yield Row(f"evidence: {name}, memory by that of a third", after / before, 1.35, limit=True)


def _flagged_latency(found: dict[str, Any]) -> Iterator[Row]:
    for name, each in found["figures"].items():
        yield Row(f"answered → flagged in the store, {name}, p50", each["p50_s"], unit=" s")
        yield Row(
            f"answered → flagged in the store, {name}, p99", each["p99_s"], found["target"], limit=True, unit=" s"
        )


def _determination(found: dict[str, Any]) -> Iterator[Row]:
    first, *others = found["figures"].items()
    name, each = first
    yield Row(
        f"determination, {name}: events per CPU-second",
        each["events_per_cpu_second"],
        found["target"],
        pace=found["pace"],
    )
    yield Row(f"determination, {name}: events judged from memory", 100 * each["events_without_judging"], unit=" %")
    for name, each in others:
        yield Row(f"determination, {name}: events per CPU-second", each["events_per_cpu_second"])
        yield Row(f"determination, {name}: events judged from memory", 100 * each["events_without_judging"], unit=" %")


def _decide(found: dict[str, Any]) -> Iterator[Row]:
    for name, each in found["figures"].items():
        yield Row(f"decide, {name}, p50", each["p50_ms"], unit=" ms")
        yield Row(f"decide, {name}, p99", each["p99_ms"], each["target_ms"], limit=True, unit=" ms", pace=found["pace"])


def _alert_budget(found: dict[str, Any]) -> Iterator[Row]:
    calls = f"cases, {found['calls'] / _MILLION:.1f}M calls by {found['parties']:,} parties"
    cases, pairs, sample = found["new_cases_a_day"], found["new_pairs_a_day"], found["sample"]
    yield Row(f"{calls}: unflagged reviews a day", found["unflagged_reviews"] / len(cases))
    yield Row(f"{calls}: new pairs of actor and missing fact, worst day", max(pairs))
    yield Row(f"{calls}: new cases, worst day", max(cases), found["budget"], limit=True)
    yield Row(f"{calls}: new cases a day, mean", sum(cases) / len(cases))
    yield Row(f"{calls}: flagged events as determined", found["flagged_before"])
    hidden = abs(found["flagged_before"] - found["flagged_after"]) + found["flagged_in_cases"]
    yield Row(f"{calls}: flagged events hidden by the grouping", hidden, 0, limit=True)
    missed = abs(found["unflagged_reviews"] - found["in_cases"])
    yield Row(f"{calls}: unflagged reviews in no case, or in two", missed, 0, limit=True)
    yield Row(f"{calls}: a page of all cases", found["page_seconds"], unit=" s")
    yield Row(
        "cases, calls through the processor that give the same", sample["calls"] if sample["same"] else 0, 200_000
    )


def _rescreening(found: dict[str, Any]) -> Iterator[Row]:
    for each in found["rescreening"]:
        name = f"rescreening, {each['events'] / _MILLION:.1f}M events"
        target = found["target"] if each is found["rescreening"][-1] else None
        yield Row(f"{name}: seconds", each["seconds"], target, limit=True, unit=" s", pace=each["pace"])
        yield Row(f"{name}: names screened", each["names_screened"])
        yield Row(f"{name}: peak memory", each["peak_memory_mb"], unit=" MB")


def _kafka(found: dict[str, Any]) -> Iterator[Row]:
    for each in found["rows"]:
        yield Row(**each)


BENCHMARKS = (
    Benchmark("pipeline", ["--quick"], _pipeline),
    Benchmark("asgi_hook", ["--requests", "200", "--rounds", "3"], _asgi_hook, begins="ASGI hook, "),
    Benchmark("evidence", ["--events", "60000", "--day", "50000"], _evidence, begins="evidence: "),
    Benchmark("flagged_latency", ["--rate", "50", "--seconds", "8", "--preload", "20000"], _flagged_latency),
    Benchmark("determination", ["--events", "200000", "--tuples", "1000"], _determination),
    Benchmark("decide", ["--questions", "500"], _decide),
    Benchmark("alert_budget", ["--calls", "1000000"], _alert_budget),
    Benchmark("kafka", ["--quick"], _kafka),
    Benchmark("screening", ["--quick"], screening_rows, ("--growth",), _SCREENING),
    Benchmark("rescreening", ["--quick"], _rescreening, needs=_SCREENING),
)


def measure(benchmark: Benchmark, quick: bool) -> tuple[dict[str, Any] | None, list[Row]]:
    """What it printed as JSON, None when it failed, and its figures."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark.module}", "--json", *benchmark.always,
               *(benchmark.quick if quick else [])]  # fmt: skip
    print(f"{benchmark.module} …", flush=True)
    begin = time.monotonic()
    done = subprocess.run(command, cwd=PAGE.parent.parent, stdout=subprocess.PIPE, text=True, check=False)
    print(f"{benchmark.module}: {time.monotonic() - begin:.0f} s", flush=True)
    if done.returncode == SKIPPED:
        return None, [Row(f"{benchmark.module}: needs {benchmark.needs}", math.nan, note="skipped")]
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return None, [Row(f"{benchmark.module} did not run to its end", 0.0, 1.0)]
    return found, list(benchmark.rows(found))


def stage_table(runs: list[dict[str, Any]]) -> list[str]:
    """µs of CPU per span of each stage of the pipeline, one column for each run."""
    head = ["stage, µs of CPU per span", *(f"{each['shape'].split(',')[0]}, {each['spans']:,} spans" for each in runs)]
    return aligned(head, [[stage, *(f"{each['stages'][stage]:.2f}" for each in runs)] for stage in runs[0]["stages"]])


def only(benchmark: Benchmark, arguments: argparse.Namespace) -> int:
    """Run one, print its figures, and put them into the place of those that it had."""
    speed = hash_rate()
    found, measured = measure(benchmark, arguments.quick)
    when = f"{machine(arguments.quick)} `{benchmark.module}`, the machine at {speed / REFERENCE:.0%}."
    print("\n".join(["", when, "", *table(measured)]))
    if arguments.write and found is not None:
        write_again(benchmark.module, benchmark.begins, when, measured)
    return 0 if all(row.passed for row in measured) else 1


def main() -> int:
    """Run them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a short run: its figures are lower than those of a long one"
    )
    parser.add_argument("--write", action="store_true", help=f"put the figures into {PAGE.name}")
    again = [each.module for each in BENCHMARKS if each.begins]
    parser.add_argument("--only", choices=again, help="run this one alone")
    arguments = parser.parse_args()
    if arguments.only:
        return only(next(each for each in BENCHMARKS if each.module == arguments.only), arguments)
    speed = hash_rate()
    name = f"this machine: SHA-256 of 572 bytes, a CPU-second (the targets' machine: {REFERENCE:,})"
    rows = [Row(name, speed, note=f"{speed / REFERENCE:.0%}")]
    stages: list[str] = []
    kafka: dict[str, Any] | None = None
    alerts: dict[str, Any] | None = None
    screening: list[dict[str, Any]] | None = None
    for benchmark in BENCHMARKS:
        found, measured = measure(benchmark, arguments.quick)
        rows += measured
        if found and "runs" in found:
            stages = ["", *stage_table(found["runs"])]
        if found and "growth" in found:
            kafka = found["growth"]
        if found and "profile" in found:
            alerts = found
        if found and "screening_growth" in found:
            screening = found["screening_growth"]
    when = machine(arguments.quick)
    lines = [when, "", *table(rows), *stages]
    print("\n".join(["", *lines, "", *(kafka_page(kafka, when) if kafka else [])]))
    print("\n".join(alert_page(alerts, when) if alerts else []))
    print("\n".join(screening_page(screening, when) if screening else []))
    if arguments.write:
        write("figures", lines)
        if kafka:
            write_kafka_page(kafka, when)
        if alerts:
            write_alert_page(alerts, when)
        if screening:
            write_screening_page(screening, when)
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
