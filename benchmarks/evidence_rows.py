"""Rows of a sealed log for the benchmarks of evidence: payloads of two sizes, determinations by the shipped rules."""

from __future__ import annotations

import base64
import hashlib
import struct
from functools import cache
from typing import Any

T0 = 1_795_500_000_000_000_000
CONTROL, DATA = "c" * 32, "d" * 32
DEPLOYMENT = "benchmark"
LARGE = {
    "gen_ai.request.model": "frontier-7",
    "gen_ai.response.model": "frontier-7-2026-10",
    **{f"http.request.header.x-{number}": f"value {number} of a header" for number in range(7)},
}
SHAPES: dict[str, dict[str, str]] = {"570 B": {}, "1 kB": LARGE}
"""What a span of each shape says beside what the log reads."""
MODELS = 997
"""Different models that are asked for: with two destinations, so many times two determinations."""


def signing_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)


@cache
def reference() -> Any:
    from auditspan.policy.reference import Reference

    return Reference.packaged()


@cache
def artifacts() -> dict[str, bytes]:
    """What rules are made of, by name."""
    from auditspan.policy.rules import names_of_rules

    content = {each.name: each.content for each in reference().artifacts}
    return {name: content[name] for name in names_of_rules(content)}


@cache
def engine() -> Any:
    return reference().engine()


def payloads(first: int, count: int, shape: str = "1 kB") -> list[bytes]:
    """Spans as an inference gateway sends them: one with much to say, or one with little."""
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
                **SHAPES[shape],
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


@cache
def determined(model: int, country: str) -> Any:
    """The determination of one call."""
    from auditspan.policy.given_facts import facts_from

    given = {"act": "access", "item_kind": "model", "model": f"frontier-{model}", "destination_country": country}
    return engine().determine([facts_from(reference(), given, T0)], T0)


def determination(number: int) -> Any:
    return determined(number % MODELS, "CN" if number % 50 == 0 else "DE")


@cache
def facts(model: int, country: str) -> bytes:
    return bytes(determined(model, country).document_bytes())


def event_rows(first_leaf: int, offset: int, count: int, shape: str = "1 kB") -> Any:
    import numpy as np
    import pyarrow as pa

    from auditspan.ledger.commitments import facts_hash
    from auditspan.ledger.header import HEADER_INPUT, event_headers
    from auditspan.ledger.typed_columns import from_header_input, from_payloads
    from auditspan.store.schema import EVENTS

    numbers = range(offset, offset + count)
    made = [determination(number) for number in numbers]
    bodies = payloads(offset, count, shape)
    documents = [facts(number % MODELS, each.destination) for number, each in zip(numbers, made, strict=True)]
    salts = [hashlib.sha256(f"salt {number}".encode()).digest() for number in numbers]
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
        "eccn": [each.verdict.eccn for each in made],
        "destination": [each.destination for each in made],
        "determination": [each.verdict.governing for each in made],
        "flagged": [each.verdict.flagged for each in made],
        "rule_ids": [list(each.rule_ids) for each in made],
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


@cache
def epoch_body() -> dict[str, Any]:
    """What `audit.reference.activated` says of the only epoch."""
    from auditspan.policy.software import software

    named = [
        {"name": name, "kind": "pack", "version": "1", "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(artifacts().items())
    ]
    return {"number": 1, "artifacts": named, "software": software()}


def artifact(digest: str) -> bytes | None:
    """An artifact by its digest."""
    return {hashlib.sha256(content).hexdigest(): content for content in artifacts().values()}.get(digest)


def opened_body(log_id: str, partition: str) -> dict[str, Any]:
    return {"deployment": DEPLOYMENT, "journal": "b", "log_id": log_id, "partition": partition, "generation": 1}


def batch_row(log_id: str, first: int, index: int, start: int, end: int, at: int, number: int) -> dict[str, Any]:
    """An `audit.batch` leaf under epoch ``number``."""
    from auditspan.canonical import canonical_json
    from auditspan.policy.software import software

    digest = hashlib.sha256(canonical_json(epoch_body()) if number else b"").hexdigest()
    body = {
        "from": start, "to": end, "first_leaf": first, "sealed": index - first, "duplicates": 0, "conflicts": 0,
        "quarantined": 0, "gaps": 0, "suppressed_digest": hashlib.sha256(b"").hexdigest(), "watermark": str(at),
        "epoch": {"number": number, "digest": digest}, "software": software(),
    }  # fmt: skip
    return log_row(log_id, index, "audit.batch", body, None, number, at)


def signed(log_id: str, tree: Any) -> Any:
    """A checkpoint over a tree."""
    from auditspan.ledger.checkpoint import Checkpoint, log_origin, sign_checkpoint
    from auditspan.store.contract import StoredCheckpoint

    note = sign_checkpoint(Checkpoint(log_origin(DEPLOYMENT, log_id), tree.end, tree.root()), signing_key())
    return StoredCheckpoint(log_id, tree.end, base64.b64encode(tree.root()).decode(), note, T0)


def store_control(store: Any, data: Any) -> None:
    """A control log that opens one data log, activates the epoch, and names the checkpoint ``data``."""
    from auditspan.ledger.merkle import CompactRange, leaf_hash
    from auditspan.store.contract import SealedBatch

    round_of_one = {"checkpoints": [{"log_id": DATA, "size": data.size, "root": data.root, "note": data.note}]}
    entries = [
        ("audit.log.opened", opened_body(CONTROL, "control")),
        ("audit.log.opened", opened_body(DATA, "events-0")),
        ("audit.reference.activated", epoch_body()),
        ("audit.checkpoint", round_of_one),
    ]
    rows = [log_row(CONTROL, 0, "audit.log.opened", opened_body(CONTROL, "control"), None, 0, T0)]
    rows += [
        log_row(CONTROL, 1 + place, name, {"actor": "b", "body": body}, place, 0, T0)
        for place, (name, body) in enumerate(entries)
    ]
    rows.append(batch_row(CONTROL, 0, len(rows), 0, len(entries), T0, 0))
    control = CompactRange()
    control.extend(leaf_hash(row["header"]) for row in rows)
    store.append_batch(SealedBatch(CONTROL, 0, table_of(rows)))
    store.append_checkpoints([data, signed(CONTROL, control)])
