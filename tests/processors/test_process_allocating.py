"""The race for the last units of a license on a real Kafka, the owner of the control log killed meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from licensed_world import PACK, REGISTRY, allocations, current, shipment
from process_group import PROGRAM, Group, group
from sealing_inputs import request
from test_pipeline import control_entries
from waiting import until

from auditspan.journal.contract import EntryKind, NewEntry
from auditspan.licensing.allocation import Balance
from auditspan.licensing.balances import balances
from auditspan.tokens import TokenRegistry

pytestmark = [pytest.mark.kafka, pytest.mark.crash]

PARTITIONS = {"control", "events-0", "events-1"}
QUANTITY = 37


def run(deployment: Group, token: str, *arguments: str | Path) -> object:
    done = subprocess.run(
        [*PROGRAM, *arguments, "--data", deployment.directory.root, "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "AUDITSPAN_OFFICER_TOKEN": token},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def send(deployment: Group, number: int) -> None:
    """One shipment, to either partition in turn."""
    body = request(shipment(number, _start=time.time_ns(), _end=time.time_ns()), stream=f"stream-{number % 2}")
    entry = NewEntry(EntryKind.OTLP, "gateway", "bearer", time.time_ns(), "otlp_proto", body)
    deployment._append((number % 2, entry))


def test_the_control_owner_is_killed_and_the_balance_is_what_sealed_events_say(tmp_path: Path, kafka) -> None:
    (tmp_path / "parties.yaml").write_bytes(REGISTRY)
    (tmp_path / "house.yaml").write_bytes(PACK)
    (tmp_path / "licenses.csv").write_text(
        f"number,end_users,items,quantity,valid_to\nD1000001,harbour,H100 SXM,{QUANTITY},2099-12-31\n"
    )
    with group(tmp_path, kafka.url, partitions=2) as deployment:
        token = TokenRegistry(deployment.directory.tokens).create("m.berger", ["officer"])
        first, second = deployment.start(), deployment.start()
        until(lambda: first.ready() and second.ready() and {*first.owns(), *second.owns()} == PARTITIONS)
        policy = [str(tmp_path / "parties.yaml"), str(tmp_path / "house.yaml")]
        run(deployment, token, "policy", "activate", *policy, "--reason", "who is who")
        imported = run(deployment, token, "license", "import", str(tmp_path / "licenses.csv"), "--reason", "granted")
        assert isinstance(imported, dict) and imported["sealed"]
        # Everywhere: the last shipment of all comes long after each process has taken the epoch up.
        number = 0

        def under_the_register() -> bool:
            nonlocal number
            for _ in range(2):
                send(deployment, number)
                number += 1
            rows = deployment.store.query(
                "SELECT count(DISTINCT log_id) AS n FROM auditspan.events "
                "WHERE class = 'accelerator.transfer' AND reference_epoch = 3"
            )
            return bool(rows["n"][0].as_py() == 2)

        until(under_the_register)
        for _ in range(2):
            alive = [process for process in deployment.processes if process.popen.poll() is None]
            owner = until(lambda alive=alive: next((one for one in alive if "control" in one.owns()), None), "an owner")
            for _ in range(10):
                send(deployment, number)
                number += 1
            until(lambda: allocations(deployment.store))
            owner.kill()
            for _ in range(10):
                send(deployment, number)
                number += 1
            deployment.start()
            now = [process for process in deployment.processes if process.popen.poll() is None]
            until(lambda now=now: all(p.ready() for p in now) and {n for p in now for n in p.owns()} == PARTITIONS)

        def sealed() -> list[dict[str, object]]:
            return [one for one in current(deployment.store) if one["determination"] == "license_required"]

        def settled() -> bool:
            asked = deployment.store.query(
                "SELECT count() AS n FROM auditspan.events WHERE class = 'accelerator.transfer' AND reference_epoch = 3"
            )["n"][0].as_py()
            return len(current(deployment.store)) == number and len(allocations(deployment.store)) == asked

        until(settled)
        found = allocations(deployment.store)
        assert len(found) >= 40 > QUANTITY
        assert len({(one["log_id"], one["leaf_index"]) for one in found}) == len(found)
        assert [one["sequence"] for one in found] == list(range(1, len(found) + 1))
        assert {one["log_id"] for one in found if one["outcome"] == "covered"} == {one["log_id"] for one in found}
        assert [one["outcome"] for one in found] == ["covered"] * QUANTITY + ["exhausted"] * (len(found) - QUANTITY)
        assert sum(one["current"] == "licensed" for one in sealed()) == QUANTITY
        # The sealed entries, folded again, come to the same; and the command says so.
        fold = balances(control_entries(deployment.store, "license.allocation"))
        assert fold.of == {"D1000001": Balance(len(found), QUANTITY)}
        (listed,) = run(deployment, token, "license", "list")  # type: ignore[misc]
        assert (listed["used"], listed["remaining"], listed["state"]) == (QUANTITY, 0, "exhausted")
