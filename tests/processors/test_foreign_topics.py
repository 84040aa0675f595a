"""A topic that an OpenTelemetry Collector writes, sealed by ``auditspan process``: on a real Kafka and a real store."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from process_group import PROGRAM, Group, group
from waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.crash]


class KafkaExporter(SpanExporter):
    """What the Collector's kafka exporter does with ``encoding: otlp_proto``: a request is a record without headers."""

    def __init__(self, producer: KafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self.sent: list[bytes] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.sent.append(encode_spans(spans).SerializeToString())
        self._producer.send(self._topic, self.sent[-1], partition=len(self.sent) % 2).get(10)
        return SpanExportResult.SUCCESS


def logs() -> bytes:
    made = ExportLogsServiceRequest()
    record = made.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano, record.body.string_value = time.time_ns(), "a line"
    return made.SerializeToString()


def metrics() -> bytes:
    made = ExportMetricsServiceRequest()
    metric = made.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "requests"
    metric.gauge.data_points.add().as_int = 7
    return made.SerializeToString()


def events(deployment: Group, topic: str) -> list[dict[str, Any]]:
    return deployment.store.query(
        "SELECT span_name, class, emitter, faults, determination, log_id FROM auditspan.events "
        "WHERE endsWith(emitter, {topic:String}) ORDER BY span_name",
        {"topic": f"/{topic}"},
    ).to_pylist()


def test_what_a_collector_wrote_is_sealed_once_and_not_believed(tmp_path: Path, kafka) -> None:
    topic = f"otlp-{tmp_path.name[-20:]}".replace("_", "-")
    administrator = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    configs = {"retention.ms": "-1", "min.insync.replicas": "1"}
    administrator.create_topics(
        {topic: {"num_partitions": 2, "replication_factor": 1, "configs": configs}}, wait_for_metadata=True
    )
    administrator.close()
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    exporter = KafkaExporter(producer, topic)
    provider = TracerProvider(resource=Resource.create({"service.name": "gateway"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("serving")
    with group(tmp_path, kafka.url, partitions=1, foreign_topics=[topic]) as deployment:
        first = deployment.start()
        for number in range(20):
            attributes = {"audit.event.class": "model.access", "export_control.destination.country": "IR"}
            with tracer.start_as_current_span(f"chat {number:02}", attributes=attributes):
                pass
        until(lambda: len(events(deployment, topic)) == 20, "the seals")
        first.kill()
        # It comes again, as after a lost acknowledgement; then what is no request, and a record of nothing.
        producer.send(topic, exporter.sent[0], partition=1).get(10)
        producer.send(topic, b"\xff not a request", partition=1).get(10)
        producer.send(topic, None, key=b"a tombstone", partition=0).get(10)
        for other_signal in (logs(), metrics()):
            producer.send(topic, other_signal, partition=0).get(10)
        producer.close()
        second = deployment.start()
        until(lambda: len(events(deployment, topic)) == 24, "the seals after a kill")
        until(second.ready)
        assert second.terminate() == 0
        found = events(deployment, topic)
        cluster = deployment.journal.identity.removeprefix("kafka:").partition("/")[0]
        assert {row["emitter"] for row in found} == {f"kafka:{cluster}/{topic}"}
        accesses = [row for row in found if row["class"] == "model.access"]
        assert [row["span_name"] for row in accesses] == [f"chat {number:02}" for number in range(20)]
        assert None not in {row["determination"] for row in accesses}
        quarantined = [row for row in found if row["class"] == "audit.quarantined"]
        faults = sorted(fault for row in quarantined for fault in row["faults"])
        assert faults == ["request.undecodable"] * 2 + ["span.invalid_id"] * 2
        assert len({row["log_id"] for row in found}) == 2, "each of its partitions is a log"
        told = [json.loads(leaf) for leaves in deployment.logs().values() for leaf in leaves]
        assert sum(leaf["body"]["duplicates"] for leaf in told if leaf["class"] == "audit.batch") == 1
        done = subprocess.run(
            [*PROGRAM, "replay", "--verify", "--data", deployment.directory.root, "--json"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{topic}-0" in {log["partition"] for log in json.loads(done.stdout)["logs"]}
