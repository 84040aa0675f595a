"""Licenses as an officer and an analyst meet them: `auditspan up`, the commands, SQL, and a service that is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from final_checks import settle
from running_service import PROGRAM, Service
from waiting import until

from auditspan.tokens import TokenRegistry

sys.path.insert(0, str(Path(__file__).parents[1] / "processors"))

from licensed_world import PACK, REGISTRY, shipment
from sealing_inputs import request

REGISTER = """\
number,type,end_users,items,quantity,value,valid_from,valid_to,conditions
D1000001,BIS individual,harbour,H100 SXM,12,400000,2020-01-01,2099-12-31,no retransfer
D1000002,BIS individual,orchid,H100 SXM,5,,2020-01-01,2020-12-31,
"""


class Officer:
    """Who imports the register."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.folder = folder
        folder.mkdir()
        token = TokenRegistry(service.directory.tokens).create("m.berger", ["officer"])
        self.token = folder / "officer.token"
        self.token.write_text(token)
        self.token.chmod(0o600)

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def run(self, *words: str | Path, status: int = 0) -> Any:
        return self.service.run(
            *words, "--reason", "granted", "--data", self.service.data, "--token-file", self.token, status=status
        )


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_a_register_is_imported_events_take_of_it_and_kills_change_nothing(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = new_service(journal__partitions=2)
    service.start()
    officer = Officer(service, tmp_path / "officer")
    data = service.data
    assert service.run("license", "list", "--data", data) == []
    broken = officer.file("broken.csv", REGISTER.replace(",12,", ",-12,"))
    said = officer.run("license", "import", broken, status=1)
    assert "broken.csv:2: quantity is '-12'" in said["message"] and said["remedy"]
    officer.run("policy", "activate", officer.file("parties.yaml", REGISTRY), officer.file("house.yaml", PACK))
    register = officer.file("licenses.csv", REGISTER)
    trial = officer.run("license", "import", register, "--dry-run")
    assert [one["name"] for one in trial["changes"]] == ["licenses.csv"]
    assert service.run("license", "list", "--data", data) == []
    done = officer.run("license", "import", register)
    assert done["sealed"] and done["in_use"] and done["officer"] == "m.berger"
    listed = service.run("license", "list", "--data", data)
    assert [(one["number"], one["state"], one["remaining"], one["value"]) for one in listed] == [
        ("D1000002", "expired", 5, None),
        ("D1000001", "valid", 12, 400000),
    ]
    # A file that is broken later changes nothing of that.
    officer.run("license", "import", broken, status=1)
    assert service.run("license", "list", "--data", data) == listed

    token = service.token("gateway")
    number = 0

    def send(count: int) -> None:
        nonlocal number
        for _ in range(count):
            now = time.time_ns()
            body = request(shipment(number, _start=now, _end=now), stream=f"stream-{number % 2}")

            def acknowledged(body: bytes = body) -> bool:
                try:
                    return service.post(body, token).status == 200
                except OSError:
                    return False

            until(acknowledged)
            number += 1

    def allocated() -> int:
        return int(service.rows("SELECT count() AS n FROM auditspan.license_allocations")[0]["n"])

    for wait_for in (1, 0, 5):
        send(6)
        until(lambda wait_for=wait_for: allocated() >= wait_for)
        service.kill()
        service.start()
    send(2)
    until(lambda: allocated() == number)
    settle(service)
    shown = service.run("license", "show", "d1000001", "--data", data, "--limit", "100")
    assert (shown["asked"], shown["used"], shown["remaining"], shown["state"]) == (number, 12, 0, "exhausted")
    told = sorted((one["sequence"], one["outcome"]) for one in shown["allocations"])
    assert told == [(n + 1, "covered" if n < 12 else "exhausted") for n in range(number)]
    assert len({(one["log_id"], one["leaf_index"]) for one in shown["allocations"]}) == number
    assert "There is no license 'D9'" in service.run("license", "show", "D9", "--data", data, status=1)["message"]
    # What the list of events shows, and SQL.
    events = service.run("events", "--data", data, "--flagged", "--limit", "100")
    assert len(events) == number and {one["determination"] for one in events} == {"license_required"}
    assert sum(one["current"] == "licensed" for one in events) == 12
    assert {one["license"] for one in events} == {"D1000001"}
    refused = next(one for one in events if one["current"] != "licensed")
    assert refused["license_outcome"] == "exhausted"
    assert refused["license_why"] == "License D1000001 has 0 of 12 accelerators left, and the event takes 1."
    rows = service.rows("SELECT current, count() AS n FROM auditspan.current GROUP BY current ORDER BY current")
    assert {one["current"]: one["n"] for one in rows} == {"license_required": number - 12, "licensed": 12}
    text = subprocess.run(
        [PROGRAM, "events", "--data", data, "--flagged"],
        capture_output=True,
        text=True,
        env={**service.environment, "COLUMNS": "200"},
    ).stdout
    assert "licensed: D1000001" in " ".join(text.split())
    text = subprocess.run([PROGRAM, "license", "list", "--data", data], capture_output=True, text=True).stdout
    assert "D1000001" in text and "exhausted" in text
    # The journal and the store say it again, with the allocations where they are.
    report = service.run("replay", "--verify", "--data", data)
    assert (report["verdict"], report["exit_code"]) == ("IDENTICAL", 0)
