"""`cases`: open ones, one alone, and those that the registry has answered."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from auditspan.processors.control_entries import ControlLog
from command_line import auditspan, fails, gives
from conftest import HOSTILE, Running, start
from running_service import Service
from sent_spans import an_access, request_of, resource
from waiting import until

import auditspan.cli.cases as cases_command
from auditspan.policy.reference import Reference
from auditspan.semconv import EventClass

sys.path.insert(0, str(Path(__file__).parents[1] / "processors"))

from sealing_deployment import artifacts
from sealing_deployment import running as sealing

STRANGER = "actor:sha256:9f86d081"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service of this file's own: what tests of other files send would open cases here too."""
    given = start(tmp_path_factory.mktemp("cases") / "data")
    yield given
    given.service.close()


def test_open_cases_of_a_running_service(running: Running) -> None:
    found = {case["subject"]: case for case in gives("cases", "list", "--data", running.data)}
    assert set(found) == {STRANGER, f"actor:{HOSTILE}"}
    case = found[STRANGER]
    assert (case["question"], case["state"], case["events"], case["missing_facts"]) == (
        "actor_party", "open", 1, ["actor_party"],
    )  # fmt: skip
    assert "add it to that party in the registry" in case["what_to_do"]
    assert len(case["case_id"]) == 16
    assert gives("cases", "list", "--url", running.sql.replace("//", f"//any:{running.read_token}@")) == [
        *found.values()
    ]
    assert gives("cases", "list", "--data", running.data, "--since", "2999-01-01") == []
    assert gives("status", "--data", running.data)["cases"] == {"cases": 2, "of_the_last_day": 2}
    assert "Cases: 2" in auditspan("status", "--data", running.data).out


def test_flagged_events_are_in_no_case_and_are_all_shown(running: Running) -> None:
    flagged = gives("events", "--data", running.data, "--flagged")
    cases = gives("cases", "list", "--data", running.data, "--all")
    reviews = [e for e in gives("events", "--data", running.data, "--determination", "review") if not e["flagged"]]
    assert len(flagged) == 1
    assert sum(case["events"] for case in cases) == len(reviews) == 2


def test_one_case_with_its_members_and_events(running: Running) -> None:
    case = next(c for c in gives("cases", "list", "--data", running.data) if c["subject"] == STRANGER)
    shown = gives("cases", "show", case["case_id"][:8], "--data", running.data)
    assert {name: shown[name] for name in case} == case
    assert [member["subject"] for member in shown["shown_members"]] == [STRANGER]
    (event,) = shown["latest_events"]
    assert (event["actor_id"], event["missing_facts"]) == ("sha256:9f86d081", ["actor_party"])
    assert "does not know" in event["why"]
    text = auditspan("cases", "show", case["case_id"], "--data", running.data).out
    assert f"Case {case['case_id']}, open: unknown actor sha256:9f86d081" in text
    assert "who the actor is" in text


def test_a_table_shows_strange_text_and_obeys_none_of_it(running: Running) -> None:
    done = auditspan("cases", "list", "--data", running.data)
    assert done.status == 0
    assert "\x1b[31m" not in done.out and "\u202e" not in done.out
    assert "evil" in done.out
    assert all(len(line) <= 100 for line in done.out.splitlines())


def test_a_case_that_there_is_not_is_an_error(running: Running) -> None:
    assert "cases list" in fails("cases", "show", "ffffffffffffffff0", "--data", running.data)
    assert "Several cases" in fails("cases", "show", "", "--data", running.data)


def test_of_two_epochs_with_one_number_the_registry_of_the_first_answers(tmp_path: Path) -> None:
    registry, empty = b"parties: [{id: acme, name: Acme}]\n", b"parties: []\n"
    with sealing(tmp_path, artifacts={**artifacts(), "parties.yaml": registry}) as deployment:
        first, late = (Reference.load({**artifacts(), "parties.yaml": text}, 1) for text in (registry, empty))
        deployment.store.keep_artifacts([artifact.content for one in (first, late) for artifact in one.artifacts])
        control = ControlLog(deployment.journal, time.time_ns)
        control.append(EventClass.REFERENCE_ACTIVATED, "somebody", late.to_control_body())
        leaves = f"SELECT 1 FROM auditspan.events WHERE class = '{EventClass.REFERENCE_ACTIVATED}'"
        until(lambda: deployment.store.query(leaves).num_rows == 2, "both are sealed")
        parties = cases_command._registry(deployment.store)
        assert parties is not None and parties.by_id("acme") is not None


def test_a_registry_that_knows_the_actor_answers_the_case(stopped: Path) -> None:
    assert len(gives("cases", "list", "--data", stopped)) == 2
    registry = b"""parties:
  - {id: acme, name: Acme, country: US, ultimate_parent: self, credentials: ["sha256:9f86d081"]}
"""
    (stopped / "parties.yaml").write_bytes(registry)
    service = Service(stopped)
    service.start()
    try:
        token = service.token("second")
        sent = request_of(resource({"service.name": "gateway"}), [an_access({"audit.record.id": "later"})])
        assert service.post(sent.body, token).status == 200
        until(lambda: service.rows("SELECT 1 FROM auditspan.events WHERE record_id = 'later'"), "it is sealed")
        assert [case["subject"] for case in gives("cases", "list", "--data", stopped)] == [f"actor:{HOSTILE}"]
        states = {c["subject"]: (c["state"], c["events"]) for c in gives("cases", "list", "--data", stopped, "--all")}
        assert states[STRANGER] == ("answered", 1)
    finally:
        service.close()
