"""`requests`, and `events --flagged`, on what a deployment found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import auditspan, fails, gives
from conftest import HOSTILE, Running
from sent_spans import an_access, request_of, resource
from waiting import until

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))

from running_service import Service


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("requests") / "data"
    service = Service(data, processor__heartbeat_seconds=1, requests__approving_emitters='["desk"]')
    service.run("keys", "init", "--data", data)
    service.start()
    given = Running(service, service.token("gateway"))
    desk = service.token("desk")
    for emitter, name, actor, said in (
        (given.token, "export.request", "user:asks", {"final_recipient": "Acme", "quantity": 4}),
        (desk, "export.decision", "user:decides", {"approval.outcome": "approved", "approving_authority": "Control"}),
        (given.token, "model.transfer", HOSTILE, {"final_recipient": "Bolt"}),
    ):
        pairs = {"audit.event.class": name, "audit.actor.id": actor, "audit.record.id": f"{name}-1"}
        pairs |= {f"export_control.{key}": value for key, value in said.items()}
        span = an_access({**pairs, "export_control.request.id": "EXP-1"})
        assert service.post(request_of(resource({"service.name": "x"}), [span]).body, emitter).status == 200
    until(lambda: service.rows("SELECT 1 FROM auditspan.findings"), "a finding")
    yield given
    service.close()


def test_the_list_and_what_is_flagged_in_it(running: Running) -> None:
    (row,) = gives("requests", "list", "--data", running.data)
    assert (row["request_id"], row["asked_by"], row["asked_for"], row["decisions"]) == (
        "EXP-1", "user:asks", "Acme", ["approved"],
    )  # fmt: skip
    assert (row["transfers"], row["findings"]) == (1, ["other_recipient"])
    assert gives("requests", "list", "--data", running.data, "--flagged") == [row]
    assert gives("requests", "list", "--data", running.data, "--since", "2999-01-01") == []
    assert "other recipient" in auditspan("requests", "list", "--data", running.data, env={"COLUMNS": "160"}).out
    assert gives("status", "--data", running.data)["findings"] == 1


def test_the_trail_of_one_request(running: Running) -> None:
    trail = gives("requests", "show", "EXP-1", "--data", running.data)
    assert [one["class"] for one in trail["records"]] == ["export.request", "export.decision", "model.transfer"]
    transfer = trail["records"][-1]
    assert transfer["final_recipient"] == "Bolt" and trail["findings"] == 1
    (finding,) = transfer["findings"]
    assert finding["finding"] == "other_recipient" and finding["authority"] == "company_policy"
    assert finding["decision_record_id"] == "export.decision-1"
    out = auditspan("requests", "show", "EXP-1", "--data", running.data, env={"COLUMNS": "160"}).out
    assert "decision: approved" in out and "decided was" in out
    assert "\x1b[31m" not in out, "what strangers sent does not speak to the terminal"
    fails("requests", "show", "EXP-9", "--data", running.data)


def test_the_transfer_is_among_the_flagged_events(running: Running) -> None:
    (event,) = gives("events", "--data", running.data, "--flagged")
    assert event["record_id"] == "model.transfer-1" and event["flagged"] is True
    assert "decided was final recipient Acme" in event["why"]
    assert [one["finding"] for one in event["findings"]] == ["other_recipient"]
    assert len(gives("events", "--data", running.data)) == 3, "what the log says itself is not among them"
    assert len(gives("events", "--data", running.data, "--class", "export.finding")) == 1
    (kind,) = gives("events", "--data", running.data, "--flagged", "--distinct")
    assert kind["flagged"] is True and "export request" in kind["why"]
