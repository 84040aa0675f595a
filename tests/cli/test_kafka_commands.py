"""`auditspan kafka`, `auditspan collect`, and `auditspan up` on a Kafka journal, as processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from broker import running as running_kafka
from command_line import fails, gives
from running_service import PROGRAM, Service
from sent_spans import an_access, request_of, resource
from waiting import until

from auditspan.config import KafkaSettings
from auditspan.journal import EntryKind
from auditspan.journal.kafka import KafkaJournal
from auditspan.journal.kafka_topics import make_topics
from auditspan.ledger.keys import load_journal_key
from auditspan.tokens import TokenRegistry

FREE = ("--otlp-http=127.0.0.1:0", "--otlp-grpc=127.0.0.1:0")
SINGLE = {"AUDITSPAN_KAFKA__REPLICATION_FACTOR": "1", "AUDITSPAN_KAFKA__MIN_INSYNC_REPLICAS": "1"}
QUICK = {
    "AUDITSPAN_KAFKA__DELIVERY_TIMEOUT_SECONDS": "2",
    "AUDITSPAN_KAFKA__REQUEST_TIMEOUT_SECONDS": "1",
    "AUDITSPAN_KAFKA__CONNECT_TIMEOUT_SECONDS": "5",
}

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def environment(settings: KafkaSettings) -> dict[str, str]:
    return {**SINGLE, "AUDITSPAN_KAFKA__TOPIC": settings.topic, "AUDITSPAN_KAFKA__GROUP": settings.group}


class Collector:
    """`auditspan collect` as a process."""

    def __init__(self, data: Path, url: str, env: dict[str, str]) -> None:
        self.data = data
        self.token = TokenRegistry(data / "tokens.json").create("gateway")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AUDITSPAN_")}
        self.process = subprocess.Popen(
            [PROGRAM, "collect", "--data", data, "--journal", url, *FREE],
            env={**clean, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until((data / "endpoints.json").exists, "the collector's endpoints")
        self.address = urlsplit(json.loads((data / "endpoints.json").read_text())["otlp_http"]).netloc

    def ask(self, method: str, path: str, body: bytes | None = None):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {self.token}"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def send(self, body: bytes):
        return self.ask("POST", "/v1/traces", body)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def a_request(count: int = 3) -> bytes:
    return request_of(resource({"service.name": "gateway"}), [an_access() for _ in range(count)]).body


@pytest.fixture
def collector_data(tmp_path):
    data = tmp_path / "collector"
    gives("keys", "journal", "--data", data)
    assert (data / "journal.key").stat().st_mode & 0o777 == 0o600
    return data


def test_init_makes_topics_and_check_accepts_them(kafka, kafka_settings):
    env = {**environment(kafka_settings(make=False)), "AUDITSPAN_JOURNAL__PARTITIONS": "4"}
    assert "kafka init" in fails("kafka", "check", "--journal", kafka.url, env=env)
    made = gives("kafka", "init", "--journal", kafka.url, env=env)
    topic = env["AUDITSPAN_KAFKA__TOPIC"]
    assert made["made"] == [topic, f"{topic}.control"]
    assert [one["partitions"] for one in made["topics"]] == [4, 1]
    assert gives("kafka", "check", "--journal", kafka.url, env=env)["topics"] == made["topics"]
    said = fails("kafka", "check", "--journal", kafka.url, env={**env, "AUDITSPAN_JOURNAL__PARTITIONS": "5"})
    assert "journal.partitions" in said


def test_what_cannot_be_is_said(tmp_path):
    assert "journal.url" in fails("kafka", "check")
    env = {"AUDITSPAN_KAFKA__CONNECT_TIMEOUT_SECONDS": "0.5"}
    assert "journal.url" in fails("kafka", "check", "--journal", "kafka://127.0.0.1:1", env=env)
    assert "journal.url" in fails("kafka", "check", "--journal", "kafka://nonsense").replace(
        "journal: url", "journal.url"
    )
    said = fails("collect", "--data", tmp_path, "--journal", "kafka://127.0.0.1:1", *FREE, env=env)
    assert "journal.key" in said
    assert "auditspan keys journal" in said
    assert not (tmp_path / "endpoints.json").exists(), "nothing that looks as if it ran"


def test_a_collector_without_its_topic_does_not_start(kafka, kafka_settings, collector_data):
    env = environment(kafka_settings(make=False))
    said = fails("collect", "--data", collector_data, "--journal", kafka.url, *FREE, env=env)
    assert "is missing" in said
    assert "auditspan kafka init" in said


def test_what_a_collector_acknowledged_is_in_the_topic(kafka, kafka_settings, collector_data):
    settings = kafka_settings()
    collector = Collector(collector_data, kafka.url, environment(settings))
    try:
        sent = [a_request() for _ in range(5)]
        for body in sent:
            assert collector.send(body)[0] == 200
        assert collector.ask("GET", "/readyz")[0] == 200
        assert b"auditspan_acknowledged_spans_total 15.0" in collector.ask("GET", "/metrics")[2]
        collector.process.send_signal(signal.SIGTERM)
        out, err = collector.process.communicate(timeout=30)
    finally:
        collector.close()
    assert (collector.process.returncode, "Traceback" in err) == (0, False), err
    assert "OTLP/HTTP" in out
    assert not (collector_data / "endpoints.json").exists()
    journal = KafkaJournal(kafka.url, settings, 1, load_journal_key(collector_data / "journal.key"))
    found = journal.read("events-0", 0, max_entries=99, max_bytes=1 << 20)
    journal.close()
    assert [one.body for one in found] == sent
    assert {(one.kind, one.emitter, one.authentication) for one in found} == {(EntryKind.OTLP, "gateway", "bearer")}


def test_a_collector_whose_broker_hangs_answers_503_and_recovers(tmp_path, kafka_here, collector_data):
    settings = KafkaSettings(topic="hangs", group="hangs", replication_factor=1, min_insync_replicas=1)
    with running_kafka(tmp_path / "kafka") as kafka:
        make_topics(kafka.url, settings, 1)
        collector = Collector(collector_data, kafka.url, {**environment(settings), **QUICK})
        try:
            assert collector.send(a_request())[0] == 200
            kafka.brokers[0].suspend()
            answers = []
            threads = [threading.Thread(target=lambda: answers.append(collector.send(a_request()))) for _ in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert [(status, headers["retry-after"]) for status, headers, _ in answers] == [(503, "1")] * 5
            assert until(lambda: collector.ask("GET", "/readyz")[0] == 503, "readiness to turn red")
            assert collector.ask("GET", "/livez")[0] == 200
            kafka.brokers[0].resume()
            assert until(lambda: collector.send(a_request())[0] == 200, "the broker to be found again")
            assert until(lambda: collector.ask("GET", "/readyz")[0] == 200, "readiness to turn green")
        finally:
            collector.close()


def test_a_collector_whose_brokers_disk_is_full_answers_503_and_recovers(tmp_path, fillable_disk, collector_data):
    """Senders come again with what was not acknowledged, as they do in the field, until everything is."""
    settings = KafkaSettings(topic="full", group="full", replication_factor=1, min_insync_replicas=1)
    disk = fillable_disk
    with running_kafka(tmp_path / "kafka", properties=disk.properties, launch=disk.launch) as kafka:
        (broker,) = kafka.brokers
        make_topics(kafka.url, settings, 1)
        collector = Collector(collector_data, kafka.url, {**environment(settings), **QUICK})
        acknowledged: list[bytes] = []
        sent: list[bytes] = []
        refused: list[tuple[bytes, int, str | None]] = []
        slowest = [0.0]
        enough = threading.Event()

        def deliver() -> None:
            while not enough.is_set():
                body, status = a_request(), 0
                sent.append(body)
                while status != 200 and not enough.is_set():
                    began = time.monotonic()
                    status, headers, _ = collector.send(body)
                    slowest[0] = max(slowest[0], time.monotonic() - began)
                    if status != 200:
                        refused.append((body, status, headers.get("retry-after")))
                        time.sleep(0.05)
                if status == 200:
                    acknowledged.append(body)

        senders = [threading.Thread(target=deliver) for _ in range(3)]
        try:
            assert until(lambda: collector.ask("GET", "/readyz")[0] == 200, "readiness")
            for sender in senders:
                sender.start()
            until(lambda: len(acknowledged) >= 30, "some to be acknowledged")
            disk.fill(broker)
            until(lambda: refused, "the first to be refused")
            assert broker.ended() == 1
            assert "No space left on device" in (broker.folder / "broker.log").read_text()
            before, enough_refused = len(acknowledged), len(refused) + 10
            until(lambda: len(refused) >= enough_refused, "more to be refused")
            assert len(acknowledged) == before
            status, _, reasons = collector.ask("GET", "/readyz")
            assert (status, b"Kafka" in reasons) == (503, True), reasons
            assert collector.ask("GET", "/livez")[0] == 200
            disk.make_room()
            broker.start()
            until(lambda: len(acknowledged) >= before + 30, "more to be acknowledged")
            assert until(lambda: collector.ask("GET", "/readyz")[0] == 200, "readiness to turn green")
        finally:
            enough.set()
            for sender in senders:
                sender.join(60)
            collector.close()
        assert {(status, after) for _, status, after in refused} == {(503, "1")}
        assert slowest[0] < 15.0, "bounded by kafka.delivery_timeout_seconds"
        journal = KafkaJournal(kafka.url, settings, 1, load_journal_key(collector_data / "journal.key"))
        found: Counter[bytes] = Counter()
        while more := journal.read("events-0", found.total(), max_entries=1000, max_bytes=1 << 30):
            found.update(one.body for one in more)
        journal.close()
    assert set(acknowledged) <= found.keys() <= set(sent)
    # What was refused may have been written all the same: then it is there twice, and sealed once.
    came_again = {body for body, _, _ in refused}
    assert {body for body, times in found.items() if times > 1} <= came_again


def test_up_runs_the_whole_pipeline_on_kafka_and_goes_on_after_a_kill(kafka, kafka_settings, tmp_path):
    settings = kafka_settings(2)
    service = Service(
        tmp_path / "data",
        journal__url=kafka.url,
        journal__partitions=2,
        kafka__topic=settings.topic,
        kafka__group=settings.group,
        kafka__replication_factor=1,
        kafka__min_insync_replicas=1,
    )
    service.run("keys", "init", "--data", service.data)
    try:
        service.start()
        token = service.token("gateway")
        for _ in range(3):
            assert service.post(a_request(2), token).status == 200
        service.kill()
        service.start()
        assert service.post(a_request(2), token).status == 200

        def sealed() -> bool:
            counts = "SELECT count() AS n, uniqExact(record_id) AS one FROM auditspan.events"
            rows = service.rows(f"{counts} WHERE class = 'model.access'")
            return (rows[0]["n"], rows[0]["one"]) == (8, 8)

        assert until(sealed, "eight events, each once")
        opened = service.rows("SELECT header FROM auditspan.events WHERE class = 'audit.log.opened'")
        bodies = [json.loads(row["header"])["body"] for row in opened]
        journals = {body.get("journal") or body["body"]["journal"] for body in bodies}
        assert len(journals) == 1
        assert journals.pop().startswith("kafka:")
        service.stop()
    finally:
        service.close()
