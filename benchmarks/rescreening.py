"""How long it takes to screen the past again: stored events against a list that came later.

    python -m benchmarks.rescreening [--events 10000000] [--quick] [--json]

Events are of 5,000 parties of a registry, and one in ten names a consignee and a final recipient of 2,000 whom no
registry knows; some of either are on the list. 100,000 go the whole way through a journal and a processor; the store
then repeats them under later leaves and times, with payloads and facts as they are. Measured is `rescreened`, in a
process of its own, with the list open: at a tenth of the events, and at all of them.

Figure: all of them within five minutes. Exits 1 below 70 % of it at the pace of the machine.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from auditspan.processors.control import open_logs
from auditspan.processors.determine import Determiner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from auditspan import semconv
from auditspan.journal import EntryKind, NewEntry
from auditspan.journal.sqlite import SqliteJournal
from auditspan.policy.reference import Reference
from auditspan.policy.rescreening import rescreened
from auditspan.screening.activated import artifact_of
from auditspan.screening.lists import current_list, import_list
from auditspan.screening.screener import write_index
from auditspan.store.clickhouse import ClickHouseStore
from benchmarks.ordinary_names import ordinary_names
from benchmarks.pace import Pace
from benchmarks.real_list import real_list
from benchmarks.report import PAGE, SKIPPED, TOLERANCE
from benchmarks.sealing import DEPLOYMENT, context_of, processor_of, seal_until

EVENTS: Final = 10_000_000
PARTIES: Final = 5_000
STRANGERS: Final = 2_000
SECONDS: Final = 300.0
_LISTED: Final = 20
_SEALED: Final = 100_000
_MESSAGE: Final = 100
_START: Final = 1_795_500_000_000_000_000
_STEP: Final = 1_000_000
_REPEAT: Final = """
INSERT INTO auditspan.events SELECT * REPLACE (
    leaf_index + {by:UInt64} AS leaf_index, arrival_time + toIntervalMillisecond({by:UInt64}) AS arrival_time
) FROM auditspan.events WHERE events.log_id = {log:String} AND events.leaf_index < {leaves:UInt64} AND payload != ''
"""


def names_of(source: Path) -> tuple[list[str], list[str]]:
    """Names of the parties, and of those whom nobody knows: ordinary ones, and some of the list."""
    with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as file:
        listed = [each["name"] for each in json.load(file)["results"]]
    ordinary = [f"{name} {number % 7}" for number, name in enumerate(ordinary_names(PARTIES + STRANGERS))]
    chosen = random.Random(29).sample(listed, 2 * _LISTED)
    return (
        chosen[:_LISTED] + ordinary[: PARTIES - _LISTED],
        chosen[_LISTED:] + ordinary[PARTIES : PARTIES + STRANGERS - _LISTED],
    )


def registry(names: list[str]) -> bytes:
    """All of one country, each its own ultimate parent."""
    lines = (
        f"  - {{id: p{number}, name: {json.dumps(name)}, country: SG, ultimate_parent: self, "
        f'credentials: ["sha256:{number:08x}"]}}'
        for number, name in enumerate(names)
    )
    return ("parties:\n" + "\n".join(lines) + "\n").encode()


def messages(count: int, strangers: list[str]) -> Iterator[tuple[bytes, int]]:
    """OTLP requests of ``count`` transfers and accesses of about 1 kB, and the time of the last."""
    choose = random.Random(31)
    padding = {f"http.request.header.x-{number}": f"value {number} of a header" for number in range(12)}
    for first in range(0, count, _MESSAGE):
        message = ExportTraceServiceRequest()
        scope = message.resource_spans.add().scope_spans.add()
        for place in range(first, first + _MESSAGE):
            named = place % 10 == 0
            said = {
                semconv.AUDIT_EVENT_CLASS: "model.transfer" if named else "model.access",
                semconv.AUDIT_RECORD_ID: f"record-{place}",
                semconv.AUDIT_OUTCOME: "success",
                semconv.AUDIT_ACTOR_ID: f"sha256:{place % PARTIES:08x}",
                semconv.AUDIT_TARGET_ID: "frontier-7",
                semconv.DESTINATION_COUNTRY: "SG",
                **padding,
            }
            if named:
                said |= {
                    semconv.CONSIGNEE: choose.choice(strangers),
                    semconv.FINAL_RECIPIENT: choose.choice(strangers),
                }
            span = scope.spans.add()
            span.trace_id, span.span_id = (place + 1).to_bytes(16, "big"), (place + 1).to_bytes(8, "big")
            span.name, span.start_time_unix_nano = "transfer" if named else "chat", _START + place * _STEP
            span.end_time_unix_nano = span.start_time_unix_nano
            span.attributes.extend(KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in said.items())
        yield message.SerializeToString(), _START + (first + _MESSAGE) * _STEP


def seal(folder: Path, source: Path, events: int) -> None:
    """Seals events below ``folder`` and repeats them until there are ``events``; keeps the list and its artifact."""
    parties, strangers = names_of(source)
    import_list(source, folder / "list", prepare=write_index)
    (folder / "parties.yaml").write_bytes(registry(parties))
    journal = SqliteJournal(folder / "journal.sqlite", queue_bytes=1 << 30)
    store = ClickHouseStore.embedded(folder / "store")
    store.migrate()
    opening = open_logs(journal, store, DEPLOYMENT, actor="benchmark").data[0]
    determine = Determiner(Reference.load(Reference.packaged_artifacts(registry(parties)), 1)).determine
    processor = processor_of(journal, store, replace(context_of(opening), determine=determine))
    sealed = min(events, _SEALED)
    for body, at in messages(sealed, strangers):
        journal.append([(processor.partition, NewEntry(EntryKind.OTLP, "gateway", "bearer", at, "otlp_proto", body))])
    journal.append([]).result()
    seal_until(processor, None, journal.high_water_mark(processor.partition))
    leaves = processor.tree.size
    journal.close()
    for number in range(1, events // sealed):
        store.command(_REPEAT, {"by": number * leaves, "log": opening.log_id, "leaves": leaves})
    store.close()


def rescreen(folder: Path) -> dict[str, Any]:
    """Screens what is stored below ``folder``, in this process."""
    current = current_list(folder / "list")
    assert current is not None
    name, content = artifact_of(current, folder / "list")
    artifacts = Reference.packaged_artifacts((folder / "parties.yaml").read_bytes())
    reference = Reference.load({**artifacts, name: content}, 1, folder=folder / "reference")
    assert reference.screening is not None
    screener = reference.screening.open()
    store = ClickHouseStore.embedded(folder / "store")
    counted = store.query("SELECT count() AS events FROM auditspan.events WHERE facts != ''")
    pace = Pace()
    wall, cpu = time.perf_counter(), time.process_time()
    found = rescreened(store, reference, 0, _START)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    pace.look()
    store.close()
    return {
        "events": counted["events"][0].as_py(),
        "seconds": wall,
        "cpu_seconds": cpu,
        "names_screened": screener.asked - screener.answered_from_memory,
        "found": len(found),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "pace": pace.value,
    }


def measure(source: Path, events: int) -> list[dict[str, Any]]:
    """A tenth of ``events``, and all of them."""
    runs = []
    for count in (events // 10, events):
        with tempfile.TemporaryDirectory(prefix="auditspan-bench-") as folder:
            command = [sys.executable, "-m", "benchmarks.rescreening", "--events", str(count), "--folder", folder]
            for step in ("seal", "rescreen"):
                done = subprocess.run(
                    [*command, "--step", step], cwd=PAGE.parent.parent, stdout=subprocess.PIPE, check=True
                )
            runs.append(json.loads(done.stdout))
    return runs


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--quick", action="store_true", help="a short run: a million events")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--step", choices=("seal", "rescreen"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    path = real_list()
    if path is None:
        return SKIPPED
    if arguments.step == "seal":
        seal(arguments.folder, path, arguments.events)
        return 0
    if arguments.step == "rescreen":
        print(json.dumps(rescreen(arguments.folder)))
        return 0
    runs = measure(path, 1_000_000 if arguments.quick else arguments.events)
    if arguments.json:
        print(json.dumps({"rescreening": runs, "target": SECONDS}, indent=2))
    else:
        for each in runs:
            print(
                f"{each['events']:,} events: {each['seconds']:.1f} s, {each['cpu_seconds']:.1f} CPU-seconds, "
                f"{each['names_screened']:,} names screened, {each['found']} likenesses, "
                f"{each['peak_memory_mb']:.0f} MB, pace {each['pace']:.0%}"
            )
    last = runs[-1]
    return 0 if last["seconds"] * last["pace"] * TOLERANCE <= SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
