"""A small deployment made by hand: leaves as the evidence format says, written with ``json`` and ``hashlib``."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from auditspan.ledger.checkpoint import Checkpoint, log_origin, sign_checkpoint
from auditspan.ledger.commitments import facts_hash
from auditspan.ledger.merkle import CompactRange
from auditspan.ledger.trust import Trust
from auditspan.store.contract import SealedBatch, StoredCheckpoint
from auditspan.store.schema import EVENTS, PAYLOAD_COLUMNS

T0 = 1_795_500_000_000_000_000
SECOND = 1_000_000_000
DEPLOYMENT = "acme"
SALT_KEY = b"\x07" * 32
ARTIFACTS = {hashlib.sha256(content).hexdigest(): content for content in (b"rules: []\n", b"table,1\n")}


def jcs(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def text(value: str | None) -> Any:
    if value is None or len(value.encode()) <= 256:
        return value
    return {"length": len(value.encode()), "sha256": hashlib.sha256(value.encode()).hexdigest()}


def typed(value: Any) -> str | None:
    if isinstance(value, dict):
        return f"sha256:{value['sha256']}"
    return value or None


def attribute(key: str, value: str | int | bool | list[str]) -> KeyValue:
    if isinstance(value, list):
        return KeyValue(key=key, value=AnyValue(array_value={"values": [{"string_value": each} for each in value]}))
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))


def rotation(
    old: Ed25519PrivateKey, new: Ed25519PrivateKey, at: int, retired_at: int, deployment: str = DEPLOYMENT
) -> dict[str, Any]:
    """Body of ``audit.key.rotated``, made by hand."""
    public = {
        name: base64.b64encode(key.public_key().public_bytes_raw()).decode()
        for name, key in (("from", old), ("to", new))
    }
    statement = {**public, "deployment": deployment, "at": str(at), "retired_at": str(retired_at)}
    signatures = {
        name: base64.b64encode(key.sign(jcs(statement))).decode() for name, key in (("from", old), ("to", new))
    }
    return {"statement": statement, "signatures": signatures}


def facts_document(country: str | None, *, flagged: bool) -> dict[str, Any]:
    outcome = "license_required" if flagged else "no_license_required"
    rules = [{"authority": "law", "flag": flagged, "governs": flagged, "id": "us-ear.744.6", "outcome": outcome}]
    return {
        "v": 1,
        "facts": {"destination": country},
        "known_by": {"destination": "address"} if country else {},
        "in_force": {"from": str(T0), "to": None},
        "rules": rules,
        "text": outcome,
        "enforced": outcome,
        "governing": outcome,
        "flagged": flagged,
        "destination": country,
        "eccn": "4E091",
    }


@dataclass
class Log:
    """One log being sealed."""

    log_id: str
    partition: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    batches: list[tuple[int, int]] = field(default_factory=list)
    offset: int = 0
    watermark: int = T0
    epoch: int = 1
    generation: int = 1
    software: str = "test"
    _first: int = 0
    _from: int = 0
    _tree: CompactRange = field(default_factory=CompactRange)

    def _seal(self, header: dict[str, Any], **values: Any) -> int:
        leaf = jcs(header)
        index = len(self.rows)
        row: dict[str, Any] = dict.fromkeys(EVENTS.names)
        row |= {
            "leaf_index": index,
            "sealing_month": 202611,
            "header": leaf,
            "log_id": self.log_id,
            "class": header["class"],
            "arrival_time": int(header["arrival_time"]),
            "reference_epoch": header["reference_epoch"],
            "flagged": False,
            "rule_ids": [],
            "faults": [],
        }
        self.rows.append(row | values)
        self._tree.append(hashlib.sha256(b"\x00" + leaf).digest())
        return index

    def log_leaf(self, kind: str, body: dict[str, Any], *, position: bool = False, arrival: int | None = None) -> int:
        header: dict[str, Any] = {"v": 1, "log_id": self.log_id, "class": kind, "body": body}
        header |= {"position": [self.offset, 0] if position else None, "reference_epoch": self.epoch}
        if position:
            self.offset += 1
            self.watermark = max(self.watermark, arrival or 0)
        return self._seal(header | {"arrival_time": str(arrival or self.watermark)})

    def control(self, kind: str, body: dict[str, Any], arrival: int) -> int:
        return self.log_leaf(kind, {"actor": "auditspan", "body": body}, position=True, arrival=arrival)

    def event(
        self,
        arrival: int,
        *,
        sequence: int | None = None,
        stream: str = "stream-1",
        kind: str = "model.access",
        country: str | None = "DE",
        flagged: bool = False,
        asset: str | None = "frontier-7",
        outcome: str = "success",
        facts: dict[str, Any] | bool | None = True,
        faults: list[str] | None = None,
        determination: str | None = None,
        intent: str | None = None,
        event_time: int | None = None,
        basis: str = "event",
        record_id: str | None = None,
        padding: int = 0,
        says: dict[str, Any] | None = None,
        more: dict[str, Any] | None = None,
    ) -> int:
        """An event; ``says`` is what its header says against its payload, ``more`` are further attributes."""
        trace, span_id = (
            hashlib.sha256(f"{self.log_id}{self.offset}".encode()).digest()[:16],
            struct.pack(">Q", self.offset + 1),
        )
        record = record_id or f"record-{self.log_id[:4]}-{self.offset}"
        quarantined = kind == "audit.quarantined"
        # A record that contradicts an earlier one claims a class as any other, and one of no class claims none.
        claimed = {"audit.conflict": "model.access", "other": None}.get(kind, kind)
        attributes = {
            **({"audit.event.class": claimed} if claimed else {}),
            "audit.record.id": record,
            "audit.actor.id": f"sha256:{self.offset % 3}",
            "audit.actor.type": "credential",
            "audit.action": "chat",
            "audit.outcome": outcome,
            "audit.target.type": "model",
            "client.address": "192.0.2.7",
        }
        attributes |= {"audit.target.id": asset} if asset is not None else {}
        attributes |= {"audit.sequence.number": sequence} if sequence is not None else {}  # type: ignore[dict-item]
        attributes |= {"audit.intent.id": intent} if intent else {}
        attributes |= {"pad": "x" * padding} if padding else {}
        attributes |= more or {}
        span = Span(
            trace_id=trace,
            span_id=span_id,
            name="POST /v1/chat/completions",
            start_time_unix_nano=arrival if event_time is None else event_time,
            attributes=[attribute(key, value) for key, value in attributes.items()],
        ).SerializeToString()
        if quarantined:
            span += b"\xff"
        source = [attribute("service.name", "gateway")]
        source += [attribute("audit.source.id", stream)] if sequence is not None else []
        parts = (
            Resource(attributes=source).SerializeToString(),
            InstrumentationScope(name="t").SerializeToString(),
            span,
        )
        payload = b"".join(struct.pack(">I", len(part)) + part for part in parts)
        salt = hmac.digest(SALT_KEY, bytes.fromhex(self.log_id) + struct.pack(">QI", self.offset, 0), "sha256")
        document = facts_document(country, flagged=flagged) if facts is True else facts or None
        singles = document.get("both", [document]) if document else []
        inner = singles[-1] if singles else None
        governing = {rule["id"] for each in singles for rule in each["rules"] if rule["governs"]}
        encoded = jcs(document) if document else None
        header = {
            "v": 1,
            "log_id": self.log_id,
            "position": [self.offset, 0],
            "emitter": "gateway",
            "authentication": "bearer",
            "encoding": "otlp_proto",
            "stream": text(stream) if sequence is not None and not quarantined else None,
            "sequence": sequence if not quarantined else None,
            "record_id": f"position:{self.log_id}:{self.offset}:0" if quarantined else record,
            "class": kind,
            "event_time": str(arrival if event_time is None else event_time),
            "arrival_time": str(arrival),
            "time_basis": basis,
            "action": None if quarantined else "chat",
            "outcome": None if quarantined else outcome,
            "asset": None if quarantined else text(asset),
            "eccn": inner["eccn"] if inner else None,
            "destination": inner["destination"] if inner else None,
            "determination": determination or (inner["governing"] if inner else None),
            "flagged": any(each["flagged"] for each in singles),
            "rule_ids": sorted(governing),
            "faults": faults or [],
            "facts_hash": facts_hash(salt, encoded) if encoded else None,
            "reference_epoch": self.epoch,
            "payload_hash": hashlib.sha256(b"\x02" + salt + payload).hexdigest(),
            "payload_length": len(payload),
        } | (says or {})
        values = {
            "payload": payload,
            "salt": salt,
            "facts": encoded,
            "trace_id": trace,
            "span_id": span_id,
            "span_name": "POST /v1/chat/completions",
            "actor_id": attributes["audit.actor.id"],
            "actor_type": "credential",
            "target_id": asset or None,
            "target_type": "model",
            "client_address": "192.0.2.7",
            "service_name": "gateway",
            "destination_country": header["destination"],
            "event_time": int(header["event_time"]) if int(header["event_time"]) < 2**63 else None,
        }
        if quarantined:
            values |= dict.fromkeys(PAYLOAD_COLUMNS.names)
        for name in (
            "record_id",
            "emitter",
            "stream",
            "time_basis",
            "action",
            "outcome",
            "asset",
            "eccn",
            "determination",
        ):
            values[name] = typed(header[name])
        values |= {name: header[name] for name in ("sequence", "flagged", "rule_ids", "faults")}
        self.offset += 1
        self.watermark = max(self.watermark, arrival)
        return self._seal(header, **values)

    def batch(self, epochs: dict[int, str], duplicates: int = 0) -> int:
        rows = self.rows[self._first :]
        kinds = [(row["class"], row["payload"] is None) for row in rows]
        body = {
            "from": self._from,
            "to": self.offset,
            "first_leaf": self._first,
            "sealed": len(rows),
            "duplicates": duplicates,
            "conflicts": kinds.count(("audit.conflict", False)),
            "quarantined": kinds.count(("audit.quarantined", False)),
            "gaps": kinds.count(("audit.gap", True)),
            "suppressed_digest": hashlib.sha256(b"").hexdigest(),
            "watermark": str(self.watermark),
            "epoch": {"number": self.epoch, "digest": epochs[self.epoch]},
            "software": self.software,
        }
        index = self.log_leaf("audit.batch", body)
        for row in self.rows[self._first :]:
            row["sealing_month"] = int(datetime.fromtimestamp(self.watermark // SECOND, UTC).strftime("%Y%m"))
        self.batches.append((self._first, index + 1))
        self._first, self._from = index + 1, self.offset
        return index

    @property
    def has_nothing(self) -> bool:
        """Whether no entry of the journal came since the last batch."""
        return self.offset == self._from

    def checkpoint(self, key: Ed25519PrivateKey) -> StoredCheckpoint:
        size, root = len(self.rows), self._tree.root()
        note = sign_checkpoint(Checkpoint(log_origin(DEPLOYMENT, self.log_id), size, root), key)
        return StoredCheckpoint(self.log_id, size, base64.b64encode(root).decode(), note, self.watermark)

    def sealed(self) -> list[SealedBatch]:
        return [SealedBatch(self.log_id, first, table_of(self.rows[first:end])) for first, end in self.batches]


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    columns = []
    for each in EVENTS:
        kind = each.type.value_type if pa.types.is_dictionary(each.type) else each.type
        values = pa.array([row[each.name] for row in rows], kind)
        columns.append(values.dictionary_encode() if pa.types.is_dictionary(each.type) else values)
    return pa.table(columns, schema=EVENTS)


class World:
    """A deployment with a control log and data logs; everything seals what came since, and signs checkpoints.

    Args:
        prefix: names it, and its logs.
        logs: how many data logs there are.
        key: that signs.
        artifacts: of its epochs, content by name. Without them they hold nothing that judges.
        software: that seals.
    """

    def __init__(
        self,
        prefix: str = "a",
        logs: int = 2,
        key: Ed25519PrivateKey | None = None,
        artifacts: Mapping[str, bytes] | None = None,
        software: str = "test",
    ) -> None:
        self.name = prefix
        self.software = software
        self.contents: dict[str, bytes] = dict(ARTIFACTS)
        self.artifacts = artifacts
        self.key = key or Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
        self.control = Log(hashlib.sha256(f"{prefix}-control".encode()).hexdigest()[:32], "control", epoch=0)
        self.logs = [
            Log(hashlib.sha256(f"{prefix}-{number}".encode()).hexdigest()[:32], f"events-{number}", software=software)
            for number in range(logs)
        ]
        self.checkpoints: list[StoredCheckpoint] = []
        self.epochs = {0: hashlib.sha256(b"").hexdigest()}
        self._inserted: dict[str, int] = {}
        self._named_key = False
        for log in (self.control, *self.logs):
            log.log_leaf("audit.log.opened", self.opened_body(log))
        for log in (self.control, *self.logs):
            self.control.control("audit.log.opened", self.opened_body(log), T0)
        self.activate(1)

    @property
    def trust(self) -> Trust:
        return Trust(DEPLOYMENT, (self.key.public_key(),))

    @staticmethod
    def opened_body(log: Log) -> dict[str, Any]:
        return {
            "deployment": DEPLOYMENT,
            "journal": "test",
            "log_id": log.log_id,
            "partition": log.partition,
            "generation": log.generation,
        }

    def activate(self, number: int) -> None:
        """Put an epoch in force: sealed with the next round, it holds from the batches after it."""
        if self.artifacts is None:
            named = {f"{place}-{number}": content for place, content in enumerate(ARTIFACTS.values())}
        else:
            named = dict(sorted(self.artifacts.items()))
        artifacts = [
            {"name": name, "kind": "pack", "version": "1", "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in named.items()
        ]
        self.contents |= {one["sha256"]: content for one, content in zip(artifacts, named.values(), strict=True)}
        body = {"number": number, "artifacts": artifacts, "software": self.software}
        self.control.control("audit.reference.activated", body, self.control.watermark)
        self.epochs[number] = hashlib.sha256(jcs(body)).hexdigest()
        self._next_epoch = number

    def rotate(self, key: Ed25519PrivateKey, at: int, retired_at: int) -> int:
        """Seal a rotation with the next round, and sign with ``key`` from then on; the index of its leaf."""
        if not self._named_key:
            self._named_key = True
            public = base64.b64encode(self.key.public_key().public_bytes_raw()).decode()
            self.control.control("audit.key.added", {"algorithm": "Ed25519", "public_key": public}, at)
        leaf = self.control.control("audit.key.rotated", rotation(self.key, key, at, retired_at), at)
        self.key = key
        return leaf

    def batch(self, arrival: int, *, unnamed: Sequence[Log] = (), **options: Any) -> None:
        """End a batch of every log that has something, sign all logs, and seal the round in the control log.

        Whoever holds the key may leave logs ``unnamed`` in the round.
        """
        for log in self.logs:
            if len(log.rows) > (log.batches[-1][1] if log.batches else 0):
                if log.has_nothing and log.rows[-1]["class"] != "audit.log.closed":
                    log.log_leaf("audit.heartbeat", {}, position=True, arrival=log.watermark)
                log.batch(self.epochs, **options)
        signed = [log.checkpoint(self.key) for log in sorted(self.logs, key=lambda log: log.log_id)]
        hidden = {log.log_id for log in unnamed}
        named = [
            {"log_id": c.log_id, "size": c.size, "root": c.root, "note": c.note}
            for c in signed
            if c.log_id not in hidden
        ]
        body = {"checkpoints": named}
        self.control.control("audit.checkpoint", body, arrival)
        self.control.batch(self.epochs)
        for log in (self.control, *self.logs):
            log.epoch = self._next_epoch
        self.checkpoints += [*signed, self.control.checkpoint(self.key)]

    def close(self, partitions: int) -> None:
        """End the data logs of the last generation, with the next round."""
        generation = self.logs[-1].generation
        successor = {"successor": {"generation": generation + 1, "partitions": partitions}}
        for log in self.logs:
            if log.generation == generation:
                log.log_leaf("audit.log.closed", successor)

    def open(self, partitions: int) -> list[Log]:
        """Open the data logs of the next generation; they begin with the greatest watermark of those before."""
        generation, watermark = self.logs[-1].generation + 1, max(log.watermark for log in self.logs)
        made = []
        for number in range(partitions):
            partition = f"events.{generation}-{number}"
            log_id = hashlib.sha256(f"{self.control.log_id}{partition}".encode()).hexdigest()[:32]
            made.append(
                Log(log_id, partition, [], [], 0, watermark, self.control.epoch, generation, software=self.software)
            )
        for log in made:
            log.log_leaf("audit.log.opened", self.opened_body(log))
            self.control.control("audit.log.opened", self.opened_body(log), self.control.watermark)
        self.logs += made
        return made

    def store_into(self, store: Any) -> None:
        """Write what is not there yet."""
        for log in (self.control, *self.logs):
            done = self._inserted.get(log.log_id, 0)
            for batch in log.sealed()[done:]:
                store.append_batch(batch)
            self._inserted[log.log_id] = len(log.batches)
        store.append_checkpoints(self.checkpoints)


def varied_world(prefix: str = "a") -> World:
    """Three minutes of everything that a log can hold."""
    world = World(prefix)
    first, second = world.logs
    for minute in range(3):
        at = T0 + minute * 60 * SECOND
        base = minute * 10
        for number in range(8):
            first.event(
                at + number, sequence=base + number, flagged=number % 4 == 0, country="CN" if number % 4 == 0 else "DE"
            )
        first.event(
            at + 10,
            kind="audit.quarantined",
            facts=None,
            faults=["span.undecodable"],
            determination="review",
            basis="arrival",
        )
        first.event(at + 11, kind="audit.conflict", sequence=base, faults=["identity.conflict"], determination="review")
        first.event(at + 12, kind="other", facts=None, asset=None)
        first.event(
            at + 13,
            asset='modèle « 7 » \\ "q" \n' + "é" * 300,
            event_time=2**64 - 5,
            faults=["time.outside_window"],
            basis="both",
            determination="review",
            facts={"v": 1, "both": [facts_document("FR", flagged=False), facts_document("DE", flagged=False)]},
        )
        first.event(at + 14, asset="", outcome="started", record_id=f"started-{minute}", sequence=base + 8)
        if minute != 1:
            first.event(at + 15, intent=f"started-{minute}", sequence=base + 9)
        first.log_leaf(
            "audit.gap", {"emitter": "gateway", "stream": "stream-1", "from": 19, "to": 20, "seen_at": str(at)}
        )
        second.log_leaf("audit.heartbeat", {}, position=True, arrival=at + 16)
        for number in range(5):
            second.event(
                at + 20 + number,
                sequence=minute * 5 + number,
                stream="stream-2",
                flagged=number == 1,
                kind="model.transfer",
            )
        world.batch(at + 50 * SECOND, duplicates=2)
    return world
