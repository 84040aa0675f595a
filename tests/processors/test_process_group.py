"""``auditspan process`` many times, on a real Kafka and a real store: killed, stopped and told to end."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from process_group import PROGRAM, Group, group
from waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.crash]

PARTITIONS = {"control", "events-0", "events-1", "events-2", "events-3"}
FLAGGED = {"export_control.destination.country": "IR"}


def status(deployment: Group) -> dict[str, Any]:
    done = subprocess.run(
        [*PROGRAM, "status", "--data", deployment.directory.root, "--streams", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def flagged(deployment: Group, bootstrap: str) -> list[tuple[bytes, bytes]]:
    """What a SIEM reads from the topic of flagged events."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    try:
        place = TopicPartition(deployment.flagged_topic, 0)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        end = consumer.end_offsets([place])[place]
        read: list[tuple[bytes, bytes]] = []
        while consumer.position(place) < end:
            for records in consumer.poll(500).values():
                read += [(record.key, record.value) for record in records]
        return read
    finally:
        consumer.close()


def test_two_processes_share_the_logs_and_one_takes_over_from_a_killed_one(tmp_path: Path, kafka) -> None:
    with group(tmp_path, kafka.url) as deployment:
        first, second = deployment.start(), deployment.start()
        until(lambda: first.ready() and second.ready())
        until(lambda: first.owns() and second.owns() and first.owns() | second.owns() == PARTITIONS)
        assert not first.owns() & second.owns()
        for k in range(20):
            deployment.send(k % 4, f"stream-{k % 4}", k // 4 * 100, 100, **(FLAGGED if k == 7 else {}))
        deployment.send_again()
        second.kill()
        for k in range(20, 40):
            deployment.send(k % 4, f"stream-{k % 4}", k // 4 * 100, 100)
        until(deployment.sealed_all)
        until(lambda: first.owns() == PARTITIONS)
        # Checkpoints and heartbeats come all the time: in one of these looks nothing waits.
        said = until(
            lambda: next(
                (s for s in [status(deployment)] if all(log["lag_entries"] == 0 for log in s["logs"])),
                None,
            )
        )
        assert {log["partition"] for log in said["logs"]} == PARTITIONS
        assert all(log["owner"].endswith(f"-{first.popen.pid}") for log in said["logs"])
        assert all(log["sealed_to"] == log["journal_end"] > 0 for log in said["logs"])
        repeated = {row["stream"]: row["suppressed_duplicates"] for row in said["streams"]}
        assert repeated == {"stream-0": 0, "stream-1": 0, "stream-2": 0, "stream-3": 100}
        assert first.terminate() == 0
        deployment.prove()
        if kafka.brokers:
            read = flagged(deployment, kafka.bootstrap)
            assert {key for key, _ in read} == {f"record-{100 + i}".encode() for i in range(100)}
            assert len(set(read)) == 100, "a repetition is the same bytes"
        assert all(log["owner"] is None for log in status(deployment)["logs"])


@contextmanager
def feeding(deployment: Group, partitions: int, records: int = 20) -> Iterator[None]:
    """Events come all the time, for every partition in turn."""
    stop = threading.Event()

    def feed() -> None:
        k = sum(deployment.sent.values()) // records
        while not stop.is_set():
            stream = f"stream-{k % partitions}"
            deployment.send(k % partitions, stream, k // partitions * records, records)
            k += 1
            stop.wait(0.01)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield
    finally:
        stop.set()
        feeder.join()


def test_a_stopped_process_that_goes_on_after_its_log_went_to_another_is_fenced(tmp_path: Path, kafka) -> None:
    """Also one that was between two batches is harmless, but learns that it lost its log and is no loser of a race."""
    owned = {"control", "events-0", "events-1"}
    with group(tmp_path, kafka.url, partitions=2, batch_seconds=0) as deployment:
        first, second = deployment.start(), deployment.start()
        for _ in range(5):
            until(lambda both=(first, second): all(p.ready() and p.owns() for p in both))
            zombie, heir = (first, second) if "events-0" in first.owns() else (second, first)
            with feeding(deployment, 2):
                time.sleep(1.0)
                zombie.signal(signal.SIGSTOP)
                until(lambda heir=heir: heir.owns() == owned)
                before = deployment.sealed().total()
                until(lambda before=before: deployment.sealed().total() > before)
            until(deployment.sealed_all)
            zombie.signal(signal.SIGCONT)
            until(zombie.ended_or_ready)
            if zombie.terminate() == 3:
                break
            assert zombie.popen.returncode == 0
            first, second = heir, deployment.start()
        assert zombie.popen.returncode == 3
        answer = json.loads("".join(zombie.said)[len(json.dumps(zombie.endpoints, indent=2)) + 1 :])
        assert answer["error"] == "Fenced"
        assert "Another processor owns the log" in answer["remedy"]
        deployment.send(0, "stream-more", 0, 100)
        until(deployment.sealed_all)
        assert heir.terminate() == 0
        deployment.prove()


def test_kills_joins_and_restarts_while_events_flow_lose_and_double_nothing(tmp_path: Path, kafka) -> None:
    chance = random.Random(20261126)
    with group(tmp_path, kafka.url) as deployment:
        first = deployment.start()
        until(lambda: first.owns() == PARTITIONS)
        with feeding(deployment, 4):
            second = deployment.start()
            until(lambda: second.ready() and second.owns())
            # The signer dies.
            signer = next(p for p in (first, second) if "control" in p.owns())
            time.sleep(chance.random())
            signer.kill()
            third = deployment.start()
            # The store dies, and comes back where it was.
            time.sleep(chance.random())
            address = deployment.store_url.removeprefix("http://")
            deployment.store_process.kill()
            time.sleep(1.0)
            deployment.store_process = deployment.start_store(address)
            alive = [p for p in (first, second, third) if p is not signer]
            until(lambda: all(p.ready() for p in alive) and {n for p in alive for n in p.owns()} == PARTITIONS)
            assert alive[0].terminate() == 0
            until(lambda: alive[1].owns() == PARTITIONS)
        until(deployment.sealed_all)
        assert alive[1].terminate() == 0
        deployment.prove()


def test_retention_that_was_too_short_is_a_gap_with_its_bounds_and_an_alarm(tmp_path: Path, kafka) -> None:
    if not kafka.brokers:
        pytest.skip("records of a given cluster are not deleted")
    with group(tmp_path, kafka.url, partitions=1) as deployment:
        first = deployment.start()
        until(lambda: first.ready() and first.owns() == {"control", "events-0"})
        deployment.send(0, "stream-0", 0, 10)
        until(deployment.sealed_all)
        assert first.terminate() == 0
        end = deployment.journal.high_water_mark("events-0")
        for k in range(5):
            deployment.send(0, "stream-0", 10 + k, 1)
        administrator = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        administrator.delete_records({TopicPartition(deployment.settings.kafka.topic, 0): end + 3})
        administrator.close()
        for lost in range(3):
            del deployment.sent["stream-0", 10 + lost]
        second = deployment.start()
        until(deployment.sealed_all)
        code, reasons = until(lambda: (answer := second.get("/readyz"))[0] == 503 and answer)
        assert code == 503
        assert f"events-0: the journal lost entries from {end} on" in reasons
        assert 'auditspan_journal_lost_entries_total{partition="events-0"} 3.0' in second.get("/metrics")[1]
        gaps = [
            json.loads(header)["body"]
            for header in deployment.store.query(
                "SELECT header FROM auditspan.events WHERE class = 'audit.gap' AND payload = ''"
            )["header"].to_pylist()
        ]
        assert [gap["journal"] | {"seen_at": ""} for gap in gaps if "journal" in gap] == [
            {"from": end, "to": end + 3, "seen_at": ""}
        ]
        assert second.terminate() == 0
