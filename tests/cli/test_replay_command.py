"""``auditspan replay --verify`` as its users run it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from command_line import auditspan, fails, gives
from conftest import Running, send

from auditspan.journal.sqlite import SqliteJournal
from auditspan.store.clickhouse import ClickHouseStore


def alter(data: Path, statement: str) -> None:
    store = ClickHouseStore.embedded(data / "store")
    store._connection.command(f"{statement} SETTINGS mutations_sync = 1")
    store.close()


def test_beside_a_running_service_and_while_it_seals(running: Running) -> None:
    send(running.service, running.token)
    report = gives("replay", "--verify", "--data", running.data)
    assert (report["verdict"], report["exit_code"]) == ("IDENTICAL", 0)
    assert [log["partition"] for log in report["logs"]] == ["control", "events-0"]
    assert all(log["leaves"] > 2 and log["replayed_from"] == 0 and not log["faults"] for log in report["logs"])


def test_without_a_service_it_says_so_to_a_person_too(stopped: Path) -> None:
    done = auditspan("replay", "--verify", "--data", stopped)
    assert done.status == 0
    assert "IDENTICAL" in done.out
    assert "events-0" in done.out


def test_one_altered_byte_fails_and_names_log_and_leaf(stopped: Path) -> None:
    alter(stopped, "ALTER TABLE auditspan.events UPDATE facts = replaceOne(facts, '\"IR\"', '\"DE\"') WHERE flagged")
    report = gives("replay", "--verify", "--data", stopped, status=1)
    assert report["verdict"] == "DIFFERENT"
    (fault,) = [fault for log in report["logs"] for fault in log["faults"]]
    assert (fault["code"], fault["partition"], fault["column"]) == ("facts.differs", "events-0", "facts")
    store = ClickHouseStore.embedded(stopped / "store")
    (row,) = store.query("SELECT log_id, leaf_index FROM auditspan.events WHERE flagged").to_pylist()
    store.close()
    assert (fault["log_id"], fault["leaf"]) == (row["log_id"], row["leaf_index"])
    done = auditspan("replay", "--verify", "--data", stopped, "--log", "events-0")
    assert done.status == 1
    assert f"events-0 leaf {row['leaf_index']}: facts.differs" in done.out
    assert gives("replay", "--verify", "--data", stopped, "--log", "control")["exit_code"] == 0


def test_a_trimmed_journal_is_incomplete(stopped: Path) -> None:
    journal = SqliteJournal(stopped / "journal" / "journal.sqlite", 1)
    journal.trim("events-0", journal.high_water_mark("events-0"))
    journal.close()
    report = gives("replay", "--verify", "--data", stopped, status=2)
    assert report["verdict"] == "INCOMPLETE"
    control, events = report["logs"]
    assert (control["state"], events["state"]) == ("identical", "incomplete")
    assert events["replayed_from"] == events["leaves"]
    assert "trimmed" in events["not_derived"][0]


def test_what_is_wrong_with_the_command_ends_with_3(stopped: Path, tmp_path: Path) -> None:
    assert "--verify" in fails("replay", "--data", stopped, status=3)
    assert "--data" in auditspan("replay", "--verify").err
    assert auditspan("replay", "--verify").status == 3
    assert "no directory" in fails("replay", "--verify", "--data", tmp_path / "nowhere", status=3)
    assert "events-0" in fails("replay", "--verify", "--data", stopped, "--log", "events-7", status=3)
    shutil.rmtree(stopped / "journal")
    assert "no journal" in fails("replay", "--verify", "--data", stopped, status=3)


def test_neither_payload_nor_salt_is_shown(stopped: Path) -> None:
    alter(stopped, "ALTER TABLE auditspan.events UPDATE salt = reverse(salt), payload = reverse(payload) WHERE flagged")
    store = ClickHouseStore.embedded(stopped / "store")
    (row,) = store.query("SELECT hex(salt) AS s, hex(payload) AS p FROM auditspan.events WHERE flagged").to_pylist()
    store.close()
    said = json.dumps(gives("replay", "--verify", "--data", stopped, status=1)).upper()
    assert "SALT.DIFFERS" in said
    assert "PAYLOAD.DIFFERS" in said
    for secret in (row["s"], row["p"], bytes.fromhex(row["s"])[::-1].hex().upper()):
        assert secret not in said
