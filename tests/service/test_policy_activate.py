"""An officer activates rules on a running service: under load, killed in between, and with every wrong credential."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from final_checks import SealedLog, prove, settle, stored_once
from running_service import PROGRAM, Service
from sent_spans import Sent, foreign_request
from waiting import until

REASON = "the board of 20 November"


def house(version: str, outcome: str = "prohibited") -> str:
    return f"""pack: house
version: "{version}"
title: Rules of the house
source: the board
rules:
  - id: house/v{version}
    title: Nobody uses a model
    citations: ["board 2026-11-20"]
    authority: company_policy
    status: verified
    effective: {{from: 2020-01-01}}
    when: [act == 'access']
    outcome: {outcome}
    flag: true
    explanation: "the board forbids it"
"""


class Officer:
    """Somebody with a token in a file, and the packs that are to be activated."""

    def __init__(self, service: Service, folder: Path, name: str = "m.berger", *roles: str) -> None:
        self.service = service
        self.folder = folder
        self.name = name
        folder.mkdir(exist_ok=True)
        options = [word for role in roles or ("officer",) for word in ("--role", role)]
        self.token = str(service.run("token", "create", name, *options, "--data", service.data)["token"])
        self.token_file = folder / f"{name}.token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(self.token + "\n")

    def command(self, word: str, *arguments: str | Path) -> list[str | Path]:
        return [
            *("policy", word, *arguments, "--data", self.service.data, "--reason", REASON),
            *("--token-file", self.token_file),
        ]

    def write(self, text: str, name: str = "house.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def activate(self, *files: Path, status: int = 0) -> dict[str, Any]:
        said: dict[str, Any] = self.service.run(*self.command("activate", *files), status=status)
        return said


def events(logs: dict[str, SealedLog], emitter: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The events of an emitter, each with the ``audit.batch`` leaf of its batch."""
    found = []
    for sealed in logs.values():
        batch: list[dict[str, Any]] = []
        for header in sealed.headers:
            if header["class"] == "audit.batch":
                found += [(event, header["body"]) for event in batch]
                batch = []
            elif header.get("emitter") == emitter:
                batch.append(header)
    return found


@pytest.fixture
def service(new_service: Callable[..., Service]) -> Iterator[Service]:
    made = new_service()
    made.start()
    yield made


@pytest.mark.timeout(900)
def test_under_load_nothing_is_lost_and_each_event_is_judged_by_the_epoch_of_its_batch(
    service: Service, tmp_path: Path
) -> None:
    officer = Officer(service, tmp_path / "officer")
    sender = Sent("gateway", service.token("gateway"))
    enough = threading.Event()
    marks: list[int] = []

    def send() -> None:
        while not enough.is_set():
            assert sender.deliver(service, foreign_request(5), threading.Event())
            enough.wait(0.01)

    def more() -> None:
        before = len(sender.acknowledged)
        until(lambda: len(sender.acknowledged) >= before + 10, "ten more requests")

    thread = threading.Thread(target=send)
    thread.start()
    try:
        more()
        for version in ("1", "2"):
            done = officer.activate(officer.write(house(version, "review" if version == "1" else "prohibited")))
            assert done["sealed"] and done["in_use"]
            marks.append(time.time_ns())
            more()
    finally:
        enough.set()
        thread.join()
    settle(service)
    logs = prove(service)
    stored_once(logs, "gateway", sender.payloads())
    said = events(logs, "gateway")
    assert len(said) == len(sender.payloads())
    by_epoch: dict[int, set[tuple[str, bool]]] = {}
    for event, batch in said:
        assert event["reference_epoch"] == batch["epoch"]["number"]
        mine = {rule for rule in event["rule_ids"] if rule.startswith("house/")}
        assert mine == {1: set(), 2: {"house/v1"}, 3: {"house/v2"}}[event["reference_epoch"]]
        by_epoch.setdefault(event["reference_epoch"], set()).add((event["determination"], event["flagged"]))
        # Once the command has answered, nothing that arrives is judged by an earlier epoch.
        assert event["reference_epoch"] >= 1 + sum(mark < int(event["arrival_time"]) for mark in marks)
    assert by_epoch.keys() == {1, 2, 3}
    assert by_epoch[3] == {("prohibited", True)}
    # Journal, store, signatures and both packs give the same again, and an auditor gets it all.
    report = service.run("replay", "--verify", "--data", service.data)
    assert (report["verdict"], report["exit_code"]) == ("IDENTICAL", 0)
    folder = tmp_path / "package"
    service.run("evidence", "export", "--data", service.data, "--out", folder)
    assert service.run("evidence", "verify", folder, "--trust", service.directory.trust)["verdict"] == "VALID"
    inside = {path.read_bytes() for path in (folder / "reference").iterdir()}
    assert {house("1", "review").encode(), house("2").encode()} <= inside
    shown = service.run("policy", "show", "--data", service.data, "--history")
    assert [(one["number"], one["officer"], one["reason"]) for one in shown] == [
        (1, None, None),
        (2, "m.berger", REASON),
        (3, "m.berger", REASON),
    ]
    assert [(a["name"], a["officer"], a["since_epoch"]) for a in shown[-1]["artifacts"] if a["since_epoch"] > 1] == [
        ("house.yaml", "m.berger", 3)
    ]


def test_what_is_broken_or_not_an_officers_changes_nothing(service: Service, tmp_path: Path) -> None:
    officer = Officer(service, tmp_path / "officer")
    good = officer.write(house("1"))
    assert officer.activate(good)["number"] == 2
    broken = officer.write(house("2").replace("act ==", "acts =="))
    said = officer.activate(broken, status=1)
    assert "house.yaml:12" in said["message"], said
    assert said["remedy"]
    tried = service.run(*officer.command("activate", broken), "--dry-run", status=1)
    assert tried == said
    good = officer.write(house("3"))
    emitter = Officer(service, tmp_path / "officer", "inference-1", "emitter")
    unknown = Officer(service, tmp_path / "officer", "nobody")
    unknown.token_file.write_text("aso_" + "A" * 43)
    gone = Officer(service, tmp_path / "officer", "l.ito")
    service.revoke("l.ito")
    for wrong in (emitter, unknown, gone):
        refused = wrong.activate(good, status=1)
        assert refused["error"] == "NotAnOfficer"
        assert wrong.token not in json.dumps(refused)
    open_to_all = officer.folder / "open.token"
    open_to_all.write_text(officer.token)
    open_to_all.chmod(0o644)
    command = [*officer.command("activate", good)[:-1], open_to_all]
    assert "chmod 600" in service.run(*command, status=1)["remedy"]
    assert "Give --token-file" in service.run(*officer.command("activate", good)[:-2], status=1)["remedy"]
    # The service itself checks as well: whoever can reach the socket is not by that an officer.
    from auditspan.processors.activation import Change

    from auditspan.cli.policy_socket import Refused, ask_to_activate

    change = Change("m.berger", REASON, {"house.yaml": good.read_bytes()})
    with pytest.raises(Refused, match="not that of an officer"):
        ask_to_activate(service.directory.control_socket, emitter.token, change, dry_run=False)
    # An officer's token sends nothing, unless it was made for both.
    assert service.post(foreign_request(1).body, officer.token).status == 401
    both = Officer(service, tmp_path / "officer", "k.both", "officer", "emitter")
    assert service.post(foreign_request(1).body, both.token).status == 200
    shown = service.run("policy", "show", "--data", service.data)
    assert shown["number"] == 2
    assert both.activate(good)["number"] == 3
    assert service.run("policy", "show", "--data", service.data)["officer"] == "k.both"
    assert officer.token not in service.log.read_text()


def test_two_officers_at_once_are_both_in_force(service: Service, tmp_path: Path) -> None:
    officers = [Officer(service, tmp_path / name, name) for name in ("m.berger", "l.ito")]
    texts = {"m.berger": house("1"), "l.ito": house("1").replace("house", "home")}
    files = [one.write(texts[one.name], f"{one.name}.yaml") for one in officers]
    running = [
        subprocess.Popen(
            [PROGRAM, *one.command("activate", file), "--json"],
            stdout=subprocess.PIPE,
            text=True,
            env=service.environment,
        )
        for one, file in zip(officers, files, strict=True)
    ]
    said = [json.loads(one.communicate()[0]) for one in running]
    assert sorted(one["number"] for one in said) == [2, 3]
    assert all(one["sealed"] for one in said)
    shown = service.run("policy", "show", "--data", service.data)
    assert {a["name"]: a["officer"] for a in shown["artifacts"] if a["officer"]} == {
        "house.yaml": "m.berger",
        "home.yaml": "l.ito",
    }


def activations(service: Service) -> list[int]:
    """Numbers of the epochs in the journal, sealed or not."""
    bodies = [json.loads(entry.body) for entry in service.entries("control") if entry.kind == "control"]
    return [said["body"]["number"] for said in bodies if said["class"] == "audit.reference.activated"]


@pytest.mark.crash
def test_killed_once_it_is_journaled_it_is_in_force_at_the_next_start(service: Service, tmp_path: Path) -> None:
    officer = Officer(service, tmp_path / "officer")
    file = officer.write(house("1"))
    command = subprocess.Popen(
        [PROGRAM, *officer.command("activate", file), "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=service.environment,
    )
    until(lambda: activations(service) == [1, 2], "the journal to have it")
    service.kill()
    command.communicate()
    service.start()
    sender = Sent("gateway", service.token("gateway"))
    assert sender.deliver(service, foreign_request(3), threading.Event())
    settle(service)
    assert activations(service) == [1, 2]
    logs = prove(service)
    assert {event["reference_epoch"] for event, _ in events(logs, "gateway")} == {2}
    assert {event["determination"] for event, _ in events(logs, "gateway")} == {"prohibited"}
    # Without a service the same command does it, and the next start seals it.
    service.stop()
    withdrawn = service.run(*officer.command("withdraw", "house.yaml"))
    assert (withdrawn["number"], withdrawn["sealed"]) == (3, False)
    service.start()
    shown = service.run("policy", "show", "--data", service.data)
    assert (shown["number"], shown["officer"]) == (3, "m.berger")
    assert "house.yaml" not in {artifact["name"] for artifact in shown["artifacts"]}
    settle(service)
    prove(service)


def test_the_company_that_runs_it_is_part_of_the_epoch(new_service: Callable[..., Service], tmp_path: Path) -> None:
    service = new_service(policy__exporter="acme")
    service.directory.parties.write_text("parties: [{id: acme, name: Acme Inc, country: US, ultimate_parent: self}]\n")
    service.start()
    shown = service.run("policy", "show", "--data", service.data)
    (artifact,) = (one for one in shown["artifacts"] if one["name"] == "deployment.yaml")
    assert artifact["kind"] == "deployment"
    assert (service.directory.reference / artifact["sha256"]).read_text() == 'exporter: "acme"\n'
    # A registry without it would leave directives without an addressee.
    officer = Officer(service, tmp_path / "officer")
    said = officer.activate(officer.write("parties: []\n", "parties.yaml"), status=1)
    assert "'acme' is no party of the registry" in said["message"]
