"""From the journal through the real processors into a package that verifies."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

from auditspan.exporters.evidence.export import export_package
from auditspan.exporters.evidence.verify import verify_package
from auditspan.processors.pipeline import Pipeline
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from prometheus_client import CollectorRegistry
from sealed_world import SECOND, attribute

from auditspan.journal.contract import EntryKind, NewEntry
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.signer import Signer
from auditspan.ledger.signing_key import public_bytes
from auditspan.ledger.trust import Trust
from auditspan.policy.reference import Reference
from auditspan.store.clickhouse import ClickHouseStore

KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
PARTITION = "events-0"


def _span(number: int, arrival: int, **attributes: Any) -> Span:
    values = {
        "audit.event.class": "model.access",
        "audit.record.id": f"record-{number}",
        "audit.actor.id": f"sha256:{number % 3}",
        "audit.actor.type": "credential",
        "audit.action": "chat",
        "audit.outcome": "success",
        "audit.target.id": "frontier-7",
        "audit.target.type": "model",
        "audit.sequence.number": number,
        "export_control.destination.country": "CN" if number % 5 == 0 else "DE",
    } | {name.replace("__", "."): value for name, value in attributes.items()}
    return Span(
        trace_id=number.to_bytes(15, "big") + b"\x01",
        span_id=number.to_bytes(7, "big") + b"\x01",
        name="POST /v1/chat/completions",
        start_time_unix_nano=arrival,
        attributes=[attribute(name, value) for name, value in values.items() if value is not None],
    )


def _request(*spans: Span, stream: str = "run-1") -> bytes:
    resource = Resource(attributes=[attribute("audit.source.id", stream), attribute("service.name", "gateway")])
    scope = ScopeSpans(spans=spans)
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope])]
    ).SerializeToString()


def _entry(body: bytes, arrival: int, kind: EntryKind = EntryKind.OTLP) -> tuple[str, NewEntry]:
    encoding = "otlp_proto" if kind is EntryKind.OTLP else "raw"
    return PARTITION, NewEntry(kind, "gateway", "bearer", arrival, encoding, body)


def _await_signed(pipeline: Pipeline, journal: SqliteJournal) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        healthy, why = pipeline.healthy()
        assert healthy, why
        if all(status.signed_to >= journal.high_water_mark(PARTITION) for status in pipeline.status()[:1]):
            return
        time.sleep(0.02)
    raise AssertionError("nothing was signed")


def test_what_the_processors_seal_is_exported_and_verified(tmp_path: Path) -> None:
    for name in ("signer", "reference"):
        (tmp_path / name).mkdir()
    journal = SqliteJournal(tmp_path / "journal.sqlite", 1)
    store = ClickHouseStore.embedded(tmp_path / "store")
    signer = Signer(KEY, tmp_path / "signer", "plant")
    pipeline = Pipeline(
        journal,
        store.reader,
        signer,
        salt_key=b"k" * 32,
        public_key=base64.b64encode(public_bytes(KEY.public_key())).decode(),
        deployment="plant",
        artifacts=Reference.packaged_artifacts(),
        reference_folder=tmp_path / "reference",
        registry=CollectorRegistry(),
        checkpoint_seconds=0.05,
        heartbeat_seconds=3600.0,
    )
    pipeline.start()
    start = time.time_ns()
    first = _request(*(_span(number, start) for number in range(20)))
    journal.append([_entry(first, start), _entry(first, start + 1)]).result()
    odd = [
        _request(_span(3, start, audit__action="other")),
        _request(_span(22, start, audit__target__id='a "quoted" Ä\n name ' + "é" * 200)),
        _request(_span(23, start, audit__outcome="started"), _span(24, start, audit__intent__id="record-23")),
        _request(_span(25, start - 10**18)),
        _request(_span(26, start, audit__event__class="no.such.class")),
        _request(_span(27, start, audit__event__class=None, audit__sequence__number=None), stream=""),
        _request(Span(trace_id=b"short", span_id=b"short", name="x")),
        b"\x0a\xff\xff\xff\xff\x0f",
    ]
    journal.append([_entry(body, start + 2 * SECOND) for body in odd]).result()
    journal.append([_entry(b"\x00junk", start + 3 * SECOND, EntryKind.UNDECODABLE)]).result()
    _await_signed(pipeline, journal)
    journal.append([_entry(_request(_span(30, start)), start + 90 * SECOND)]).result()
    _await_signed(pipeline, journal)
    entries: list[dict[str, Any]] = []

    def export(name: str, **options: Any) -> Path:
        values = {"time_from": 0, "time_to": 2**62} | options
        reader = store.reader()
        try:
            export_package(reader, _artifact, KEY, "plant", tmp_path / name, record=entries.append, **values)
        finally:
            reader.close()
        return tmp_path / name

    def _artifact(digest: str) -> bytes | None:
        path = tmp_path / "reference" / digest
        return path.read_bytes() if path.is_file() else None

    try:
        # While the pipeline runs and signs.
        packages = [
            export("all"),
            export("flagged", where="flagged = true"),
            export("late", time_from=start + 60 * SECOND),
            export("early", time_to=start + SECOND, where="class = 'audit.quarantined'"),
        ]
        pipeline.append_control("evidence.exported", "test", entries[0])
        time_before = pipeline.status()[-1].checkpoint_size
        deadline = time.monotonic() + 30
        while pipeline.status()[-1].checkpoint_size <= time_before + 1:
            assert time.monotonic() < deadline, pipeline.healthy()
            time.sleep(0.02)
        packages.append(export("joined"))
    finally:
        pipeline.stop()
        signer.close()
        store.close()
        journal.close()
    trust = Trust("plant", (KEY.public_key(),))
    reports = [verify_package(package, trust) for package in packages]
    for report in reports:
        assert report.verdict == "VALID", (report.package, report.faults[:5])
    counts = reports[0].counts
    assert counts["duplicates_suppressed"] == 20 and counts["conflicts"] == 1 and counts["quarantined"] == 3
    assert counts["gaps"] >= 1 and counts["flagged"] >= 4 and counts["dangling_intents"] == 0
    assert counts["leaves"] == counts["proven"] == counts["selected"]
    assert reports[1].counts["flagged"] == counts["flagged"] and reports[1].counts["withheld"] > 0
    assert {(stream.stream, stream.last) for stream in reports[0].streams} == {("run-1", 30)}
