"""`auditspan doctor` finds what is wrong, names the log, and says what to do."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from auditspan.instrumentation.recorder import Recorder
from auditspan.instrumentation.settings import InstrumentationSettings
from command_line import auditspan, fails, gives
from conftest import Running
from running_service import Service

from auditspan.ledger.rotating import KeyFiles, begin_rotation
from auditspan.store.clickhouse import ClickHouseStore


def findings(data: Path, *options: str | Path, status: int = 0) -> dict[str, Any]:
    said = gives("doctor", "--data", data, *options, status=status)
    wrong = [finding for finding in said if finding["state"] == "wrong"]
    assert bool(wrong) == bool(status)
    assert all(finding["remedy"] for finding in wrong), wrong
    return {finding["check"]: finding for finding in said}


def the_wrong_one(data: Path, *options: str | Path) -> dict[str, str]:
    (wrong,) = [one for one in findings(data, *options, status=1).values() if one["state"] == "wrong"]
    return wrong


def log_ids(data: Path) -> dict[str, str]:
    return {log["partition"]: log["log_id"] for log in gives("status", "--data", data)["logs"]}


def test_a_healthy_service_running(running: Running) -> None:
    found = findings(running.data, "--full")
    assert found["service"]["found"] == "it runs"
    assert {"events-0", "events-0 proof", "control", "control proof"} <= set(found)
    shown = auditspan("doctor", "--data", running.data)
    assert "Nothing is wrong." in shown.out
    assert all(len(line) <= 100 for line in shown.out.splitlines())


def test_a_healthy_one_stopped(stopped: Path) -> None:
    found = findings(stopped, "--full")
    assert found["service"]["state"] == "waiting"
    assert "every one of them fits" in found["events-0 proof"]["found"]


def test_a_directory_before_its_first_start(tmp_path: Path) -> None:
    gives("keys", "init", "--data", tmp_path)
    found = findings(tmp_path)
    assert found["journal"]["state"] == "waiting"
    assert "auditspan token create" in found["tokens"]["remedy"]
    assert "There is no directory" in fails("doctor", "--data", tmp_path / "typo")


def test_an_altered_leaf_is_found_in_its_log(stopped: Path) -> None:
    log_id = log_ids(stopped)["events-0"]
    store = ClickHouseStore.embedded(stopped / "store")
    store._connection.command(
        "ALTER TABLE auditspan.events UPDATE header = replaceOne(header, '\"IR\"', '\"DE\"') "
        "WHERE log_id = {log_id:String} SETTINGS mutations_sync = 1",
        {"log_id": log_id},
    )
    store.close()
    assert findings(stopped)["events-0 proof"]["state"] == "ok", "only every leaf says so"
    wrong = the_wrong_one(stopped, "--full")
    assert wrong["check"] == "events-0 proof"
    assert log_id in wrong["found"]
    assert "differ from what was signed" in wrong["found"]


def test_altered_bytes_on_the_disk_are_found_in_their_log(stopped: Path) -> None:
    log_id = log_ids(stopped)["events-0"]
    store = ClickHouseStore.embedded(stopped / "store")
    parts = store.query(
        "SELECT DISTINCT _part AS part FROM auditspan.events WHERE log_id = {log_id:String}", {"log_id": log_id}
    )["part"].to_pylist()
    store.close()
    for part in parts:
        # A part is one file or one file a column.
        files = [file for file in (stopped / "store").rglob(f"{part}/*.bin") if file.stem in ("data", "header")]
        assert files
        for file in files:
            content = bytearray(file.read_bytes())
            # In one file for all columns, not every byte is one of a column that the doctor reads.
            for part_of_it in range(1, 16):
                content[len(content) * part_of_it // 16] ^= 0xFF
            file.write_bytes(content)
    found = findings(stopped, "--full", status=1)
    wrong = " ".join(f"{one['check']} {one['found']}" for one in found.values() if one["state"] == "wrong")
    assert log_id in wrong or "events-0" in wrong


def test_a_store_that_cannot_be_opened(stopped: Path) -> None:
    link = stopped / "store" / "metadata" / "auditspan"
    target = link.resolve()
    link.unlink()
    shutil.copytree(target, link)
    wrong = the_wrong_one(stopped)
    assert wrong["check"] == "store"
    assert "cp -a" in wrong["remedy"]


def test_an_older_store_than_the_signer_remembers(stopped: Path) -> None:
    log_id = log_ids(stopped)["events-0"]
    state = stopped / "signer" / f"{log_id}.json"
    said = json.loads(state.read_text())
    state.write_text(json.dumps({**said, "size": said["size"] + 1000}))
    wrong = the_wrong_one(stopped)
    assert wrong["check"] == "events-0 proof"
    assert "Leaves are missing" in wrong["remedy"]
    assert "put the newest" in fails("up", "--data", stopped, "--otlp-http=127.0.0.1:0", "--sql=127.0.0.1:0")


def test_an_older_signer_than_the_store(stopped: Path) -> None:
    log_id = log_ids(stopped)["control"]
    state = stopped / "signer" / f"{log_id}.json"
    said = json.loads(state.read_text())
    state.write_text(json.dumps({**said, "size": said["size"] - 1}))
    assert "older copy" in the_wrong_one(stopped)["remedy"]
    state.unlink()
    assert "the signer remembers 0" in the_wrong_one(stopped)["found"]
    state.write_text("{}")
    assert "does not say which tree" in the_wrong_one(stopped)["found"]


def test_a_signer_that_signed_another_tree(stopped: Path) -> None:
    state = stopped / "signer" / f"{log_ids(stopped)['events-0']}.json"
    said = json.loads(state.read_text())
    state.write_text(json.dumps({**said, "root": "A" * 43 + "="}))
    assert "another tree" in the_wrong_one(stopped)["found"]


def test_a_checkpoint_that_is_not_valid(stopped: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    gives("keys", "init", "--data", other)
    shutil.copy(other / "trust.json", stopped / "trust.json")
    found = findings(stopped, status=1)
    assert "not valid" in found["events-0 proof"]["found"]
    assert "put back what belongs here" in found["events-0 proof"]["remedy"]


def test_a_journal_newer_than_the_store(stopped: Path) -> None:
    with sqlite3.connect(stopped / "journal" / "journal.sqlite") as journal:
        last = "SELECT max(position) FROM entries WHERE kind != 'control'"
        journal.execute(
            "INSERT INTO entries SELECT position + 1, kind, emitter, authentication, arrival_time, encoding, body "
            f"FROM entries WHERE position = ({last})"
        )
    found = findings(stopped)["events-0"]
    assert found["state"] == "waiting"
    assert found["found"] == "1 journal entries are not sealed yet"
    assert "auditspan up" in found["remedy"]


def test_an_older_journal_than_the_store(stopped: Path) -> None:
    with sqlite3.connect(stopped / "journal" / "journal.sqlite") as journal:
        journal.execute("DELETE FROM entries WHERE position = (SELECT max(position) FROM entries)")
    assert "older copy" in the_wrong_one(stopped)["remedy"]


def test_another_journal_than_the_store_has(stopped: Path) -> None:
    with sqlite3.connect(stopped / "journal" / "journal.sqlite") as journal:
        journal.execute("UPDATE meta SET value = 'sqlite:another' WHERE name = 'identity'")
    found = findings(stopped, status=1)
    assert "another journal" in found["events-0"]["found"]
    (stopped / "journal" / "journal.sqlite").write_bytes(b"not a database" * 1000)
    assert findings(stopped, status=1)["journal"]["state"] == "wrong"
    (stopped / "journal" / "journal.sqlite").unlink()
    assert "Put back the journal" in findings(stopped, status=1)["journal"]["remedy"]


def test_a_key_that_others_can_read(stopped: Path) -> None:
    (stopped / "keys" / "signing.pem").chmod(0o644)
    assert the_wrong_one(stopped)["check"] == "signing key"


def test_a_key_that_nobody_trusts_and_a_rotation_that_is_not_finished(stopped: Path) -> None:
    assert findings(stopped)["key in use"]["state"] == "ok"
    files = KeyFiles(stopped / "keys" / "signing.pem", stopped / "trust.json")
    begin_rotation(files, "auditspan.local", time.time_ns(), 3600)
    waiting = findings(stopped)["key in use"]
    assert waiting["state"] == "waiting"
    assert "auditspan keys rotate" in waiting["remedy"]
    files.next_key.replace(files.signing_key)
    wrong = the_wrong_one(stopped)
    assert wrong["check"] == "key in use"
    assert "none of the keys in" in wrong["found"]


def test_a_full_disk(stopped: Path) -> None:
    env = {"AUDITSPAN_COLLECTOR__MIN_FREE_DISK_BYTES": str(1 << 60)}
    said = gives("doctor", "--data", stopped, status=1, env=env)
    (wrong,) = [finding for finding in said if finding["state"] == "wrong"]
    assert wrong["check"] == "disk"
    assert "Make room" in wrong["remedy"]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """What a process left behind that could not reach its collector."""
    folder = tmp_path / "spool"
    settings = InstrumentationSettings(
        endpoint="http://127.0.0.1:1", token="x", spool_directory=folder, exit_timeout=0.0
    )
    recorder = Recorder(settings)
    recorder.record("model.transfer", {"audit.action": "upload", "audit.outcome": "success"})
    recorder.close()
    return folder


def test_records_in_a_spool_wait_and_are_shipped(running: Running, spool: Path) -> None:
    found = findings(running.data, "--spool", spool)
    (waiting,) = [one for name, one in found.items() if name.startswith("spool ")]
    assert waiting["state"] == "waiting"
    assert f"auditspan spool ship --spool {spool}" in waiting["remedy"]
    listed = gives("spool", "status", "--spool", spool)
    pending = sum(stream["pending"] for stream in listed["streams"])
    assert pending >= 1
    assert "stream" in auditspan("spool", "status", "--spool", spool).out

    endpoint = ("--endpoint", running.service.otlp_http)
    stuck = auditspan("spool", "ship", "--spool", spool, "--endpoint", "http://127.0.0.1:1", "--timeout", "0.5")
    assert stuck.status == 1
    assert f"{pending} still here" in stuck.out
    shipped = gives("spool", "ship", "--spool", spool, *endpoint, env={"AUDITSPAN_TOKEN": running.token})
    assert (shipped["acknowledged"], shipped["pending"]) == (pending, 0)
    assert findings(running.data, "--spool", spool)["spool"]["found"] == "nothing waits"
    assert gives("spool", "status", env={"AUDITSPAN_SPOOL_DIRECTORY": str(spool)})["streams"] == []


def test_refused_records_are_a_fault(running: Running, tmp_path: Path) -> None:
    from auditspan.instrumentation.frames import MAGIC, FrameKind, encode_frame

    spool = tmp_path / "spool"
    (spool / "refused").mkdir(parents=True)
    (spool / "refused" / "a.spool").write_bytes(MAGIC + encode_frame(FrameKind.RECORD, 0, b"record"))
    wrong = the_wrong_one(running.data, "--spool", spool)
    assert "1 records were refused" in wrong["found"]
    assert "refused" in wrong["remedy"]


def test_a_spool_that_is_not_there_is_a_misspelt_one(running: Running, tmp_path: Path) -> None:
    assert "there is no directory" in the_wrong_one(running.data, "--spool", tmp_path / "typo")["found"]
    for command in ("status", "ship"):
        assert "There is no spool directory" in fails("spool", command, "--spool", tmp_path / "typo")


def test_a_killed_service_is_found_as_stopped(tmp_path: Path) -> None:
    service = Service(tmp_path / "data")
    service.run("keys", "init", "--data", service.data)
    try:
        service.start()
        service.kill()
    finally:
        service.close()
    assert service.directory.endpoints.exists()
    assert findings(service.data)["service"]["state"] == "waiting"
