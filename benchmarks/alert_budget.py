"""How many cases a day open on the profile of `benchmarks.alert_profile`, and that the grouping hides nothing.

Each distinct combination of facts is determined once by the processor's own `Determiner`, and its result stands for
all calls that share it, as in a batch. All calls are sealed as rows of the real store, whose own views group them. A
sample, whole messages of the first week with a flood of strangers, goes the whole way through a journal and a
processor as OTLP, and must give the same cases and flags as the same calls in the short way.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from auditspan.processors.control import open_logs
from auditspan.processors.determine import Determiner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from auditspan import semconv
from auditspan.journal import EntryKind, NewEntry
from auditspan.journal.sqlite import SqliteJournal
from auditspan.policy.reference import Reference
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import SealedBatch
from auditspan.store.schema import EVENTS
from benchmarks.alert_page import page, write_page
from benchmarks.alert_profile import DAY, MESSAGE, PROFILE, START, Calls, Profile, calls_of, registry_of, spans_of
from benchmarks.report import machine
from benchmarks.sealing import DEPLOYMENT, context_of, processor_of, seal_until

BUDGET = 50
"""New cases of a day: the most that an officer and an analyst can look into."""
SAMPLE = 2_000
_ROWS = 200_000
_LOG = "00" * 16
_WEEK = 7

_PAIRS = """
SELECT subject, question, events, toUnixTimestamp64Nano(case_members.first_seen) AS first, own, home, missing_facts,
       case_id
FROM auditspan.case_members ORDER BY subject, question
"""
_IN_BOTH = "SELECT countIf(flagged AND case_subject != '') AS n FROM auditspan.events"
_FLAGS = """
SELECT actor_id, class, determination, flagged, count() AS events FROM auditspan.events
WHERE class != '' AND NOT startsWith(class, 'audit.') GROUP BY ALL ORDER BY ALL
"""


def determined(determiner: Determiner, profile: Profile, calls: Calls) -> tuple[pa.Table, pa.Table]:
    """The calls, and the determination of each: worked out once for those alike."""
    alike = calls.actor * len(profile.kinds) + calls.kind
    _, first, inverse = np.unique(alike, return_index=True, return_inverse=True)
    few = spans_of(profile, calls.actor[first], calls.kind[first], calls.arrival[first])
    take = pa.array(inverse)
    judged = determiner.determine(few).unify_dictionaries()
    return few.take(take), judged.take(take)


def rows_of(calls: Calls, spans: pa.Table, judged: pa.Table, first_leaf: int) -> pa.Table:
    """The calls as rows of the store, with all columns that cases rest on."""
    rows = len(calls)
    emitters = pa.array([f"gateway-{number}" for number in range(int(calls.emitter.max()) + 1)])
    times = pa.array(calls.arrival).cast(EVENTS.field("arrival_time").type)
    late = pa.array([len(codes) > 0 for codes in spans["faults"].to_pylist()])
    governing = judged["governing"].cast(pa.string()).combine_chunks()
    cleared = pc.and_(late, pc.is_in(governing, pa.array(["no_license_required", "exception"])))
    given: dict[str, Any] = {
        "leaf_index": pa.array(np.arange(first_leaf, first_leaf + rows, dtype=np.uint64)),
        "sealing_month": pa.array(np.full(rows, 202611, np.uint32)),
        "header": pa.array([b""], pa.binary()).take(pa.array(np.zeros(rows, np.int64))),
        "log_id": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([_LOG])),
        "emitter": pa.DictionaryArray.from_arrays(pa.array(calls.emitter.astype(np.int32)), emitters),
        "arrival_time": times,
        "event_time": times,
        "actor_id": spans[semconv.AUDIT_ACTOR_ID],
        "class": spans["class"],
        "determination": pc.if_else(cleared, "review", governing),
        "faults": spans["faults"],
        "reference_epoch": pa.array(np.ones(rows, np.int64)),
        **{name: judged[name] for name in ("facts", "flagged", "rule_ids", "why", "missing_facts")},
    }
    columns = [_as(given[f.name], f.type) if f.name in given else pa.nulls(rows, f.type) for f in EVENTS]
    return pa.table(columns, schema=EVENTS)


def _as(column: Any, kind: pa.DataType) -> pa.Array:
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if column.type == kind:
        return column
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return column.cast(kind)


def seal_short(store: ClickHouseStore, profile: Profile, days: Iterator[tuple[int, Calls]]) -> dict[str, int]:
    """Seal the calls of ``days`` as rows; how many there were, and what the determination gave them."""
    counted = {"calls": 0, "flagged": 0, "unflagged_reviews": 0, "distinct": 0}
    determiner: Determiner | None = None
    week = -1
    for day, calls in days:
        if determiner is None or day // _WEEK != week:
            week = day // _WEEK
            determiner = Determiner(Reference.packaged(registry_of(profile, day), week + 1))
        for begin in range(0, len(calls), _ROWS):
            part = Calls(*(column[begin : begin + _ROWS] for column in asdict(calls).values()))
            table = rows_of(part, *determined(determiner, profile, part), counted["calls"])
            store.append_batch(SealedBatch(_LOG, counted["calls"], table))
            review = pc.equal(table["determination"].cast(pa.string()), "review")
            counted["calls"] += len(part)
            counted["flagged"] += pc.sum(table["flagged"]).as_py()
            unflagged = pc.and_(review, pc.invert(table["flagged"]))
            counted["unflagged_reviews"] += pc.sum(unflagged).as_py()
        counted["distinct"] += determiner.misses
        determiner.misses = 0
    return counted


def sample_of(profile: Profile) -> Iterator[tuple[int, Calls]]:
    """Whole messages of the first week with one flood: what the same reference epoch judges."""
    flooded = replace(profile, floods=((1, 10_000, 2),))
    share = SAMPLE // _WEEK
    for day, calls in zip(range(_WEEK), calls_of(flooded), strict=False):
        every = len(calls) // MESSAGE
        chosen = np.unique(np.linspace(0, every - 1, min(share, every)).astype(np.int64))
        if day == 1:
            strangers = np.flatnonzero(calls.actor[::MESSAGE] >= profile.parties)
            chosen = np.unique(np.concatenate((chosen, strangers)))
        yield day, calls.messages(chosen)


def seal_whole(folder: Path, profile: Profile) -> int:
    """The sample through journal and processor into the store of ``folder``; how many calls."""
    journal = SqliteJournal(folder / "journal.sqlite", queue_bytes=1 << 30)
    store = ClickHouseStore.embedded(folder / "store")
    store.migrate()
    context = context_of(open_logs(journal, store, DEPLOYMENT, actor="benchmark").data[0])
    determiner = Determiner(Reference.packaged(registry_of(profile, 0)))
    processor = processor_of(journal, store, replace(context, determine=determiner.determine))
    count = 0
    for _, calls in sample_of(profile):
        spans = spans_of(profile, calls.actor, calls.kind, calls.arrival)
        entries = [
            NewEntry(
                EntryKind.OTLP, f"gateway-{calls.emitter[at]}", "bearer", int(calls.arrival[at]), "otlp_proto",
                request_of(spans.slice(at, MESSAGE), count + at),
            )
            for at in range(0, len(calls), MESSAGE)
        ]  # fmt: skip
        journal.append([(processor.partition, entry) for entry in entries]).result()
        count += len(calls)
    seal_until(processor, None, journal.high_water_mark(processor.partition))
    journal.close()
    store.close()
    return count


def request_of(spans: pa.Table, number: int) -> bytes:
    """One OTLP request of these calls."""
    message = ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    for place, row in enumerate(spans.to_pylist(), number + 1):
        span = scope.spans.add()
        span.trace_id, span.span_id, span.name = place.to_bytes(16, "big"), place.to_bytes(8, "big"), "chat"
        span.start_time_unix_nano = span.end_time_unix_nano = row["event_time"]
        said = {semconv.AUDIT_EVENT_CLASS: row["class"]} | {k: v for k, v in row.items() if "." in k and v is not None}
        span.attributes.extend(KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in said.items())
    return message.SerializeToString()


def look(folder: Path) -> dict[str, Any]:
    """What a store's views say: pairs, cases, flags, and how long a page of cases takes (seconds)."""
    store = ClickHouseStore.embedded(folder / "store")
    begin = time.perf_counter()
    cases = store.query("SELECT *, toUnixTimestamp64Nano(cases.first_seen) AS first FROM auditspan.cases")
    seconds = time.perf_counter() - begin
    found = {
        "pairs": store.query(_PAIRS).to_pylist(),
        "flags": store.query(_FLAGS).to_pylist(),
        "first": cases["first"].to_pylist(),
        "events": int(sum(cases["events"].to_pylist())),
        "page_seconds": seconds,
        "flagged": store.query("SELECT count() AS n FROM auditspan.flagged")["n"][0].as_py(),
        "in_both": store.query("SELECT countIf(flagged AND case_subject != '') AS n FROM auditspan.events")["n"][
            0
        ].as_py(),
    }
    store.close()
    return found


def part(name: str, folder: Path, profile: Profile) -> dict[str, Any]:
    """One of ``all`` (every call, the short way), ``short`` and ``whole`` (the sample), in a process of its own."""
    counted: dict[str, int]
    if name == "whole":
        counted = {"calls": seal_whole(folder, profile)}
    else:
        store = ClickHouseStore.embedded(folder / "store")
        store.migrate()
        counted = seal_short(store, profile, enumerate(calls_of(profile)) if name == "all" else sample_of(profile))
        store.close()
    flagged = counted.pop("flagged", None)
    return {**counted, "flagged_determined": flagged, **look(folder)}


def figures(profile: Profile) -> dict[str, Any]:
    """Run all parts and put together what they found."""
    said: dict[str, dict[str, Any]] = {}
    for name in ("all", "short", "whole"):
        with tempfile.TemporaryDirectory(prefix="auditspan-bench-") as folder:
            command = [sys.executable, "-m", "benchmarks.alert_budget", name, folder, "--calls", str(profile.calls)]
            said[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    every = said["all"]
    days = [0] * profile.days
    pairs = [0] * profile.days
    for first in every["first"]:
        days[(first - START) // DAY] += 1
    for pair in every["pairs"]:
        pairs[(pair["first"] - START) // DAY] += 1
    same = all(said["short"][name] == said["whole"][name] for name in ("pairs", "flags", "flagged", "events"))
    return {
        "profile": profile.words,
        "parties": profile.parties,
        "budget": BUDGET,
        "calls": every["calls"],
        "distinct": every["distinct"],
        "unflagged_reviews": every["unflagged_reviews"],
        "in_cases": every["events"],
        "flagged_before": every["flagged_determined"],
        "flagged_after": every["flagged"],
        "flagged_in_cases": every["in_both"],
        "new_cases_a_day": days,
        "new_pairs_a_day": pairs,
        "page_seconds": every["page_seconds"],
        "sample": {"calls": said["whole"]["calls"], "cases": len(said["whole"]["first"]), "same": same},
    }


def passed(found: dict[str, Any]) -> bool:
    """Whether the budget is kept and nothing is hidden."""
    return bool(
        max(found["new_cases_a_day"]) <= BUDGET
        and found["flagged_before"] == found["flagged_after"]
        and not found["flagged_in_cases"]
        and found["unflagged_reviews"] == found["in_cases"]
        and found["sample"]["same"]
    )


def main() -> int:
    """Print the figures; exits 1 when the budget is not kept or something is hidden."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=["all", "short", "whole"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--calls", type=int, default=PROFILE.calls, help="calls in all")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/benchmarks.md")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    profile = replace(PROFILE, calls=arguments.calls)
    if arguments.part:
        print(json.dumps(part(arguments.part, arguments.folder, profile)))
        return 0
    found = figures(profile)
    when = machine(arguments.calls < PROFILE.calls)
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(page(found, when)))
    if arguments.write:
        write_page(found, when)
    return 0 if passed(found) else 1


if __name__ == "__main__":
    sys.exit(main())
