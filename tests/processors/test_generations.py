"""More partitions while events flow: the next generation of logs, on a real Kafka and a real store."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from process_group import PROGRAM, Group, group
from waiting import until

from auditspan.journal.contract import EntryKind, JournalUnavailable, NewEntry
from auditspan.semconv import EventClass

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(900)]


def command(*arguments: object, status: int = 0) -> Any:
    done = subprocess.run([*PROGRAM, *map(str, arguments), "--json"], capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def reshard(deployment: Group, partitions: int) -> dict[str, Any]:
    return command("kafka", "reshard", "--partitions", partitions, "--data", deployment.directory.root)


def headers(deployment: Group) -> Mapping[str, list[dict[str, Any]]]:
    """The leaves of every log, by partition."""
    logs = {log_id: [json.loads(leaf) for leaf in leaves] for log_id, leaves in deployment.logs().items()}
    return {leaves[0]["body"]["partition"]: leaves for leaves in logs.values()}


def test_more_partitions_while_events_flow_lose_and_double_nothing(tmp_path: Path, kafka) -> None:
    with group(tmp_path, kafka.url, partitions=2) as deployment:
        first, second = deployment.start(), deployment.start()
        until(lambda: first.ready() and second.ready())
        for k in range(10):
            deployment.send(k % 2, f"stream-{k % 2}", k // 2 * 100, 100)
        # A hole, too young to be declared when its log is closed.
        deployment.send(0, "stream-0", 520, 10)
        made = reshard(deployment, 3)
        assert made["generation"] == 2
        assert reshard(deployment, 3)["made"] == [], "once is enough"

        # Who does not know of it acknowledges nothing more, and says so.
        stale = NewEntry(EntryKind.OTLP, "gateway", "bearer", 1, "otlp_proto", b"")
        until(lambda: not (first.ready() or second.ready()))
        with pytest.raises(JournalUnavailable, match=r"generation .* has ended"):
            deployment.journal.append([("events-0", stale)]).result(30)

        deployment.reconfigure(3)
        # What was sealed before comes again, and goes to another partition.
        deployment.send_again()
        for k in range(10, 20):
            deployment.send(k % 3, f"stream-{k % 2}", 600 + k * 100, 100)
        assert first.terminate() == 0
        second.kill()
        third, fourth = deployment.start(), deployment.start()
        third.kill()
        until(deployment.sealed_all, seconds=180)
        until(fourth.ready)
        deployment.send(1, "stream-0", 500, 20)
        until(deployment.sealed_all)
        assert fourth.terminate() == 0
        deployment.prove()
        told = headers(deployment)
        assert told.keys() == {"control", "events-0", "events-1", *(f"events.2-{index}" for index in range(3))}
        for partition, leaves in told.items():
            closed = [place for place, leaf in enumerate(leaves) if leaf["class"] == EventClass.LOG_CLOSED]
            assert closed == ([len(leaves) - 2] if partition in ("events-0", "events-1") else [])
            assert leaves[0]["body"]["generation"] == (2 if partition.startswith("events.2-") else 1)
        successor = {"successor": {"generation": 2, "partitions": 3}}
        assert told["events-0"][-2]["body"] == told["events-1"][-2]["body"] == successor
        # The hole is declared where the stream was, and closed where it goes on.
        gap = [leaf["body"] for leaf in told["events-0"] if leaf["class"] == EventClass.GAP]
        assert [(one["from"], one["to"]) for one in gap] == [(500, 520)]
        late = [leaf["body"] for leaf in told["events.2-1"] if leaf["class"] == EventClass.GAP_CLOSED]
        assert {"emitter": "gateway", "stream": "stream-0", "from": 500, "to": 520} in late
        duplicates = sum(
            leaf["body"]["duplicates"]
            for partition, leaves in told.items()
            if partition.startswith("events.2-")
            for leaf in leaves
            if leaf["class"] == EventClass.BATCH
        )
        assert duplicates == 10
        logs = {log["partition"]: log for log in command("status", "--data", deployment.directory.root)["logs"]}
        assert logs.keys() == told.keys()
        assert [logs[partition]["lag_entries"] for partition in ("events-0", "events-1")] == [0, 0]
        found = command("doctor", "--data", deployment.directory.root, status=1)
        assert [one["check"] for one in found if one["state"] == "wrong"] == ["service"], "which is not `up` here"
        replayed = command("replay", "--verify", "--data", deployment.directory.root)
        assert {log["partition"] for log in replayed["logs"]} == told.keys()
        assert not any(log["fault_counts"] or log["not_derived"] for log in replayed["logs"])
