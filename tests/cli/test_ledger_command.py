"""`auditspan ledger check` as its users run it: statuses, the state that it keeps, and beside a running service."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from command_line import auditspan, fails, gives
from conftest import Running, send
from test_replay_command import alter
from waiting import until


def test_beside_a_running_service_and_while_it_seals(running: Running) -> None:
    report = gives("ledger", "check", "--data", running.data)
    assert (report["verdict"], report["exit_code"]) == ("WHOLE", 0)
    assert [log["partition"] for log in report["logs"]] == ["control", "events-0"]
    state = running.data / "ledger-check.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    before = report["logs"][1]["leaves"]
    send(running.service, running.token)
    until(
        lambda: gives("ledger", "check", "--data", running.data)["logs"][1]["leaves"] >= before + 4, "more to be sealed"
    )
    again = gives("ledger", "check", "--data", running.data)
    assert again["logs"][1]["checked_from"] >= before
    assert gives("ledger", "check", "--data", running.data, "--full")["logs"][1]["leaves_read"] >= before + 4


def test_what_an_administrator_changed_is_found_and_keeps_being_found(stopped: Path) -> None:
    assert gives("ledger", "check", "--data", stopped)["verdict"] == "WHOLE"
    state = (stopped / "ledger-check.json").read_bytes()
    alter(stopped, "ALTER TABLE auditspan.events UPDATE determination = 'no_license_required' WHERE flagged")
    assert gives("ledger", "check", "--data", stopped)["verdict"] == "WHOLE", "it was checked before"
    for _ in range(2):
        report = gives("ledger", "check", "--data", stopped, "--full", status=1)
        (fault,) = [fault for log in report["logs"] for fault in log["faults"]]
        assert (fault["code"], fault["column"]) == ("column.differs", "determination")
        done = auditspan("ledger", "check", "--data", stopped, "--full")
        assert done.status == 1
        assert f"leaf {fault['leaf']}: column.differs determination" in done.out and "ALTERED" in done.out
    assert (stopped / "ledger-check.json").read_bytes() == state, "a bad run is no good one"
    # One that reads from before the change on sees it as well, and keeps nothing.
    assert gives("ledger", "check", "--data", stopped, "--since", "2020-01-01", status=1)["exit_code"] == 1


def test_a_person_is_told_that_it_is_whole(stopped: Path) -> None:
    done = auditspan("ledger", "check", "--data", stopped)
    assert done.status == 0
    assert "WHOLE: The store holds what was signed." in done.out


def test_what_cannot_be_done_is_3(stopped: Path, tmp_path: Path) -> None:
    assert "There is no directory" in fails("ledger", "check", "--data", tmp_path / "typo", status=3)
    assert "contradict" in fails("ledger", "check", "--data", stopped, "--full", "--since", "2026-01-01", status=3)
    assert "is no time" in fails("ledger", "check", "--data", stopped, "--since", "soon", status=3)
    fails("ledger", "check", "--data", stopped, "--banana", status=3)
    (stopped / "trust.json").unlink()
    fails("ledger", "check", "--data", stopped, status=3)


def test_recover_says_what_is_lost_and_changes_nothing(stopped: Path) -> None:
    report = gives("ledger", "recover", "--data", stopped)
    assert not report["recovered"] and not any(log["lost"] for log in report["logs"])
    assert "Nothing is lost" in auditspan("ledger", "recover", "--data", stopped).out
    (state,) = [path for path in (stopped / "signer").glob("*.json") if path.stem == report["logs"][1]["log_id"]]
    said = json.loads(state.read_text())
    state.write_text(json.dumps({**said, "size": said["size"] + 7}))
    report = gives("ledger", "recover", "--data", stopped, status=1)
    events = report["logs"][1]
    assert events["lost"] and events["signed"] == events["stored"] + 7
    done = auditspan("ledger", "recover", "--data", stopped)
    assert done.status == 1
    assert f"leaves {events['stored']:,} to {events['signed'] - 1:,}" in done.out
    assert "--into" in done.err
