"""The official OTLP exporters, over real sockets, deliver what they sent, and come again when they should."""

from __future__ import annotations

import threading

import grpc
import pytest
from auditspan.collectors.admission import AdmissionLimits
from collector_requests import a_request, span_names
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from auditspan.journal import EntryKind, JournalUnavailable


def spans(count: int = 3):
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "official"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    for number in range(count):
        with provider.get_tracer("test", "1").start_as_current_span(f"span {number}", attributes={"n": number}):
            pass
    return memory.get_finished_spans()


def exporter(collector, kind: str, token: str | None = "own", timeout: float | None = None):
    headers = {"authorization": f"Bearer {collector.token if token == 'own' else token}"} if token else {}
    transport, _, compression = kind.partition("+")
    if transport == "http":
        compressed = Compression.Gzip if compression else Compression.NoCompression
        return HttpExporter(endpoint=collector.url, headers=headers, compression=compressed, timeout=timeout)
    compressed = grpc.Compression.Gzip if compression else grpc.Compression.NoCompression
    return GrpcExporter(
        endpoint=f"http://127.0.0.1:{collector.grpc_port}",
        insecure=True,
        headers=headers,
        compression=compressed,
        timeout=timeout,
    )


KINDS = ["http", "http+gzip", "grpc", "grpc+gzip"]


@pytest.mark.parametrize("kind", KINDS)
def test_spans_arrive_and_are_durable_when_the_exporter_reports_success(collector, kind):
    out = exporter(collector, kind)
    sent = spans(250)
    assert out.export(sent) is SpanExportResult.SUCCESS
    [entry] = collector.entries()
    assert (entry.kind, entry.emitter, entry.authentication, entry.encoding) == (
        EntryKind.OTLP,
        "emitter",
        "bearer",
        "otlp_proto",
    )
    assert span_names(entry.body) == [span.name for span in sent]
    assert collector.metric("auditspan_acknowledged_spans_total") == 250
    assert collector.metric("auditspan_journaled_spans_total") == 250
    out.shutdown()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_a_known_token_nothing_is_taken(collector, kind, token):
    out = exporter(collector, kind, token)
    assert out.export(spans()) is SpanExportResult.FAILURE
    assert collector.entries() == []
    assert collector.metric("auditspan_refused_requests_total", reason="unauthenticated") >= 1
    out.shutdown()


@pytest.mark.parametrize("kind", KINDS)
def test_the_exporter_comes_again_after_the_journal_was_unavailable(collector, kind):
    collector.journal.refuse_with = JournalUnavailable("refused by the test")
    out = exporter(collector, kind, timeout=30)
    results = []
    exporting = threading.Thread(target=lambda: results.append(out.export(spans())))
    exporting.start()
    assert collector.journal.appended.acquire(timeout=30)
    collector.journal.refuse_with = None
    exporting.join(60)
    assert results == [SpanExportResult.SUCCESS]
    assert len(collector.entries()) == 1
    assert collector.metric("auditspan_refused_requests_total", reason="journal_unavailable") >= 1
    out.shutdown()


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_the_exporter_delivers_once_a_full_journal_has_room_again(start, kind):
    collector = start(maximum_bytes=1_500_000)
    stored = 0
    while collector.post(a_request(padding=100_000)).status == 200:
        stored += 1
    assert stored > 5
    out = exporter(collector, kind, timeout=30)
    results = []
    refused = collector.metric("auditspan_refused_requests_total", reason="journal_full")
    exporting = threading.Thread(target=lambda: results.append(out.export(spans(2000))))
    exporting.start()
    while collector.metric("auditspan_refused_requests_total", reason="journal_full") == refused:
        assert collector.journal.appended.acquire(timeout=30)
    collector.journal.trim("events-0", stored)
    exporting.join(60)
    assert results == [SpanExportResult.SUCCESS]
    [entry] = collector.journal.read("events-0", stored, max_entries=10, max_bytes=1 << 30)
    assert len(span_names(entry.body)) == 2000
    out.shutdown()


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_revoked_token_is_refused_while_the_service_runs(collector, kind):
    out = exporter(collector, kind)
    assert out.export(spans()) is SpanExportResult.SUCCESS
    collector.tokens.revoke("emitter")
    assert out.export(spans()) is SpanExportResult.FAILURE
    assert len(collector.entries()) == 1
    out.shutdown()


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_every_emitter_gets_its_own_name_whatever_its_payload_says(collector, kind):
    other = collector.tokens.create("someone/else")
    for token in (collector.token, other):
        out = exporter(collector, kind, token)
        assert out.export(spans()) is SpanExportResult.SUCCESS
        out.shutdown()
    assert [entry.emitter for entry in collector.entries()] == ["emitter", "someone/else"]


def test_anonymous_senders_are_taken_only_where_the_operator_allows_it(start):
    for allowed in (False, True):
        collector = start(AdmissionLimits(allow_anonymous_loopback=allowed))
        for kind in ("http", "grpc"):
            out = exporter(collector, kind, token=None)
            assert (out.export(spans()) is SpanExportResult.SUCCESS) == allowed
            out.shutdown()
            out = exporter(collector, kind, token="wrong")
            assert out.export(spans()) is SpanExportResult.FAILURE  # a wrong token is wrong all the same
            out.shutdown()
        assert [(entry.emitter, entry.authentication) for entry in collector.entries()] == [("anonymous", "none")] * (
            2 * allowed
        )
