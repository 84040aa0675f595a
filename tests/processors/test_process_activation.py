"""`auditspan policy activate` beside many processes: on a real Kafka and a real store, with nobody to ask."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from process_group import PROGRAM, Group, group
from test_activation import HOUSE, judged_by_their_batch
from test_pipeline import leaves_of, opened
from waiting import until

from auditspan.tokens import TokenRegistry

pytestmark = [pytest.mark.kafka, pytest.mark.crash]


def run(deployment: Group, token: str, *arguments: str | Path) -> dict[str, Any]:
    done = subprocess.run(
        [*PROGRAM, "policy", *arguments, "--data", deployment.directory.root, "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "AUDITSPAN_OFFICER_TOKEN": token},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def judged(deployment: Group, partition: str) -> dict[int, set[str]]:
    log_ids = [head["log_id"] for head in opened(deployment.store) if head["body"]["partition"] == partition]
    return judged_by_their_batch([json.loads(x) for log_id in log_ids for x in leaves_of(deployment.store, log_id)])


def test_two_processes_judge_by_what_a_command_has_journaled(tmp_path: Path, kafka) -> None:
    pack = tmp_path / "house.yaml"
    pack.write_bytes(HOUSE)
    with group(tmp_path, kafka.url, partitions=2) as deployment:
        token = TokenRegistry(deployment.directory.tokens).create("m.berger", ["officer"])
        first, second = deployment.start(), deployment.start()
        until(lambda: first.ready() and second.ready() and first.owns() and second.owns())
        deployment.send(0, "stream-0", 0, 10)
        deployment.send(1, "stream-1", 0, 10)
        until(deployment.sealed_all)
        said = run(deployment, token, "activate", pack, "--reason", "the board")
        assert (said["number"], said["officer"], said["sealed"], said["in_use"]) == (2, "m.berger", True, False)

        def everywhere() -> bool:
            for partition in (0, 1):
                stream = f"stream-{partition}"
                deployment.send(partition, stream, sum(one == stream for one, _ in deployment.sent), 1)
            return all(2 in judged(deployment, f"events-{partition}") for partition in (0, 1))

        until(everywhere)
        until(deployment.sealed_all)
        assert all(judged(deployment, f"events-{n}")[2] == {"prohibited"} for n in (0, 1))
        assert run(deployment, token, "show")["officer"] == "m.berger"
        # With no process there it is journaled all the same, and the next one seals it.
        assert (first.terminate(), second.terminate()) == (0, 0)
        waiting = run(deployment, token, "withdraw", "house.yaml", "--reason", "the board again")
        assert (waiting["number"], waiting["sealed"]) == (3, False)
        third = deployment.start()
        until(lambda: third.ready() and run(deployment, token, "show")["number"] == 3)
        until(deployment.sealed_all)
        assert third.terminate() == 0
        deployment.prove()
