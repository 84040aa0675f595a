"""`auditspan backup` and `restore`: the same bytes again, or nothing; and an old one does not go on by itself."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from command_line import auditspan, fails, gives
from conftest import Running, send
from running_service import Service
from waiting import until

from auditspan.backup import BackupInvalid, make_backup, read_manifest, restore_backup

PASSING = {"lock", "endpoints.json", "control.sock", "ledger-check.json", "restored.json"}


def content(root: Path) -> dict[str, Any]:
    """What lies below a data directory, by path: bytes, links, folders."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name in PASSING:
            continue
        if path.is_symlink():
            found[name] = (path.parent.resolve() / os.readlink(path)).resolve().relative_to(root.resolve())  # noqa: PTH115
        else:
            found[name] = path.read_bytes() if path.is_file() else "folder"
    return found


def modes(root: Path) -> set[tuple[bool, int]]:
    paths = [root, *root.rglob("*")]
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in paths if not path.is_symlink()}


@pytest.fixture
def backup(stopped: Path, tmp_path: Path) -> Path:
    said = gives("backup", "--data", stopped, "--out", tmp_path / "backup")
    assert said["deployment"] == "auditspan.local" and said["files"] > 20 and said["store"] == "embedded"
    return tmp_path / "backup"


def test_what_is_restored_is_what_was_there_and_goes_on(stopped: Path, backup: Path, tmp_path: Path) -> None:
    assert modes(backup) == {(True, 0o700), (False, 0o600)}
    assert {path.name for path in backup.iterdir()} == {"backup.json", "data"}
    restored = tmp_path / "restored"
    said = gives("restore", "--from", backup, "--data", restored, "--nothing-since")
    assert said["goes_on"]
    assert content(restored) == content(stopped)
    assert modes(restored) == {(True, 0o700), (False, 0o600)}
    shutil.rmtree(stopped)  # nothing of the copy leads back to it
    assert gives("ledger", "check", "--data", restored)["verdict"] == "WHOLE"
    assert gives("replay", "--verify", "--data", restored)["verdict"] == "IDENTICAL"
    service = Service(restored)
    try:
        service.start()
        before = len(service.rows("SELECT 1 FROM auditspan.events WHERE class = 'model.access'"))
        send(service, service.token("another"))
        until(
            lambda: len(service.rows("SELECT 1 FROM auditspan.events WHERE class = 'model.access'")) == before + 3,
            "three more",
        )
        service.stop()
    finally:
        service.close()
    assert gives("ledger", "check", "--data", restored, "--full")["verdict"] == "WHOLE"


def test_an_old_backup_is_for_reading_and_says_what_is_lost_beside_a_newer_signer(
    stopped: Path, backup: Path, tmp_path: Path
) -> None:
    service = Service(stopped)
    try:
        service.start()
        send(service, service.token("later"))
        until(lambda: len(service.rows("SELECT 1 FROM auditspan.events WHERE class = 'model.access'")) == 6, "six")
        service.stop()
    finally:
        service.close()
    restored = tmp_path / "restored"
    assert not gives("restore", "--from", backup, "--data", restored)["goes_on"]
    listen = ("--otlp-http=127.0.0.1:0", "--otlp-grpc=127.0.0.1:0", "--sql=127.0.0.1:0")
    assert "was restored from a backup" in fails("up", "--data", restored, *listen)
    assert gives("ledger", "check", "--data", restored)["verdict"] == "WHOLE"
    assert len(gives("events", "--data", restored, "--all")) >= 3
    assert not any(log["lost"] for log in gives("ledger", "recover", "--data", restored, status=1)["logs"])
    assert "is not known here" in auditspan("ledger", "recover", "--data", restored).err
    # With the signer's state of the day, as it is kept elsewhere, neither a check nor a start is deceived.
    (restored / "restored.json").unlink()
    shutil.rmtree(restored / "signer")
    shutil.copytree(stopped / "signer", restored / "signer")
    report = gives("ledger", "check", "--data", restored, "--full", status=1)
    assert {"root.differs"} == {fault["code"] for log in report["logs"] for fault in log["faults"]}
    lost = gives("ledger", "recover", "--data", restored, status=1)["logs"]
    assert all(log["lost"] and log["signed"] > log["stored"] for log in lost)
    assert "signed before" in fails("up", "--data", restored, *listen)


def test_a_running_service_is_not_backed_up(running: Running, tmp_path: Path) -> None:
    said = fails("backup", "--data", running.data, "--out", tmp_path / "backup")
    assert "would not be of one moment" in said and "Stop it" in said
    assert not (tmp_path / "backup").exists()
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(stopped: Path, backup: Path, tmp_path: Path) -> None:
    assert "is not empty" in fails("backup", "--data", stopped, "--out", backup)
    assert "is not empty" in fails("restore", "--from", backup, "--data", stopped)
    (tmp_path / "file").touch()
    assert "in the way" in fails("restore", "--from", backup, "--data", tmp_path / "file")
    assert "inside of" in fails("backup", "--data", stopped, "--out", stopped / "backup")
    (tmp_path / "empty").mkdir()
    assert gives("restore", "--from", backup, "--data", tmp_path / "empty")["files"] > 20


def test_what_is_no_backup(tmp_path: Path, stopped: Path) -> None:
    assert "is no backup" in fails("restore", "--from", stopped, "--data", tmp_path / "new")
    assert "is no backup" in fails("restore", "--from", tmp_path / "typo", "--data", tmp_path / "new")


def altered(backup: Path) -> dict[str, Any]:
    """Ways in which a backup is not what its manifest says."""
    data = backup / "data"
    largest = max((path for path in data.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)

    def flip() -> None:
        text = bytearray(largest.read_bytes())
        text[len(text) // 2] ^= 1
        largest.write_bytes(text)

    def cut() -> None:
        with largest.open("r+b") as file:
            file.truncate(largest.stat().st_size - 1)

    def link() -> None:
        (data / "trust.json").unlink()
        (data / "trust.json").symlink_to("keys/signing.pem")

    def leads_out() -> None:
        (data / "more").symlink_to("../../outside")

    return {
        "a bit": flip,
        "a byte less": cut,
        "a file less": lambda: (data / "keys" / "salt.key").unlink(),
        "a file more": lambda: (data / "keys" / "other.pem").write_text("x"),
        "a folder more": lambda: (data / "more").mkdir(),
        "a link in place of a file": link,
        "a link that leads out": leads_out,
        "a pipe": lambda: os.mkfifo(data / "pipe"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "a bit",
        "a byte less",
        "a file less",
        "a file more",
        "a folder more",
        "a link in place of a file",
        "a link that leads out",
        "a pipe",
    ],
)
def test_an_altered_backup_restores_nothing(small: Path, name: str, tmp_path: Path) -> None:
    made = tmp_path / "backup"
    make_backup(small, made, {"made_at": "now"})
    altered(made)[name]()
    with pytest.raises(BackupInvalid):
        restore_backup(made, tmp_path / "new", read_manifest(made))
    assert {path.name for path in tmp_path.iterdir()} <= {"backup", "small"}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    root = tmp_path / "small"
    (root / "keys").mkdir(parents=True)
    (root / "keys" / "signing.pem").write_text("secret")
    (root / "keys" / "salt.key").write_bytes(b"salt")
    (root / "trust.json").write_text("{}")
    (root / "store" / "deep").mkdir(parents=True)
    (root / "store" / "deep" / "data.bin").write_bytes(bytes(3 << 20))
    (root / "store" / "link").symlink_to("deep")
    (root / "store" / "absolute").symlink_to(root / "store" / "deep")
    (root / "lock").write_text("1 x")
    return root


def test_links_lead_within_the_copy(small: Path, tmp_path: Path) -> None:
    make_backup(small, tmp_path / "backup", {})
    restore_backup(tmp_path / "backup", tmp_path / "new", read_manifest(tmp_path / "backup"))
    assert not (tmp_path / "new" / "lock").exists()
    for name in ("link", "absolute"):
        assert (tmp_path / "new" / "store" / name).resolve() == (tmp_path / "new" / "store" / "deep").resolve()
    (small / "out").symlink_to("/etc")
    with pytest.raises(BackupInvalid, match="leads out"):
        make_backup(small, tmp_path / "other", {})
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "a\0b"])
def test_a_manifest_with_paths_that_lead_out_is_none(small: Path, path: str, tmp_path: Path) -> None:
    made = tmp_path / "backup"
    make_backup(small, made, {})
    document = json.loads((made / "backup.json").read_text())
    for part in ("files", "links"):
        changed = json.loads(json.dumps(document))
        changed[part][path] = {"size": 0, "sha256": "0" * 64} if part == "files" else "x"
        (made / "backup.json").write_text(json.dumps(changed))
        with pytest.raises(BackupInvalid):
            read_manifest(made)
    (made / "backup.json").write_text(json.dumps({**document, "folders": [path]}))
    with pytest.raises(BackupInvalid):
        read_manifest(made)


def test_an_interrupted_copy_leaves_nothing(small: Path, tmp_path: Path) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(_done: int, _total: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        make_backup(small, tmp_path / "backup", {}, interrupt)
    assert {path.name for path in tmp_path.iterdir()} == {"small"}
    make_backup(small, tmp_path / "backup", {})
    with pytest.raises(Interrupted):
        restore_backup(tmp_path / "backup", tmp_path / "new", read_manifest(tmp_path / "backup"), interrupt)
    assert {path.name for path in tmp_path.iterdir()} == {"small", "backup"}


def test_a_person_is_told_that_keys_are_in_it(stopped: Path, tmp_path: Path) -> None:
    done = auditspan("backup", "--data", stopped, "--out", tmp_path / "backup")
    assert done.status == 0
    assert "Private keys are in it" in done.out
    done = auditspan("restore", "--from", tmp_path / "backup", "--data", tmp_path / "new")
    assert done.status == 0
    assert "does not start on it" in done.out
