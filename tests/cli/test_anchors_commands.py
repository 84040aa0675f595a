"""Anchors as their users see them: settings, `keys trust`, `keys vkey`, `status`, `doctor`, and a package."""

from __future__ import annotations

import base64
import json
import re
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import auditspan, fails, gives
from conftest import send
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from final_checks import catch_up
from litewitness import Litewitness
from running_service import Service
from timestamp_authority import OpensslAuthority, served
from waiting import until
from witness_by_hand import HandWitness

WITNESSES = [HandWitness(f"witness.example/{number}") for number in range(2)]


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    gives("keys", "init", "--data", tmp_path / "data")
    return tmp_path / "data" / "trust.json"


@pytest.fixture(scope="module")
def openssl(openssl_here: None, tmp_path_factory: pytest.TempPathFactory) -> OpensslAuthority:
    return OpensslAuthority(tmp_path_factory.mktemp("authority"), "tsa")


def test_a_trust_file_is_made_without_an_editor(trust: Path, openssl: OpensslAuthority) -> None:
    assert gives("keys", "trust", "show", "--trust", trust)["policy"] == {"witnesses": 0, "timestamp_authorities": 0}
    for witness in WITNESSES:
        gives("keys", "trust", "add-witness", witness.vkey, "--trust", trust)
    root = openssl.folder / "root.pem"
    gives("keys", "trust", "add-timestamp-authority", "tsa", "--certificates", root, "--trust", trust)
    said = gives("keys", "trust", "policy", "--witnesses", "2", "--timestamp-authorities", "1", "--trust", trust)
    assert said["witnesses"] == [witness.vkey for witness in WITNESSES]
    assert said["policy"] == {"witnesses": 2, "timestamp_authorities": 1}
    assert said == gives("keys", "trust", "show", "--trust", trust)
    assert stat.S_IMODE(trust.stat().st_mode) == 0o644
    shown = auditspan("keys", "trust", "show", "--trust", trust).out
    assert "demanded: 2 of 2 witnesses, 1 of 1 timestamp authorities" in shown
    assert WITNESSES[0].vkey in shown and re.search(r"tsa: root [0-9a-f]{64}", shown)
    assert (
        gives("keys", "trust", "policy", "--witnesses", "1", "--trust", trust)["policy"]["timestamp_authorities"] == 1
    )
    assert gives("keys", "trust", "remove", "witness.example/1", "--trust", trust)["witnesses"] == [WITNESSES[0].vkey]


def test_a_retired_key_is_shown_as_such(trust: Path) -> None:
    document = json.loads(trust.read_text())
    (old,) = document["keys"]
    new = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    document["keys"] = [old | {"retired_at": "2026-11-28T02:19:38Z"}, old | {"public_key": new.decode()}]
    trust.write_text(json.dumps(document))
    said = gives("keys", "trust", "show", "--trust", trust)
    assert said["retired_at"] == {said["keys_sha256"][0]: "2026-11-28T02:19:38.000000000Z"}
    shown = auditspan("keys", "trust", "show", "--trust", trust).out.splitlines()
    assert [line.endswith("retired at 2026-11-28T02:19:38.000000000Z") for line in shown] == [False, True, False, False]


def test_what_would_spoil_a_trust_file_leaves_it_as_it_is(trust: Path, openssl: OpensslAuthority) -> None:
    gives("keys", "trust", "add-witness", WITNESSES[0].vkey, "--trust", trust)
    before = trust.read_bytes()
    add = "add-timestamp-authority"
    for words, arguments in {
        "no verifier key": ["add-witness", "rubbish"],
        "a witness is in it twice": ["add-witness", WITNESSES[0].vkey],
        "None of the 1": [add, "x", "--certificates", openssl.folder / "between.pem"],
        "no certificates": [add, "x", "--certificates", openssl.folder / "serial"],
        "demands 2 witnesses": ["policy", "--witnesses", "2"],
        "names no witness": ["remove", "nobody"],
    }.items():
        assert words in fails("keys", "trust", *arguments, "--trust", trust), arguments
        assert trust.read_bytes() == before
    gives("keys", "trust", "policy", "--witnesses", "1", "--trust", trust)
    assert "demands 1 witnesses" in fails("keys", "trust", "remove", WITNESSES[0].name, "--trust", trust)
    for command in (["show"], ["remove", "nobody"]):
        said = fails("keys", "trust", *command, "--trust", trust.parent / "none.json")
        assert "cannot be read" in said
        assert "keys init" not in said, "whoever verifies has no keys to make"


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for said, words in {
        '{"witnesses": [{"url": "http://x.example", "vkey": "rubbish"}]}': "no verifier key",
        '{"witnesses": [{"url": "ftp://x.example", "vkey": "rubbish"}]}': "http://HOST",
        '{"timestamp_authorities": [{"name": "x", "url": "http://me:secret@x.example"}]}': "no user or password",
        '{"timestamp_authorities": [{"name": "x", "url": "http://x"}, {"name": "x", "url": "http://y"}]}': "one name",
    }.items():
        message = fails("config", "show", env={"AUDITSPAN_ANCHORS": said})
        assert words in message and "secret" not in message, message


class Anchored:
    """A service for which an authority and a witness vouch."""

    def __init__(self, service: Service, openssl: OpensslAuthority) -> None:
        self.service, self.openssl = service, openssl
        self.data = service.data

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.service.directory.read_endpoints()['otlp_http']}/metrics") as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def anchored(
    openssl: OpensslAuthority, litewitness: Litewitness, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Anchored]:
    data = tmp_path_factory.mktemp("anchored") / "data"
    gives("keys", "init", "--data", data)
    with served(openssl) as authority, litewitness.running("witness.example/lite") as witness:
        anchors = {
            "interval_seconds": 1,
            "witnesses": [{"url": witness.url, "vkey": witness.vkey}],
            "timestamp_authorities": [{"name": "tsa", "url": authority.url}],
        }
        (data / "auditspan.toml").write_text(_toml(anchors))
        trust = data / "trust.json"
        gives("keys", "trust", "add-timestamp-authority", "tsa", "--certificates", openssl.folder / "root.pem",
              "--trust", trust)  # fmt: skip
        service = Service(data)
        service.start()
        try:
            send(service, service.token("gateway"))
            said = gives("keys", "vkey", "--data", data)
            witness.know(said["origin"], said["vkeys"][0])
            gives("keys", "trust", "add-witness", witness.vkey, "--trust", trust)
            gives("keys", "trust", "policy", "--witnesses", "1", "--timestamp-authorities", "1", "--trust", trust)
            catch_up(service)
            yield Anchored(service, openssl)
        finally:
            service.stop()


def _toml(anchors: dict[str, Any]) -> str:
    lines = ["[anchors]", f"interval_seconds = {anchors['interval_seconds']}"]
    for name in ("witnesses", "timestamp_authorities"):
        for one in anchors[name]:
            lines += [f"[[anchors.{name}]]", *(f"{key} = {json.dumps(value)}" for key, value in one.items())]
    return "\n".join(lines) + "\n"


def covered(anchored: Anchored) -> bool:
    """Whether both vouch for a control log that holds a round over all leaves of the data log."""
    said = gives("status", "--data", anchored.data)
    control = next(log for log in said["logs"] if log["partition"] == "control")
    anchors = {one["name"]: one["control_leaves"] for one in said["anchors"]}
    return set(anchors) == {"tsa", "witness.example/lite"} and min(anchors.values()) >= control["leaves"] - 2


def test_a_package_says_who_vouches_for_it(anchored: Anchored, tmp_path: Path) -> None:
    until(lambda: covered(anchored), "both to vouch", seconds=90)
    package, trust = tmp_path / "package", anchored.data / "trust.json"
    gives("evidence", "export", "--data", anchored.data, "--out", package)
    report = gives("evidence", "verify", package, "--trust", trust)
    assert report["verdict"] == "VALID"
    assert report["anchors"]["demanded"] == {"witnesses": 1, "timestamp_authorities": 1}
    events = next(log for log in report["anchors"]["logs"] if log["partition"] == "events-0")
    assert sorted(events["by"]) == ["timestamp authority tsa", "witness witness.example/lite"]
    assert events["anchored_to"] >= 4 and re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}Z", events["existed_at"])
    shown = auditspan("evidence", "verify", package, "--trust", trust).out
    assert "1 of 1 witnesses and 1 of 1 timestamp authorities demanded" in shown


def test_status_doctor_and_metrics_say_who_vouched_when(anchored: Anchored) -> None:
    until(lambda: covered(anchored), "both to vouch", seconds=90)
    assert re.search(r"Control log anchored by .*\btsa [\d,]+ s ago", auditspan("status", "--data", anchored.data).out)
    found = {one["check"]: one for one in gives("doctor", "--data", anchored.data)}
    assert found["timestamp authority tsa"]["state"] == "ok"
    assert found["witness witness.example/lite"]["state"] == "ok"
    metrics = anchored.metrics()
    assert re.search(r'auditspan_anchored_total\{kind="timestamp",name="tsa"\} [1-9]', metrics)
    assert re.search(r'auditspan_anchor_age_seconds\{kind="cosignature",name="witness.example/lite"\} \d', metrics)


def test_doctor_says_whom_verifiers_do_not_know(anchored: Anchored) -> None:
    trust = anchored.data / "trust.json"
    kept = trust.read_bytes()
    try:
        gives("keys", "trust", "policy", "--witnesses", "0", "--trust", trust)
        gives("keys", "trust", "remove", "witness.example/lite", "--trust", trust)
        found = {one["check"]: one for one in gives("doctor", "--data", anchored.data, status=1)}
        wrong = found["witness witness.example/lite"]
        assert wrong["state"] == "wrong" and "auditspan keys trust add-witness" in wrong["remedy"]
        assert found["timestamp authority tsa"]["state"] == "ok"
    finally:
        trust.write_bytes(kept)
