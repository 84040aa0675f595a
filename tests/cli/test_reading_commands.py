"""`status` and `events`: of a running service, of one elsewhere, and of a directory whose service has ended."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command_line import Done, auditspan, fails, gives
from conftest import HOSTILE, Running
from running_service import PROGRAM


def test_status_of_a_running_service(running: Running) -> None:
    document = gives("status", "--data", running.data)
    assert document["running"] and document["ready"] and document["healthy"]
    assert document["endpoints"] == running.service.directory.read_endpoints()
    logs = {log["partition"]: log for log in document["logs"]}
    assert set(logs) == {"events-0", "control"}
    assert logs["events-0"]["checkpoint_size"] <= logs["events-0"]["leaves"]
    assert logs["events-0"]["flagged"] >= 1
    assert document["disk"]["free"] > document["disk"]["journal"] > 0
    shown = auditspan("status", "--data", running.data).out
    assert "runs and is ready" in shown
    assert re.search(r"Journal [\d.]+ [kM]B, store [\d.]+ [kM]B, free on disk [\d.]+ [GT]B", shown)
    assert all(len(line) <= 100 for line in shown.splitlines())
    assert "events-0 │" in shown, "no word is broken at 100 columns"


def test_status_of_a_stopped_one(stopped: Path) -> None:
    document = gives("status", "--data", stopped)
    assert not document["running"]
    logs = {log["partition"]: log for log in document["logs"]}
    assert all(log["checkpoint_size"] == log["leaves"] > 0 for log in logs.values())
    shown = auditspan("status", "--data", stopped).out
    assert "No service runs here" in shown
    assert "all, " in shown


def test_events_are_those_that_were_sent(running: Running) -> None:
    rows = gives("events", "--data", running.data, "--class", "model.access")
    assert {row["actor_id"] for row in rows} == {"sha256:9f86d081", HOSTILE}
    assert {row["destination_country"] for row in rows} == {"DE", "IR"}
    for row in rows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", row["event_time"])
        assert re.fullmatch(r"[0-9a-f]{32}", row["trace_id"])
    times = [row["arrival_time"] for row in rows]
    assert times == sorted(times, reverse=True)


def test_filters_choose(running: Running) -> None:
    def found(*options: str) -> list[dict[str, object]]:
        rows = gives("events", "--data", running.data, "--limit", "10000", *options)
        assert isinstance(rows, list)
        return rows

    flagged = found("--flagged")
    assert {row["destination_country"] for row in flagged} == {"IR"}
    assert all(row["flagged"] for row in flagged)
    determination = str(flagged[0]["determination"])
    assert all(row["determination"] == determination for row in found("--determination", determination))
    assert len(found("--limit", "1")) == 1
    assert found("--since", "2999-01-01") == []
    assert len(found("--since", "2026-01-01T00:00:00", "--class", "model.access")) == len(
        found("--class", "model.access")
    )
    assert {row["class"] for row in found("--all")} >= {"model.access", "audit.batch", "audit.checkpoint"}
    assert not {row["class"] for row in found()} & {"audit.batch", "audit.checkpoint", "other"}
    assert {row["class"] for row in found("--class", "audit.batch")} == {"audit.batch"}


def test_distinct_counts_those_that_are_alike(running: Running) -> None:
    each = gives("events", "--data", running.data, "--class", "model.access", "--limit", "10000")
    distinct = gives("events", "--data", running.data, "--class", "model.access", "--distinct")
    assert sum(row["events"] for row in distinct) == len(each)
    assert len(distinct) == len({(row["actor_id"], row["destination_country"]) for row in each}) == 3


def test_a_word_that_no_event_has_is_an_error(running: Running) -> None:
    assert "model.access" in fails("events", "--data", running.data, "--class", "model.acess")
    assert "license_required" in fails("events", "--data", running.data, "--determination", "licence")


@pytest.mark.parametrize("columns", ["80", "100", "200"])
def test_a_table_shows_strange_text_and_obeys_none_of_it(running: Running, columns: str) -> None:
    done = auditspan("events", "--data", running.data, env={"COLUMNS": columns})
    assert done.status == 0
    assert "\x1b" not in done.out
    assert "\u202e" not in done.out
    assert "[/red]" in done.out
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert "15 CFR" in done.out
    assert any(line.startswith("│") for line in lines)
    assert all(line.endswith("│") for line in lines if line.startswith("│")), "what is too long is folded, not cut"


def test_who_sees_not_all_of_them_is_told(running: Running) -> None:
    some = auditspan("events", "--data", running.data, "--limit", "2").out
    assert some.startswith("The latest 2 events")
    assert "There are more" in some
    every = gives("events", "--data", running.data, "--limit", "100000")
    shown = auditspan("events", "--data", running.data, "--limit", str(len(every))).out
    assert shown.startswith(f"{len(every)} events")
    assert "There are more" not in shown
    assert len(gives("events", "--data", running.data, "--limit", "2")) == 2
    assert len(gives("events", "--data", running.data, "--distinct", "--limit", "2")) == 2


def test_the_table_names_the_record_that_explain_asks_for(running: Running) -> None:
    records = [row["record_id"] for row in gives("events", "--data", running.data)]
    shown = auditspan("events", "--data", running.data, env={"COLUMNS": "400"}).out
    # An id is folded to the width of its column.
    cells = "".join(line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│"))
    assert records
    assert all(record in cells for record in records)


def test_an_endpoint_elsewhere_is_read_by_url(running: Running) -> None:
    url = running.sql.replace("//", f"//any:{running.read_token}@")
    document = gives("status", "--url", url)
    assert {log["partition"] for log in document["logs"]} == {"events-0", "control"}
    assert "A service answers at 127.0.0.1" in auditspan("status", "--url", url).out
    assert len(gives("events", "--url", url, "--class", "model.access")) >= 3


def test_the_token_may_stand_in_the_environment_instead(running: Running) -> None:
    assert gives("status", "--url", running.sql, env={"AUDITSPAN_READ_TOKEN": running.read_token})["logs"]
    assert gives("events", "--url", running.sql, env={"AUDITSPAN_READ_TOKEN": running.read_token})
    assert "AUDITSPAN_READ_TOKEN" in fails("status", "--url", running.sql)


@pytest.mark.parametrize(
    "url",
    [
        "any:SECRET@127.0.0.1:8123",
        "http://any:SECRET@127.0.0.1:banana",
        "http://any:SECRET@",
        "ftp://any:SECRET@127.0.0.1",
        "http://any:SECRET@[::1",
        "http://any:SECRET@127.0.0.1:1",
        "{sql}",
    ],
)
def test_no_error_repeats_the_token(running: Running, url: str) -> None:
    said = fails("events", "--url", url.replace("{sql}", running.sql.replace("//", "//any:SECRET@")))
    assert "SECRET" not in said


def test_where_nothing_answers_is_said_once() -> None:
    done = auditspan("events", "--url", "http://127.0.0.1:1")
    assert done.status == 1
    assert done.err.startswith("Error: The SQL endpoint at 127.0.0.1:1 cannot be used"), done.err
    assert "DIR/endpoints.json" in done.err


def test_it_must_be_clear_where_to_read(running: Running) -> None:
    assert "--data DIR or --url URL" in fails("status")
    assert "--data DIR or --url URL" in fails("events", "--data", running.data, "--url", running.sql)
    assert "There is no directory" in fails("status", "--data", running.data / "typo")
    assert "no store yet" in fails("events", "--data", running.data.parent)


def test_readers_of_a_stopped_directory_wait_for_each_other(stopped: Path) -> None:
    done: list[Done] = []
    readers = [
        threading.Thread(target=lambda: done.append(auditspan("events", "--data", stopped, "--json"))) for _ in range(3)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert [one.status for one in done] == [0, 0, 0]
    assert all(len(one.json()) == 3 for one in done)


def test_a_reader_that_goes_away_is_no_fault(running: Running) -> None:
    command = f"{PROGRAM} events --data {running.data} --all --limit 1000 --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "["


def test_no_pandas_is_needed_for_times_to_the_nanosecond(running: Running) -> None:
    program = (
        "import sys; sys.modules['pandas'] = None\n"
        "from auditspan.cli.main import main\n"
        f"sys.argv = ['auditspan', 'events', '--data', {str(running.data)!r}, '--json']\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
