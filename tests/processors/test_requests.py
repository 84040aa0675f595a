"""Export requests followed in a real deployment of two partitions: what is found, once, and after a restart too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from auditspan.processors import requests as following
from auditspan.processors.requests import RequestFollower
from sealing_deployment import Deployment, running
from sealing_inputs import NOW, SECOND, access, request
from waiting import until

from auditspan.journal.contract import EntryKind, NewEntry
from auditspan.policy.deployment import RequestDemands
from auditspan.policy.reference import Reference

PARTIES = b"""
version: "1"
parties:
  - {id: acme, name: Acme GmbH, country: DE, ultimate_parent: self}
  - {id: bolt, name: Bolt Ltd, country: SG, ultimate_parent: self}
"""
DESK = RequestDemands(frozenset({"desk"}))
FINDINGS = """
SELECT request_id, finding, record_id, recipient, decided, decision_record_id, why, authority, citation
FROM auditspan.findings ORDER BY request_id, record_id, finding
"""
LATER = NOW + 100 * SECOND


def arts(demands: RequestDemands | None = DESK) -> dict[str, bytes]:
    return Reference.packaged_artifacts(PARTIES, None, demands)


class Trails:
    """A deployment of two partitions, and what is sent to it. Its clock stands still, so nothing is due by itself."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def send(self, partition: str, emitter: str, at: float, said: dict[str, object]) -> None:
        arrival = NOW + int(at * SECOND)
        body = request({"_start": arrival, "_end": arrival, **said}, stream=None, resource={"n": str(said)})
        entry = NewEntry(EntryKind.OTLP, emitter, "bearer", arrival, "otlp_proto", body)
        self.deployment.journal.append([(partition, entry)]).result()

    def ask(self, request_id: str, at: float = 0.0, actor: str = "user:asks", **more: object) -> None:
        said = self._said("export.request", request_id, at, actor, more)
        self.send("events-0", "portal", at, {"export_control.final_recipient": "acme", **said})

    def decide(
        self, request_id: str, outcome: str = "approved", at: float = 5.0, emitter: str = "desk", **more: object
    ) -> None:
        actor = str(more.pop("actor", "user:decides"))
        said = self._said("export.decision", request_id, at, actor, more)
        said |= {"export_control.approval.outcome": outcome, "export_control.approving_authority": "Control Office"}
        self.send("events-1", emitter, at, said)

    def move(self, request_id: str | None, at: float = 10.0, to: str = "Acme GmbH", **more: object) -> None:
        said = self._said("model.transfer", request_id, at, "role:release", more)
        self.send("events-0", "gateway", at, {"export_control.final_recipient": to, **said})

    def _said(
        self, name: str, request_id: str | None, at: float, actor: str, more: dict[str, object]
    ) -> dict[str, object]:
        said = {
            "audit.event.class": name,
            "audit.record.id": f"{name}/{request_id}@{at}",
            "audit.actor.id": actor,
            "audit.target.id": "s3://models/frontier-7",
            "audit.outcome": "success",
            "_trace_id": hashlib.sha256(repr((name, request_id, at, more)).encode()).digest()[:16],
        }
        said |= {} if request_id is None else {"export_control.request.id": request_id}
        return said | {key.replace("__", "."): value for key, value in more.items()}

    def go_on(self, to: int = LATER) -> None:
        """Something arrives in every partition, so that what came before it is due."""
        for partition in ("events-0", "events-1"):
            self.deployment.append(partition, [request(access(None), stream=None, resource={"at": str(to)})], to)

    def found(self) -> list[dict[str, Any]]:
        return self.deployment.store.query(FINDINGS).to_pylist()

    def kinds(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in self.found():
            found.setdefault(row["request_id"], []).append(row["finding"])
        return found

    def wait_for(self, number: int) -> list[dict[str, Any]]:
        return until(lambda: len(found := self.found()) >= number and found, f"{number} findings")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_LOOK_EVERY", 0.02)
    # How long a round takes is no matter here.
    monkeypatch.setattr(following, "_ROUND", 60.0)


@pytest.fixture
def trails(tmp_path: Path) -> Iterator[Trails]:
    with running(tmp_path, partitions=2, artifacts=arts(), clock=lambda: NOW) as deployment:
        yield Trails(deployment)


def test_a_transfer_is_held_to_what_was_decided(trails: Trails) -> None:
    for name in ("AGREED", "OTHER", "SELF", "DENIED", "FORGED", "MANY"):
        trails.ask(name)
    trails.decide("AGREED")
    trails.decide("OTHER")
    trails.decide("SELF", actor="user:asks")
    trails.decide("DENIED")
    trails.decide("DENIED", "denied", 6.0)
    trails.decide("FORGED", emitter="gateway")
    trails.decide("MANY", export_control__quantity=2)
    trails.decide("NOBODY-ASKED")
    trails.move("AGREED")
    trails.move("OTHER", to="Bolt Ltd")
    trails.move("DENIED")
    trails.move("FORGED")
    trails.move("UNDECIDED")
    trails.move("MANY", 10.0, export_control__quantity=2)
    trails.move("MANY", 11.0, export_control__quantity=1)
    trails.move(None)
    trails.move("END", 12.0)
    trails.go_on()
    trails.wait_for(9)
    assert trails.kinds() == {
        "DENIED": ["decision_denied"],
        "END": ["transfer_without_decision"],
        "FORGED": ["decision_not_authorised", "transfer_without_decision"],
        "MANY": ["more_than_decided"],
        "NOBODY-ASKED": ["unknown_request"],
        "OTHER": ["other_recipient"],
        "SELF": ["self_approved"],
        "UNDECIDED": ["transfer_without_decision"],
    }
    (other,) = (row for row in trails.found() if row["request_id"] == "OTHER")
    assert other == {
        "request_id": "OTHER",
        "finding": "other_recipient",
        "record_id": "model.transfer/OTHER@10.0",
        "recipient": "Bolt Ltd",
        "decided": "approved, by Control Office",
        "decision_record_id": "export.decision/OTHER@5.0",
        "why": "The transfer goes to final recipient Bolt Ltd; decided was final recipient acme.",
        "authority": "company_policy",
        "citation": "2026 blueprint, audit trail",
    }


def test_a_finding_is_a_flagged_event_and_a_leaf_of_the_control_log(trails: Trails) -> None:
    trails.move("NOBODY-DECIDED")
    trails.go_on()
    trails.wait_for(1)
    (row,) = trails.deployment.store.query(
        "SELECT record_id, why, citations, class FROM auditspan.flagged WHERE class = 'model.transfer'"
    ).to_pylist()
    assert row["record_id"] == "model.transfer/NOBODY-DECIDED@10.0"
    assert "nobody decided on it" in row["why"] and "2026 blueprint, audit trail" in row["citations"]
    (leaf,) = trails.deployment.store.query("SELECT header FROM auditspan.events WHERE class = 'export.finding'")[
        "header"
    ].to_pylist()
    said = json.loads(leaf)
    assert said["body"]["actor"] == "system:auditspan" and said["class"] == "export.finding"
    value = trails.deployment.registry.get_sample_value
    # Counted when the leaf was read back, which is a moment after it can be seen.
    until(lambda: value("auditspan_flagged_total", {"partition": "control"}) == 1, "it is counted")


def test_nothing_is_judged_before_every_log_has_passed_it(trails: Trails) -> None:
    trails.move("EXP", 10.0)
    trails.deployment.append("events-0", [request(access(None), stream=None)], LATER)
    until(lambda: _kept(trails) == 1, "the transfer is read")
    # It arrived before the transfer, and is sealed long after it, in another log.
    assert trails.found() == []
    trails.ask("EXP", 1.0)
    trails.decide("EXP", at=9.0)
    trails.move("END", 12.0)
    trails.go_on()
    trails.wait_for(1)
    assert trails.kinds() == {"END": ["transfer_without_decision"]}


def test_a_decision_that_comes_while_the_transfer_runs_is_too_late(trails: Trails) -> None:
    trails.ask("EXP")
    trails.decide("EXP", at=12.0)
    trails.move("EXP", 10.0)
    trails.go_on()
    trails.wait_for(1)
    assert trails.kinds() == {"EXP": ["transfer_before_decision"]}


def test_a_restart_goes_on_and_finds_nothing_twice(tmp_path: Path) -> None:
    options: dict[str, Any] = {"partitions": 2, "artifacts": arts(), "clock": lambda: NOW}
    with running(tmp_path, **options) as deployment:
        trails = Trails(deployment)
        trails.ask("EXP")
        trails.move("ONE")
        trails.go_on()
        before = trails.wait_for(1)
        trails.move("WAITS", 300.0)
        until(lambda: _kept(trails) == 3, "the second transfer is read, and not due")
    with running(tmp_path, **options) as deployment:
        trails = Trails(deployment)
        assert trails.found() == before
        trails.decide("EXP", at=301.0)
        trails.move("EXP", 302.0, to="bolt")
        trails.go_on(NOW + 1000 * SECOND)
        trails.wait_for(3)
        assert trails.kinds() == {
            "EXP": ["other_recipient"],
            "ONE": ["transfer_without_decision"],
            "WAITS": ["transfer_without_decision"],
        }
        leaves = deployment.store.query("SELECT count() AS n FROM auditspan.events WHERE class = 'export.finding'")
        assert leaves["n"][0].as_py() == 3


def test_of_two_owners_that_find_the_same_the_first_counts(trails: Trails) -> None:
    trails.move("EXP")
    trails.go_on()
    before = trails.wait_for(1)
    role = trails.deployment.pipeline._roles["control"]
    (follower,) = (one for one in role._followers if isinstance(one, RequestFollower))  # type: ignore[attr-defined]
    second = RequestFollower(follower._following)
    store = trails.deployment.store.reader()
    assert second.run_once(store) == 0, "what is sealed is where the next owner begins"
    second._found.clear()
    second._looked = 0.0
    second._judged.clear()
    assert second.run_once(store) == 1, "one that knows nothing of it says it again"
    until(
        lambda: (
            store.query("SELECT count() AS n FROM auditspan.events WHERE class = 'export.finding'")["n"][0].as_py() == 2
        ),
        "both are sealed",
    )
    assert trails.found() == before
    assert store.query("SELECT count() AS n FROM auditspan.flagged WHERE class = 'model.transfer'")["n"][0].as_py() == 1
    store.close()


def test_what_the_deployment_demands_is_that_of_the_time(tmp_path: Path) -> None:
    """A transfer without a request id is found only where it was demanded when it was sealed."""
    with running(tmp_path, partitions=2, artifacts=arts(None), clock=lambda: NOW) as deployment:
        trails = Trails(deployment)
        trails.move(None, 1.0)
        trails.move("EXP", 2.0)
        trails.go_on()
        assert trails.wait_for(1)[0]["authority"] == "proposal"
    demands = RequestDemands(required_for=frozenset({"model.transfer"}))
    with running(tmp_path, partitions=2, artifacts=arts(demands), clock=lambda: NOW) as deployment:
        trails = Trails(deployment)
        trails.move(None, 201.0)
        trails.go_on(NOW + 1000 * SECOND)
        trails.wait_for(2)
        assert [(row["record_id"], row["authority"]) for row in trails.found()] == [
            ("model.transfer/None@201.0", "company_policy"),
            ("model.transfer/EXP@2.0", "proposal"),
        ]


def test_strange_records_are_judged_and_hurt_nobody(trails: Trails) -> None:
    long = "x" * 10_000
    trails.ask(long)
    trails.decide(long, at=5.0)
    trails.move(long, 10.0)
    trails.ask("", at=1.0)
    trails.decide("", at=6.0)
    trails.decide("ODD", outcome="yes, of course", at=7.0)
    trails.decide("TYPE", outcome=7, at=7.5)  # type: ignore[arg-type]
    trails.ask("ODD", 2.0)
    trails.ask("TYPE", 2.5)
    trails.move("END", 12.0)
    trails.go_on()
    trails.wait_for(5)
    assert {name: sorted(kinds) for name, kinds in trails.kinds().items()} == {
        "": ["no_request_id", "unknown_request"],
        "END": ["transfer_without_decision"],
        "ODD": ["decision_outcome_unknown"],
        "TYPE": ["decision_outcome_unknown"],
    }
    kept = trails.deployment.store.query("SELECT max(length(request_id)) AS longest FROM auditspan.request_records")[
        "longest"
    ][0].as_py()
    assert kept == len("sha256:") + 64


def _kept(trails: Trails) -> int:
    rows = trails.deployment.store.query("SELECT uniqExact((log_id, leaf_index)) AS n FROM auditspan.request_records")
    return int(rows["n"][0].as_py())
