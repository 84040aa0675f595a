"""Evidence: export and verification of events with 1 kB payloads, and how memory depends on their number.

    python -m benchmarks.evidence [--events N]

Figures: export ≥ 100,000 events per second, verification ≥ 60,000 events per CPU-second with every check on, and memory
that does not grow with the size of the export. Exits 1 below 70 % of a figure, rates at the pace of the machine
(`benchmarks.pace`).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.pace import Pace

ROOT = Path(__file__).parent.parent
EXPORT_PER_SECOND = 100_000
VERIFY_PER_CPU_SECOND = 60_000
TOLERANCE = 0.7
GROWTH = 1.35
T0 = 1_795_500_000_000_000_000
BATCH = 20_000
CONTROL, DATA = "c" * 32, "d" * 32
DEPLOYMENT = "benchmark"


def signing_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)


def payloads(first: int, count: int) -> list[bytes]:
    """Spans of about 1 kB, as an inference gateway with much to say sends them."""
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    def attributes(values: dict[str, str]) -> list[KeyValue]:
        return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in values.items()]

    resource_bytes = Resource(
        attributes=attributes({"service.name": "gateway", "audit.source.id": "6f1d2c3b4a5968778695a4b3c2d1e0f0"})
    ).SerializeToString()
    shared = Span(
        name="POST /v1/chat/completions",
        attributes=attributes(
            {
                "audit.event.class": "model.access",
                "audit.action": "chat",
                "audit.outcome": "success",
                "audit.target.id": "frontier-7",
                "audit.target.type": "model",
                "audit.actor.type": "credential",
                "export_control.destination.country": "DE",
                "gen_ai.request.model": "frontier-7",
                "gen_ai.response.model": "frontier-7-2026-10",
                **{f"http.request.header.x-{number}": f"value {number} of a header" for number in range(9)},
            }
        ),
    ).SerializeToString()
    made = []
    for number in range(first, first + count):
        own = Span(
            trace_id=hashlib.sha256(struct.pack(">Q", number)).digest()[:16],
            span_id=struct.pack(">Q", number + 1),
            start_time_unix_nano=T0 + number * 1_000,
            attributes=[
                KeyValue(key="audit.sequence.number", value=AnyValue(int_value=number)),
                *attributes(
                    {
                        "audit.record.id": f"0198f2a4-7c1e-7d3a-{number:016x}",
                        "audit.actor.id": f"sha256:{number % 997:032x}",
                        "client.address": f"192.0.2.{number % 250}",
                    }
                ),
            ],
        ).SerializeToString()
        span = shared + own
        made.append(
            struct.pack(">I", len(resource_bytes)) + resource_bytes + bytes(4) + struct.pack(">I", len(span)) + span
        )
    return made


def facts(number: int) -> bytes:
    flagged = number % 50 == 0
    outcome = "license_required" if flagged else "no_license_required"
    rules = [
        {"authority": "law", "flag": flagged, "governs": flagged, "id": f"us-ear.{each}", "outcome": outcome}
        for each in range(3)
    ]
    document = {
        "v": 1,
        "facts": {"actor": f"sha256:{number % 997:032x}", "destination_country": "CN" if flagged else "DE"},
        "known_by": {"actor": "credential", "destination_country": "address"},
        "in_force": {"from": str(T0), "to": None},
        "rules": rules,
        **dict.fromkeys(("text", "enforced", "governing"), outcome),
        "flagged": flagged,
        "destination": "CN" if flagged else "DE",
        "eccn": "4E091",
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def event_rows(first_leaf: int, offset: int, count: int) -> Any:
    import numpy as np
    import pyarrow as pa

    from auditspan.ledger.commitments import facts_hash
    from auditspan.ledger.header import HEADER_INPUT, event_headers
    from auditspan.ledger.typed_columns import from_header_input, from_payloads
    from auditspan.store.schema import EVENTS

    numbers = range(offset, offset + count)
    bodies, documents = payloads(offset, count), [facts(number) for number in numbers]
    salts = [hashlib.sha256(f"salt {number}".encode()).digest() for number in numbers]
    flagged = [number % 50 == 0 for number in numbers]
    times = np.arange(offset, offset + count) * 1_000 + T0
    values: dict[str, Any] = {
        "log_id": [DATA] * count,
        "offset": list(numbers),
        "ordinal": [0] * count,
        "emitter": ["gateway"] * count,
        "authentication": ["bearer"] * count,
        "encoding": ["otlp_proto"] * count,
        "stream": ["6f1d2c3b4a5968778695a4b3c2d1e0f0"] * count,
        "sequence": list(numbers),
        "record_id": [f"0198f2a4-7c1e-7d3a-{number:016x}" for number in numbers],
        "class": ["model.access"] * count,
        "event_time": times.astype(np.uint64),
        "arrival_time": times,
        "time_basis": ["event"] * count,
        "action": ["chat"] * count,
        "outcome": ["success"] * count,
        "asset": ["frontier-7"] * count,
        "eccn": ["4E091"] * count,
        "destination": ["CN" if each else "DE" for each in flagged],
        "determination": ["license_required" if each else "no_license_required" for each in flagged],
        "flagged": flagged,
        "rule_ids": [["us-ear.0", "us-ear.1", "us-ear.2"] if each else [] for each in flagged],
        "faults": [[]] * count,
        "facts_hash": [bytes.fromhex(facts_hash(s, d)) for s, d in zip(salts, documents, strict=True)],
        "reference_epoch": [1] * count,
        "payload_hash": [hashlib.sha256(b"\x02" + s + p).digest() for s, p in zip(salts, bodies, strict=True)],
        "payload_length": [len(body) for body in bodies],
    }
    columns = pa.table([_column(values[field.name], field.type) for field in HEADER_INPUT], schema=HEADER_INPUT)
    body_array = pa.array(bodies, pa.binary())
    own = {
        "leaf_index": pa.array(range(first_leaf, first_leaf + count), pa.uint64()),
        "sealing_month": pa.array([202611] * count, pa.uint32()),
        "header": event_headers(columns),
        "payload": body_array,
        "salt": pa.array(salts, pa.binary()),
        "facts": pa.array(documents, pa.binary()).dictionary_encode(),
        "missing_facts": pa.array([[]] * count, pa.list_(pa.string())),
    }
    typed = {
        name: table[name]
        for table in (from_header_input(columns), from_payloads(body_array))
        for name in table.column_names
    }
    nothing = pa.nulls(count, pa.dictionary(pa.int32(), pa.string()))
    return pa.table([{**own, **typed}.get(field.name, nothing) for field in EVENTS], schema=EVENTS)


def _column(values: Any, kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode()
    return pa.array(values, kind)


def log_row(
    log_id: str, index: int, name: str, body: dict[str, Any], position: int | None, epoch: int, at: int
) -> dict[str, Any]:
    from auditspan.ledger.header import log_leaf
    from auditspan.store.schema import EVENTS

    header = log_leaf(log_id, name, None if position is None else (position, 0), at, epoch, body)
    own = {"leaf_index": index, "sealing_month": 202611, "header": header, "log_id": log_id, "class": name}
    typed = {"arrival_time": at, "reference_epoch": epoch, "flagged": False, "rule_ids": [], "faults": []}
    return {**dict.fromkeys(EVENTS.names), **own, **typed}


def table_of(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    from auditspan.store.schema import EVENTS

    return pa.table([_column([row[field.name] for row in rows], field.type) for field in EVENTS], schema=EVENTS)


def prepare(folder: Path, events: int) -> None:
    """A store with one data log and the control log that speaks of it."""
    import pyarrow as pa

    from auditspan.canonical import canonical_json
    from auditspan.ledger.checkpoint import Checkpoint, log_origin, sign_checkpoint
    from auditspan.ledger.merkle import CompactRange, leaf_hash
    from auditspan.store.clickhouse import ClickHouseStore
    from auditspan.store.contract import SealedBatch, StoredCheckpoint

    def opened(log_id: str, partition: str) -> dict[str, Any]:
        return {"deployment": DEPLOYMENT, "journal": "b", "log_id": log_id, "partition": partition, "generation": 1}

    def signed(log_id: str, tree: CompactRange) -> StoredCheckpoint:
        note = sign_checkpoint(Checkpoint(log_origin(DEPLOYMENT, log_id), tree.end, tree.root()), signing_key())
        return StoredCheckpoint(log_id, tree.end, base64.b64encode(tree.root()).decode(), note, T0)

    artifact = b"rules: []\n"
    epoch_body = {
        "number": 1,
        "artifacts": [{"name": "p", "kind": "pack", "version": "1", "sha256": hashlib.sha256(artifact).hexdigest()}],
        "software": "b",
    }
    epoch = {"number": 1, "digest": hashlib.sha256(canonical_json(epoch_body)).hexdigest()}

    def batch(log_id: str, first: int, index: int, start: int, end: int, at: int, number: int) -> dict[str, Any]:
        named = epoch if number else {"number": 0, "digest": hashlib.sha256(b"").hexdigest()}
        body = {
            "from": start, "to": end, "first_leaf": first, "sealed": index - first, "duplicates": 0, "conflicts": 0,
            "quarantined": 0, "gaps": 0, "suppressed_digest": hashlib.sha256(b"").hexdigest(), "watermark": str(at),
            "epoch": named, "software": "b",
        }  # fmt: skip
        return log_row(log_id, index, "audit.batch", body, None, number, at)

    store = ClickHouseStore.embedded(folder / "store")
    store.migrate()
    tree, leaf, offset = CompactRange(), 0, 0
    while offset < events:
        count, first = min(BATCH, events - offset), leaf
        head = [log_row(DATA, 0, "audit.log.opened", opened(DATA, "events-0"), None, 1, T0)] if not leaf else []
        leaf += len(head)
        rows = event_rows(leaf, offset, count)
        leaf += count
        at = T0 + (offset + count - 1) * 1_000
        tail = batch(DATA, first, leaf, offset, offset + count, at, 1)
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
    data = signed(DATA, tree)
    entries = [
        ("audit.log.opened", opened(CONTROL, "control")),
        ("audit.log.opened", opened(DATA, "events-0")),
        ("audit.reference.activated", epoch_body),
        (
            "audit.checkpoint",
            {"checkpoints": [{"log_id": DATA, "size": data.size, "root": data.root, "note": data.note}]},
        ),
    ]
    rows = [log_row(CONTROL, 0, "audit.log.opened", opened(CONTROL, "control"), None, 0, T0)]
    rows += [
        log_row(CONTROL, 1 + place, name, {"actor": "b", "body": body}, place, 0, T0)
        for place, (name, body) in enumerate(entries)
    ]
    rows.append(batch(CONTROL, 0, len(rows), 0, len(entries), T0, 0))
    control = CompactRange()
    control.extend(leaf_hash(row["header"]) for row in rows)
    store.append_batch(SealedBatch(CONTROL, 0, table_of(rows)))
    store.append_checkpoints([data, signed(CONTROL, control)])
    store.close()


def export(folder: Path, events: int) -> None:
    from auditspan.exporters.evidence.export import export_package

    from auditspan.store.clickhouse import ClickHouseStore

    store = ClickHouseStore.embedded(folder / "store")
    started, cpu = time.perf_counter(), time.process_time()
    result = export_package(
        store, lambda digest: b"rules: []\n", signing_key(), DEPLOYMENT, folder / "package", time_from=0, time_to=2**62
    )
    report("export", result.leaves, started, cpu)
    store.close()


def verify(folder: Path, events: int) -> None:
    from auditspan.exporters.evidence.verify import verify_package

    from auditspan.ledger.trust import Trust

    started, cpu = time.perf_counter(), time.process_time()
    result = verify_package(folder / "package", Trust(DEPLOYMENT, (signing_key().public_key(),)))
    assert result.verdict == "VALID", result.to_json()
    assert result.counts["payload_matched"] == events
    report("verify", result.counts["leaves"], started, cpu)


def report(name: str, leaves: int, started: float, cpu: float) -> None:
    wall, used = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"name": name, "leaves": leaves, "wall": wall, "cpu": used, "peak_mib": peak}))


def phase(name: str, folder: Path, events: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.evidence", "--phase", name]
    command += ["--folder", str(folder), "--events", str(events)]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1])) if done.stdout.strip() else {}


def measure(events: int) -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        phase("prepare", folder, events)
        figures = {each: phase(each, folder, events) for each in ("export", "verify")}
        figures["size"] = {
            "bytes": sum(path.stat().st_size for path in (folder / "package").rglob("*") if path.is_file())
        }
        return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--phase", choices=("prepare", "export", "verify"))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.phase:
        {"prepare": prepare, "export": export, "verify": verify}[options.phase](options.folder, options.events)
        return 0
    pace = Pace()
    small = measure(options.events // 3)
    pace.look()
    large = measure(options.events)
    pace.look()
    enough = TOLERANCE * pace.value
    speed = {
        "export, events/s": (large["export"]["leaves"] / large["export"]["wall"], EXPORT_PER_SECOND),
        "verify, events/CPU-s": (large["verify"]["leaves"] / large["verify"]["cpu"], VERIFY_PER_CPU_SECOND),
    }
    if options.json:
        peaks = {name: [small[name]["peak_mib"], large[name]["peak_mib"]] for name in ("export", "verify")}
        figures = {
            name: {"value": value, "target": wanted, "pace": pace.value} for name, (value, wanted) in speed.items()
        }
        good = all(value >= enough * wanted for value, wanted in speed.values()) and all(
            after <= GROWTH * before for before, after in peaks.values()
        )
        print(json.dumps({"figures": figures, "peak_mib": peaks, "passed": good}, indent=2))
        return 0 if good else 1
    good = True
    print(
        f"{options.events:,} events of 1 kB, {os.cpu_count()} cores; package {large['size']['bytes'] / 2**20:,.0f} MiB"
    )
    print(f"the machine at {pace.value:.0%} of its pace")
    for name, (value, wanted) in speed.items():
        reached = value >= enough * wanted
        good &= reached
        print(f"{name:<24}{value:>12,.0f}   figure {wanted:,}   {'ok' if reached else 'BELOW 70 %'}")
    for name in ("export", "verify"):
        before, after = small[name]["peak_mib"], large[name]["peak_mib"]
        flat = after <= GROWTH * before
        good &= flat
        print(f"{name + ', peak MiB':<24}{after:>12,.0f}   at a third {before:,.0f}   {'flat' if flat else 'GROWS'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
