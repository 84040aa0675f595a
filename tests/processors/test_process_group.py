"""``auditspan process`` many times: real processes on a real Kafka and a real store, killed and stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from process_group import group, until

pytestmark = pytest.mark.kafka

PARTITIONS = {"control", "events-0", "events-1", "events-2", "events-3"}


def test_two_processes_share_the_logs_and_one_takes_over_from_a_killed_one(tmp_path: Path, kafka) -> None:
    with group(tmp_path, kafka.url) as deployment:
        first, second = deployment.start(), deployment.start()
        until(lambda: first.ready() and second.ready())
        until(lambda: first.owns() and second.owns() and first.owns() | second.owns() == PARTITIONS)
        assert not first.owns() & second.owns()
        for k in range(20):
            deployment.send(k % 4, f"stream-{k % 4}", k // 4 * 100, 100)
        second.kill()
        for k in range(20, 40):
            deployment.send(k % 4, f"stream-{k % 4}", k // 4 * 100, 100)
        until(deployment.sealed_all)
        until(lambda: first.owns() == PARTITIONS)
        assert first.terminate() == 0
        deployment.prove()
