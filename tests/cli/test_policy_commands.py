"""``auditspan policy``: packs and determinations as an officer asks about them, with a service and without."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from command_line import auditspan, fails, gives
from conftest import Running
from running_service import PROGRAM

from auditspan.policy import BASE_FACTS
from auditspan.store.clickhouse import ClickHouseStore

H100 = '{"act": "transfer", "accelerator_model": "H100 SXM", "destination_country": "CN"}'
KEYS = {
    "at", "facts", "text", "enforced", "governing", "flagged", "eccn", "rule_ids", "rules", "citations",
    "review_policy", "destination", "missing_facts", "why",
}  # fmt: skip
PACK = """\
pack: own
version: "1"
title: own rules
source: nobody
rules:
  - id: own/iran
    title: nobody uses a model from Iran
    citations: [internal note 1]
    authority: company_policy
    status: verified
    effective: {from: 2026-01-01}
    when: [act == 'access', destination_country == 'IR']
    outcome: prohibited
    flag: true
    explanation: "{destination_country} is closed"
"""
CASES = """\
cases:
  - name: a model used from Iran
    at: 2026-11-01
    given: {act: access, destination_country: IR, actor_country: US, actor_parent_country: US}
    text: review
    enforced: review
    governing: prohibited
    flagged: true
    eccn: null
    reviewed: false
"""


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(PACK)
    return path


# lint and test


def test_lint_says_that_there_is_no_fault_or_where_each_is(pack: Path) -> None:
    assert gives("policy", "lint", pack)["ok"]
    pack.write_text(PACK.replace("act ==", "acts ==").replace("{destination_country} is", "{place} is"))
    report = gives("policy", "lint", pack, status=1)
    assert [(fault["file"], fault["line"]) for fault in report["faults"]] == [(str(pack), 12), (str(pack), 15)]
    spoken = auditspan("policy", "lint", pack)
    assert spoken.status == 1
    assert f"{pack}:12: the condition" in spoken.out
    assert fails("policy", "lint", pack.parent / "nothing.yaml", status=3)
    assert "directory" in fails("policy", "lint", pack.parent, status=3)


def test_golden_cases_of_the_shipped_packs_and_of_ones_own(pack: Path, tmp_path: Path) -> None:
    shipped = gives("policy", "test")
    assert shipped["cases"] == shipped["passed"] >= 150
    cases = tmp_path / "cases.yaml"
    cases.write_text(CASES)
    assert gives("policy", "test", cases, "--pack", pack)["passed"] == 1
    report = gives("policy", "test", cases, status=1)
    (failure,) = report["failures"]
    assert (failure["name"], failure["file"], failure["line"]) == ("a model used from Iran", str(cases), 2)
    assert {"field": "governing", "expected": "prohibited", "found": "review"} in failure["differences"]
    spoken = auditspan("policy", "test", cases)
    assert (spoken.status, "0 of 1 cases pass" in spoken.out, "prohibited" in spoken.out) == (1, True, True)
    missing = gives("policy", "test", cases, "--pack", pack, "--coverage", status=1)["missing"]
    assert {one["id"] for one in missing} == {"own/iran"}
    cases.write_text(CASES.replace("actor_country", "actor_contry"))
    assert "actor_contry" in fails("policy", "test", cases, status=3)


# explain


def test_the_letter_of_the_officers_page_is_sound_and_says_what_its_cases_say() -> None:
    folder = Path(__file__).parents[2] / "examples" / "directive"
    pack = folder / "directive-acme.yaml"
    assert gives("policy", "lint", pack, folder / "parties.yaml")["ok"]
    report = gives("policy", "test", folder / "directive-acme-cases.yaml", "--pack", pack, "--coverage")
    assert report["cases"] == 3, report


def test_facts_are_explained_to_a_person_and_to_a_program() -> None:
    said = gives("policy", "explain", "--facts", H100, "--at", "2026-11-01")
    assert said.keys() >= KEYS
    assert (said["at"], said["governing"], said["flagged"], said["eccn"]) == (
        "2026-11-01", "license_required", True, "3A090.a",
    )  # fmt: skip
    assert "us-ear/3A090.a-d145" in said["rule_ids"]
    spoken = auditspan("policy", "explain", "--facts", H100, "--at", "2026-11-01")
    assert spoken.status == 0
    places = [spoken.out.index(f"\n{number}. ") for number in range(1, 7)]
    assert places == sorted(places)
    assert "licence required, flagged" in spoken.out
    assert "15 CFR 742.6(a)(6)(iii)(A)" in spoken.out


def test_exceptions_that_could_apply_are_said_with_why_they_do_not() -> None:
    said = gives("policy", "explain", "--facts", H100, "--at", "2026-11-01")
    assert [(one["exception"], one["applies"]) for one in said["exceptions"]] == [
        ("TMP", False), ("RPL", False), ("GOV", False),
    ]  # fmt: skip
    printed = " ".join(auditspan("policy", "explain", "--facts", H100, "--at", "2026-11-01").out.split())
    assert "Exceptions considered - TMP is not relied on, and would not apply. Not met: it goes for" in printed
    assert "[us-ear/exception-gov: 15 CFR 740.11(b); unverified]" in printed


def test_facts_come_from_a_file_from_standard_input_or_with_their_date(tmp_path: Path, pack: Path) -> None:
    expected = gives("policy", "explain", "--facts", H100, "--at", "2026-11-01")
    file = tmp_path / "facts.json"
    file.write_text(json.dumps({"at": "2026-11-01", "facts": json.loads(H100)}))
    assert gives("policy", "explain", "--facts", file) == expected
    file.write_text(json.dumps({**json.loads(H100), "at": "2026-11-01"}))
    assert gives("policy", "explain", "--facts", file) == expected
    command = [PROGRAM, "policy", "explain", "--facts", "-", "--json"]
    done = subprocess.run(command, input=file.read_text(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == expected
    minute = gives("policy", "explain", "--facts", file, "--at", "2022-10-21T00:00")
    assert (minute["at"], minute["rule_ids"][:1]) != (expected["at"], expected["rule_ids"][:1])
    own = gives("policy", "explain", "--facts", '{"act": "access", "destination": "Iran"}', "--pack", pack)
    assert (own["governing"], "own/iran" in own["rule_ids"]) == ("prohibited", True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--list-facts"),
        (("--facts", '{"destination_contry": "CN"}'), "destination_country"),
        (("--facts", "{"), "no JSON"),
        (("--facts", "{" * 100_000), "no JSON"),
        (("--facts", H100, "--at", "tomorrow"), "2026-11-01"),
        (("--facts", '{"at": 7}'), "no text"),
        (("--facts", '{"facts": {}, "act": "access"}'), "Beside"),
        (("--facts", "/nowhere/facts.json"), "/nowhere/facts.json"),
        (("record", "--facts", H100), "either"),
        (("record",), "--data"),
    ],
)
def test_what_cannot_be_explained_is_said(arguments: tuple[str, ...], says: str) -> None:
    assert says in fails("policy", "explain", *arguments)


def test_every_fact_is_listed() -> None:
    listed = gives("policy", "explain", "--list-facts")
    assert [fact["name"] for fact in listed] == list(BASE_FACTS)
    assert all(fact["type"] and fact["meaning"] for fact in listed)
    assert "destination_country" in auditspan("policy", "explain", "--list-facts").out


# Stored events


def record_of(events: list[dict[str, str]], country: str) -> str:
    return next(event["record_id"] for event in events if event["destination_country"] == country)


def test_a_stored_event_is_explained_beside_a_service(running: Running, pack: Path) -> None:
    events = gives("events", "--data", running.data)
    record = record_of(events, "IR")
    said = gives("policy", "explain", record, "--data", running.data)
    assert said.keys() >= KEYS
    assert (said["governing"], said["flagged"], said["destination"]) == ("review", True, "IR")
    assert (said["event"]["record_id"], said["event"]["epoch"], said["other_times"]) == (record, 1, [])
    assert said["why"] == next(event["why"] for event in events if event["record_id"] == record)
    spoken = auditspan("policy", "explain", record, "--data", running.data)
    assert f"Event {record}" in spoken.out.replace("\n", "")
    closed = gives("policy", "explain", record, "--data", running.data, "--pack", pack)
    assert closed["governing"] == "prohibited"
    earlier = gives("policy", "explain", record, "--data", running.data, "--at", "2020-01-01")
    assert (earlier["at"], "us-ear/access-destination" in earlier["rule_ids"]) == ("2020-01-01", False)
    assert "no event" in fails("policy", "explain", "nothing", "--data", running.data)
    facts = gives("policy", "explain", "--facts", H100, "--data", running.data, "--at", "2026-11-01")
    assert facts["governing"] == "license_required"


def test_the_other_commands_read_a_running_service_through_its_endpoint(running: Running, pack: Path) -> None:
    url, env = running.sql, {"AUDITSPAN_READ_TOKEN": running.read_token}
    for where in (("--data", running.data), ("--url", url)):
        report = gives("policy", "recheck", *where, env=env)
        assert (report["verdict"], report["differing_events"]) == ("identical", 0)
        assert report["events"] >= 3
        changed = gives("policy", "diff", "--pack", pack, *where, env=env)
        assert {(change["before"], change["after"]) for change in changed["changes"]} == {
            ("review", "prohibited"), ("review", "review"),
        } or changed["changes"][0]["after"] == "prohibited"  # fmt: skip
        reached = gives("policy", "reach", "--model", "frontier-7", *where, env=env)
        assert reached["nationality_unknown"] == reached["actors"] == 2
        assert sum(actor["events"] for actor in reached["by_actor"]) == reached["events"] >= 3


def test_without_a_service_the_store_is_opened(stopped: Path, pack: Path) -> None:
    assert gives("policy", "recheck", "--data", stopped)["events"] == 3
    spoken = auditspan("policy", "recheck", "--data", stopped, "--since", "2020-01-01", "--until", "2021-01-01")
    assert (spoken.status, "0 determinations" in spoken.out) == (0, True)
    report = gives("policy", "diff", "--pack", pack, "--data", stopped)
    (change,) = [change for change in report["changes"] if change["after"] == "prohibited"]
    assert (change["events"], change["rules_added"]) == (1, ["own/iran"])
    spoken = auditspan("policy", "diff", "--pack", pack, "--data", stopped)
    assert "own/iran" in spoken.out
    spoken = auditspan("policy", "reach", "--rule", "us-ear/access-embargoed", "--data", stopped)
    assert spoken.status == 0
    assert "the nationality is not known" in spoken.out
    assert "\x1b[31m" not in spoken.out  # what a stranger sent does not colour the screen
    limited = gives("policy", "reach", "--model", "frontier-7", "--limit", "1", "--data", stopped)
    assert (limited["shown"], limited["actors"], limited["events"]) == (1, 2, 3)
    assert limited["named_by_no_event"] == []
    asked = ("policy", "reach", "--model", "frontier-7", "--model", "frontier7", "--since", "2030-01-01")
    assert gives(*asked, "--data", stopped)["named_by_no_event"] == ["frontier7"]
    spoken = auditspan("policy", "reach", "--rule", "us-ear/no-such-rule", "--data", stopped)
    assert (spoken.status, "'us-ear/no-such-rule': is it written" in " ".join(spoken.out.split())) == (0, True)


def test_an_altered_determination_fails_and_is_named(stopped: Path) -> None:
    store = ClickHouseStore.embedded(stopped / "store")
    store.command(
        "ALTER TABLE auditspan.events UPDATE facts = replaceOne(facts, '\"IR\"', '\"DE\"') WHERE flagged "
        "SETTINGS mutations_sync = 1"
    )
    (row,) = store.query("SELECT record_id, leaf_index FROM auditspan.events WHERE flagged").to_pylist()
    store.close()
    report = gives("policy", "recheck", "--data", stopped, status=1)
    (differing,) = report["differing"]
    assert (differing["record_id"], differing["leaf"]) == (row["record_id"], row["leaf_index"])
    spoken = auditspan("policy", "recheck", "--data", stopped)
    assert (spoken.status, "1 events differ" in spoken.out) == (1, True)


def test_packs_that_are_gone_leave_a_recheck_incomplete(stopped: Path) -> None:
    for kept in (stopped / "reference").iterdir():
        kept.write_bytes(b"altered")
    # The store has a good copy of each.
    assert gives("policy", "recheck", "--data", stopped)["events"] == 3
    store = ClickHouseStore.embedded(stopped / "store")
    store.command("TRUNCATE TABLE auditspan.reference_artifacts")
    store.close()
    report = gives("policy", "recheck", "--data", stopped, status=2)
    assert (report["verdict"], report["not_recomputed"][0]["events"]) == ("incomplete", 3)
    assert auditspan("policy", "recheck", "--data", stopped).status == 2


def test_what_is_wrong_with_the_command(stopped: Path, tmp_path: Path) -> None:
    assert "no directory" in fails("policy", "recheck", "--data", tmp_path / "nowhere", status=3)
    assert "no time" in fails("policy", "recheck", "--data", stopped, "--since", "yesterday", status=3)
    reversed_ = ("2026-12-01", "2026-11-01")
    for command, first, last, status in (("recheck", "--since", "--until", 3), ("diff", "--from", "--to", 1)):
        at = ("--at", "2027-01-01") if command == "diff" else ()
        limits = (first, reversed_[0], last, reversed_[1])
        assert "later than" in fails("policy", command, "--data", stopped, *limits, *at, status=status)
    assert "--pack" in fails("policy", "diff", "--data", stopped)
    assert "--model" in fails("policy", "reach", "--data", stopped)
    assert "--data" in fails("policy", "reach", "--model", "a")
    broken = tmp_path / "broken.yaml"
    broken.write_text(PACK.replace("act ==", "acts =="))
    assert "no such fact" in fails("policy", "diff", "--pack", broken, "--data", stopped)
