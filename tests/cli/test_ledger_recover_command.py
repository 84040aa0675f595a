"""`auditspan ledger recover --into`: the deployment that goes on for one that lost signed leaves."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command_line import auditspan, fails, gives
from conftest import send
from running_service import Service
from waiting import until
from witness_by_hand import HandWitness

from auditspan.cli.recovering import settings_renamed
from auditspan.config import load_settings
from auditspan.errors import AuditSpanError
from auditspan.ledger.signing_key import public_text
from auditspan.ledger.trust import load_trust

COUNT = "SELECT record_id FROM auditspan.events WHERE class = 'model.access'"
NAME = "second.example.com"
OPTIONS = ("--deployment", NAME, "--reason", "the disk was lost, case 7")


@pytest.fixture
def service() -> Iterator[list[Service]]:
    """Those that a test starts; ended with it."""
    started: list[Service] = []
    yield started
    for each in started:
        each.close()


def run_on(data: Path, started: list[Service], events: int, *, sends: bool = True) -> str:
    """Let a service run on ``data`` until it has sealed so many events; the token of a new emitter."""
    running = Service(data)
    started.append(running)
    running.start()
    token = running.token("later")
    if sends:
        send(running, token)
    until(lambda: len(running.rows(COUNT)) == events, f"{events} events")
    running.stop()
    return token


def records(data: Path) -> set[str]:
    return {
        event["record_id"] for event in gives("events", "--data", data, "--all") if event["class"] == "model.access"
    }


def verified(package: Path, trust: Path) -> Any:
    return gives("evidence", "verify", package, "--trust", trust)


def test_an_old_backup_beside_a_newer_signer(stopped: Path, tmp_path: Path, service: list[Service]) -> None:
    """All is lost but a backup and the signer's state: a new deployment says so in its first words."""
    (stopped / "auditspan.toml").write_text("# ours\n[processor]\nheartbeat_seconds = 20.0\n")
    gives("backup", "--data", stopped, "--out", tmp_path / "backup")
    token = run_on(stopped, service, 6)
    shutil.copytree(stopped / "signer", tmp_path / "signer")
    shutil.copy(stopped / "tokens.json", tmp_path / "tokens.json")
    shutil.rmtree(stopped)

    old, new = tmp_path / "old", tmp_path / "new"
    gives("restore", "--from", tmp_path / "backup", "--data", old)
    shutil.rmtree(old / "signer")
    shutil.copytree(tmp_path / "signer", old / "signer")
    shutil.copy(tmp_path / "tokens.json", old / "tokens.json")
    before = gives("ledger", "recover", "--data", old, status=1)
    said = gives("ledger", "recover", "--data", old, "--into", new, *OPTIONS)
    assert said["recovered"]
    assert said["logs"] == before["logs"]
    assert said["carried"] == 0  # the journal is as old as the store
    lost = {log["log_id"]: (log["stored"], log["signed"]) for log in said["logs"]}
    assert all(stored < signed for stored, signed in lost.values())

    assert stat.S_IMODE(new.stat().st_mode) == 0o700
    assert (new / "keys" / "signing.pem").read_bytes() != (old / "keys" / "signing.pem").read_bytes()
    assert (new / "auditspan.toml").read_text().startswith(f'deployment = "{NAME}"\n# ours\n')
    assert load_settings(new / "auditspan.toml").processor.heartbeat_seconds == 20.0

    # Whoever sent goes on with the token that it has.
    running = Service(new)
    service.append(running)
    running.start()
    send(running, token)
    until(lambda: len(running.rows(COUNT)) == 3, "three events")
    sealed = running.rows("SELECT leaf_index FROM auditspan.events WHERE class = 'audit.ledger.recovered'")
    # After leaf 0 and the openings of both logs.
    assert [row["leaf_index"] for row in sealed] == [3]
    running.stop()
    assert gives("ledger", "check", "--data", new, "--full")["verdict"] == "WHOLE"
    assert gives("replay", "--verify", "--data", new)["verdict"] == "IDENTICAL"

    gives("evidence", "export", "--data", new, "--out", tmp_path / "package")
    report = verified(tmp_path / "package", new / "trust.json")
    recovery = report["recovery"]
    assert (recovery["predecessor"], recovery["deployment"]) == (said["predecessor"], NAME)
    assert recovery["reason"] == "the disk was lost, case 7"
    assert recovery["by"].startswith("user:")
    assert {log["log_id"]: (log["stored"]["size"], log["signed"]["size"]) for log in recovery["logs"]} == lost
    sentence = next(each for each in report["not_proven"] if said["predecessor"] in each)
    for log_id, (stored, signed) in lost.items():
        assert f"{stored:,} to {signed - 1:,}" in sentence
        assert log_id in sentence
    shown = auditspan("evidence", "verify", tmp_path / "package", "--trust", new / "trust.json")
    assert f"Goes on for {said['predecessor']}" in shown.out
    page = auditspan(
        "evidence", "verify", tmp_path / "package", "--trust", new / "trust.json", "--html", tmp_path / "r"
    )
    assert page.status == 0
    assert "the disk was lost, case 7" in (tmp_path / "r").read_text()

    # The old one is read and exported, and seals nothing more.
    gives("evidence", "export", "--data", old, "--out", tmp_path / "old-package")
    assert verified(tmp_path / "old-package", old / "trust.json")["recovery"] is None
    for gone in ("restored.json", "nothing"):
        (old / gone).unlink(missing_ok=True)
    assert "Another deployment goes on" in fails("up", "--data", old)
    again = fails("ledger", "recover", "--data", old, "--into", tmp_path / "third", *OPTIONS)
    assert "goes on for" in again and not (tmp_path / "third").exists()


def test_a_later_export_shows_it_as_well(stopped: Path, tmp_path: Path, service: list[Service]) -> None:
    """What the beginning of the control log says is in every package, wherever its interval begins."""
    (stopped / "restored.json").write_text("{}")
    new = tmp_path / "new"
    said = gives("ledger", "recover", "--data", stopped, "--into", new, *OPTIONS)
    assert not any(log["lost"] for log in said["logs"])
    run_on(new, service, 3)
    since = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    run_on(new, service, 6)
    gives("evidence", "export", "--data", new, "--out", tmp_path / "package", "--from", since)
    report = verified(tmp_path / "package", new / "trust.json")
    (control,) = [log for log in report["logs"] if log["partition"] == "control"]
    assert control["interval"][0] > 3
    assert report["recovery"]["predecessor"] == said["predecessor"]
    assert any("not known to be lost" in each for each in report["not_proven"])


def test_what_the_journal_holds_is_not_lost(stopped: Path, tmp_path: Path, service: list[Service]) -> None:
    """The store alone is lost, and an old copy put back: the rest is sealed again, by the new deployment."""
    shutil.copytree(stopped / "store", tmp_path / "store", symlinks=True)
    before = records(stopped)
    run_on(stopped, service, 6)
    everything = records(stopped)
    shutil.rmtree(stopped / "store")
    shutil.copytree(tmp_path / "store", stopped / "store", symlinks=True)
    assert "signed before" in fails("up", "--data", stopped)
    new = tmp_path / "new"
    said = gives("ledger", "recover", "--data", stopped, "--into", new, *OPTIONS)
    assert said["carried"] > 0
    run_on(new, service, 3, sends=False)
    assert records(new) == everything - before
    gives("evidence", "export", "--data", new, "--out", tmp_path / "package")
    report = verified(tmp_path / "package", new / "trust.json")
    assert sum(log["carried"] for log in report["recovery"]["logs"]) == said["carried"]
    assert gives("ledger", "check", "--data", new, "--full")["verdict"] == "WHOLE"
    assert gives("replay", "--verify", "--data", new)["verdict"] == "IDENTICAL"


def test_what_the_operator_set_goes_over(stopped: Path, tmp_path: Path) -> None:
    """Vouchers, parties, lists and who may read: as they were, and nothing that is sealed or secret of the old one."""
    witness = HandWitness("witness.example/1").vkey
    gives("keys", "trust", "add-witness", witness, "--trust", stopped / "trust.json")
    gives("keys", "trust", "policy", "--witnesses", "1", "--trust", stopped / "trust.json")
    (stopped / "parties.yaml").write_text("parties: []\n")
    (stopped / "screening" / "kept").mkdir(parents=True, exist_ok=True)
    (stopped / "screening" / "kept" / "list.bin").write_bytes(b"list")
    (stopped / "restored.json").write_text("{}")
    new = tmp_path / "new"
    gives("ledger", "recover", "--data", stopped, "--into", new, *OPTIONS)
    before, after = load_trust(stopped / "trust.json"), load_trust(new / "trust.json")
    assert [each.vkey for each in after.witnesses] == [witness]
    assert after.policy == before.policy
    assert after.deployment == NAME
    assert not {*map(public_text, before.keys)} & {*map(public_text, after.keys)}
    for name in ("parties.yaml", "screening/kept/list.bin", "read.token", "tokens.json"):
        assert (new / name).read_bytes() == (stopped / name).read_bytes()
    assert (new / "keys" / "salt.key").read_bytes() != (stopped / "keys" / "salt.key").read_bytes()
    assert not any((new / name).exists() for name in ("store", "restored.json", "succeeded.json"))
    assert not list((new / "signer").iterdir())


def test_what_is_refused(stopped: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"

    def refused(*arguments: str | Path, env: dict[str, str] | None = None) -> str:
        said = fails("ledger", "recover", "--data", stopped, *arguments, env=env)
        assert not new.exists() and not list(tmp_path.glob(".new*")) and not (stopped / "succeeded.json").exists()
        return said

    assert "Nothing is lost" in refused("--into", new, *OPTIONS)
    (stopped / "restored.json").write_text("{}")
    assert "--into begins" in refused(*OPTIONS)
    assert "a name of its own" in refused("--into", new)
    assert "a name of its own" in refused("--into", new, "--deployment", NAME)
    assert "the name of the deployment that lost" in refused(
        "--into", new, "--deployment", "auditspan.local", "--reason", "x"
    )
    assert "deployment" in refused("--into", new, "--deployment", "No Name", "--reason", "x")
    assert "1 to 256 bytes" in refused("--into", new, "--deployment", NAME, "--reason", "")
    assert "1 to 256 bytes" in refused("--into", new, "--deployment", NAME, "--reason", "x" * 257)
    assert "AUDITSPAN_DEPLOYMENT" in refused("--into", new, *OPTIONS, env={"AUDITSPAN_DEPLOYMENT": "auditspan.local"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "not empty" in refused("--into", tmp_path / "full", *OPTIONS)
    kafka = {"AUDITSPAN_STORE__URL": "http://127.0.0.1:1"}
    assert fails("ledger", "recover", "--data", stopped, "--into", new, *OPTIONS, env=kafka)


def test_a_statement_that_was_changed_starts_nothing(stopped: Path, tmp_path: Path) -> None:
    (stopped / "restored.json").write_text("{}")
    new = tmp_path / "new"
    gives("ledger", "recover", "--data", stopped, "--into", new, *OPTIONS)
    body = json.loads((new / "recovered.json").read_text())
    body["statement"]["reason"] = "nothing happened"
    (new / "recovered.json").write_text(json.dumps(body))
    assert "no statement of a recovery" in fails("up", "--data", new)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# a comment\n[sql]\nmax_seconds = 3\n",
        'deployment = "old.example.com"  # ours\n[listen]\nsql = "127.0.0.1:9000"\n',
        "  deployment='old.example.com'\n",
    ],
)
def test_only_the_name_in_the_settings_changes(text: str) -> None:
    import tomllib

    changed = tomllib.loads(settings_renamed(text, NAME))
    assert changed.pop("deployment") == NAME
    before = tomllib.loads(text)
    before.pop("deployment", None)
    assert changed == before


def test_settings_in_which_the_name_cannot_be_replaced() -> None:
    with pytest.raises(AuditSpanError, match="cannot be replaced"):
        settings_renamed('deployment = """\nold"""\n', NAME)
