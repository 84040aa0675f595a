"""Kafka → store, two processors, the collector, and how cost grows: a real broker, a store of its own process.

    python -m benchmarks.kafka [--spans N] [--backlog TIMES] [--quick] [--write] [--json]

Exits 1 if a figure is below 70 % of its target (rates at the pace of the machine), 3 where no broker can be started.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.kafka import collector, growth, to_store
from benchmarks.kafka.deployment import cluster, missing
from benchmarks.kafka.growth import Growth
from benchmarks.kafka.page import page, write_page
from benchmarks.pace import Pace
from benchmarks.report import SKIPPED, Row, machine, table

QUICK = ["--spans", "50000", "--backlog", "2", "--seconds", "4"]


def measure(spans: int, backlog: int, seconds: float) -> tuple[list[Row], Growth]:
    """Every figure, and how cost grows."""

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    pace = Pace()
    with cluster() as running:
        plain = to_store.backlog(running, spans, backlog, say)
        one, two = to_store.two_processors(running, spans, say)
        pace.look()
        fast, half = collector.collect(running, seconds, say)
        pace.look()
        grown = growth.measure(running, spans, plain, one, say)
    return [*to_store.rows(plain, one, two, pace.value), *collector.rows(fast, half, pace.value)], grown


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print, and say by the exit status whether the figures are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=1_000_000, help="of a figure")
    parser.add_argument("--backlog", type=int, default=5, help="how many times as many the longest backlog has")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each load on the collector")
    parser.add_argument("--quick", action="store_true", help=f"the same as {' '.join(QUICK)}")
    parser.add_argument("--write", action="store_true", help="put how cost grows into docs/benchmarks.md")
    parser.add_argument("--json", action="store_true", help="print all as JSON")
    arguments = parser.parse_args(given)
    if arguments.quick:
        arguments = parser.parse_args([*QUICK, *(given if given is not None else sys.argv[1:])])
    reason = missing()
    if reason is not None:
        print(f"skipped: needs java and mvn ({reason})", file=sys.stderr)
        return SKIPPED
    rows, grown = measure(arguments.spans, arguments.backlog, arguments.seconds)
    passed = all(row.passed for row in rows)
    document = json.loads(json.dumps(asdict(grown)))
    when = machine(short=arguments.quick)
    if arguments.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "growth": document, "passed": passed}, indent=1))
    else:
        print("\n".join([*table(rows), "", *page(document, when)]))
    if arguments.write:
        write_page(document, when)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
