"""How fast events are judged: the `Determiner` alone, on batches that were decoded from OTLP before.

    python -m benchmarks.determination [--events N] [--tuples N] [--json]

Events are provisioning and transfers, drawn at random from 5,000 that differ in what they are judged by: parties of a
registry of 2,000 with parents in other countries, instance types, regions, quantities. They come in batches of 20,000,
as a processor takes them. Every tuple of facts is judged once and then remembered, so cost falls with the number of
events: the figure counts the judging of all 5,000, and *remembered* is the second pass over the same events. *Memory
too small* draws from five times as many tuples as the bounded memory holds: nearly every event is judged anew.

Figure: 150,000 events per CPU-second. Exits 1 below 70 % of it at the pace of the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
from auditspan.processors.batch import LogContext, LogState, Opening, derive
from auditspan.processors.determine import Determiner
from auditspan.processors.epochs import epoch_of
from auditspan.processors.intake import LARGEST_BATCH_ROWS, decode_entries
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from auditspan import semconv
from auditspan.journal.contract import Entry, EntryKind
from auditspan.policy.reference import Reference
from benchmarks.decide import questions, registry
from benchmarks.pace import Pace
from benchmarks.report import TOLERANCE
from benchmarks.workload import SPANS_A_MESSAGE, START

TARGET: Final = 150_000
TUPLES: Final = 5_000
LARGER: Final = 100_000
"""Tuples of the last measurement: five times what a `Determiner` remembers."""
_LAST_EVENTS: Final = 40_000
_STEP: Final = 1_000_000
"""Nanoseconds from one event to the next."""


class Clocked:
    """`Determiner.determine` with the CPU time that it takes, of all threads."""

    def __init__(self, reference: Reference) -> None:
        self.determiner = Determiner(reference)
        self.start()

    def start(self) -> None:
        """Forget what was measured so far, not what was judged."""
        self.events, self.cpu_seconds = 0, 0.0
        self.determiner.hits = self.determiner.misses = 0

    def __call__(self, spans: pa.Table) -> pa.Table:
        began = time.process_time()
        found = self.determiner.determine(spans)
        self.cpu_seconds += time.process_time() - began
        self.events += len(spans)
        return found

    def figures(self) -> dict[str, float]:
        """What was measured since `start`."""
        hits, misses = self.determiner.hits, self.determiner.misses
        return {
            "events": self.events,
            "judged": misses,
            "looked_up_in_memory": hits,
            "hit_rate": hits / (hits + misses),
            "events_without_judging": 1 - misses / self.events,
            "events_per_cpu_second": self.events / self.cpu_seconds,
        }


def _message(asked: list[Mapping[str, Any]], first: int, choose: random.Random) -> bytes:
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "bench"
    spans = group.scope_spans.add().spans
    for number, question in enumerate(asked, first):
        span = spans.add(trace_id=choose.randbytes(16), span_id=choose.randbytes(8), name="provision")
        span.start_time_unix_nano = span.end_time_unix_nano = START + number * _STEP
        for key, value in question.items():
            said = span.attributes.add(key=key).value
            if isinstance(value, int):
                said.int_value = value
            else:
                said.string_value = value
        span.attributes.add(key=semconv.AUDIT_OUTCOME).value.string_value = "success"
    return made.SerializeToString()


def batches(events: int, tuples: int, seed: int = 1) -> Iterator[list[Entry]]:
    """Journal entries of ``events`` events drawn from ``tuples``, batch by batch."""
    choose = random.Random(seed)
    known = list(questions(tuples))
    entries: list[Entry] = []
    for offset, first in enumerate(range(0, events, SPANS_A_MESSAGE)):
        body = _message(choose.choices(known, k=SPANS_A_MESSAGE), first, choose)
        arrival = START + (first + SPANS_A_MESSAGE) * _STEP
        entries.append(Entry("0", offset, EntryKind.OTLP, "bench", "bearer", arrival, "otlp_proto", body))
        if len(entries) * SPANS_A_MESSAGE == LARGEST_BATCH_ROWS:
            yield entries
            entries = []
    if entries:
        yield entries


def _context(clocked: Clocked) -> LogContext:
    opening = Opening("bench.local", "bench", "0", "00" * 16, START)
    epoch = epoch_of(clocked.determiner.reference.to_control_body())
    return LogContext(opening, bytes(32), epoch, "auditspan benchmark", clocked)


def judge(clocked: Clocked, events: int, tuples: int) -> dict[str, float]:
    """Derive the leaves of ``events`` events, as a processor does, and what their determination took."""
    clocked.start()
    context = _context(clocked)
    for entries in batches(events, tuples):
        # Each batch for itself: what is judged is the same, and the identities of earlier ones need no memory here.
        state = replace(LogState(), next_offset=entries[0].offset)
        derive(entries, decode_entries(entries), state, context, lambda _: {})
    return clocked.figures()


def measure(events: int, tuples: int) -> dict[str, Any]:
    """The three measurements, and the pace of the machine."""
    reference = Reference.packaged(registry())
    pace = Pace()
    clocked = Clocked(reference)
    found = {f"{tuples:,} tuples": judge(clocked, events, tuples)}
    pace.look()
    found[f"{tuples:,} tuples, remembered"] = judge(clocked, events, tuples)
    pace.look()
    found[f"{LARGER:,} tuples, memory too small"] = judge(Clocked(reference), min(events, _LAST_EVENTS), LARGER)
    pace.look()
    return {"figures": found, "target": TARGET, "pace": pace.value}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--tuples", type=int, default=TUPLES)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    found = measure(arguments.events, arguments.tuples)
    first = next(iter(found["figures"].values()))
    passed = first["events_per_cpu_second"] >= TARGET * TOLERANCE * found["pace"]
    if arguments.json:
        print(json.dumps(found | {"passed": passed}, indent=2))
    else:
        print(f"pace {found['pace']:.0%}")
        for name, each in found["figures"].items():
            print(
                f"{name:34}{each['events_per_cpu_second']:12,.0f} events per CPU-second; {each['judged']:,} judged, "
                f"{each['hit_rate']:.1%} of the tuples of a batch known, {each['events_without_judging']:.2%} of events"
            )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
