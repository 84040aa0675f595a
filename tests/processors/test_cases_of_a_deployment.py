"""Cases of a real deployment: opened by what it seals, the same after a restart, quiet once the registry knows more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from replayed_world import opened
from sealing_deployment import Deployment, artifacts, running
from sealing_inputs import NOW, SECOND, access, request
from waiting import until

HOME = "export_control.destination.country"
LION, FOX, STRANGER = "sha256:11", "sha256:22", "sha256:33"
INCOMPLETE = b"""
version: "1"
parties:
  - {id: lion, name: Lion, country: SG, credentials: ["sha256:11"]}
  - {id: fox, name: Fox, country: SG, ultimate_parent: self, credentials: ["sha256:22"]}
"""
COMPLETE = INCOMPLETE.replace(b"name: Lion, country: SG,", b"name: Lion, country: SG, ultimate_parent: self,")
CASES = """
SELECT subject, question, members, events, missing_facts, last_epoch,
       toUnixTimestamp64Nano(cases.first_seen) AS first, toUnixTimestamp64Nano(assumeNotNull(cases.last_seen)) AS last
FROM auditspan.cases ORDER BY subject, question
"""
CALLS = [
    {"audit.actor.id": LION, HOME: "DE"},
    {"audit.actor.id": FOX, HOME: "DE"},
    {"audit.actor.id": STRANGER, HOME: "DE"},
    {"audit.actor.id": STRANGER},
    {"audit.actor.id": FOX, HOME: "IR"},
    {"audit.actor.id": LION, HOME: "CN"},
    {"audit.actor.id": FOX},
    {"audit.actor.id": FOX, HOME: "DE", "_start": NOW - 30 * 86_400 * SECOND, "_end": NOW - 30 * 86_400 * SECOND},
]


def calls(first: int) -> bytes:
    return request(*(access(first + place, **call) for place, call in enumerate(CALLS)))


def sealed(deployment: Deployment, bodies: list[bytes], arrival: int) -> None:
    deployment.append("events-0", bodies, arrival)
    until(lambda: all(log.lag_entries == 0 for log in deployment.pipeline.status()), "everything is sealed")


def cases(deployment: Any) -> list[dict[str, Any]]:
    return deployment.store.query(CASES).to_pylist()


def test_cases_open_stay_and_go_quiet(tmp_path: Path) -> None:
    with running(tmp_path, partitions=2, artifacts={**artifacts(), "parties.yaml": INCOMPLETE}) as deployment:
        sealed(deployment, [calls(0)], NOW)
        found = {(case["subject"], case["question"]): case for case in cases(deployment)}
        assert {key: case["events"] for key, case in found.items()} == {
            ("actor:" + STRANGER, "actor_party"): 2,
            ("party:lion", "parent_country"): 1,
            ("emitter:gateway", "fault:time.outside_window"): 1,
        }
        assert found["actor:" + STRANGER, "actor_party"]["missing_facts"] == ["actor_party", "destination_country"]
        flagged = deployment.store.query("SELECT count() AS n FROM auditspan.flagged")["n"][0].as_py()
        reviews = deployment.store.query(
            "SELECT count() AS n FROM auditspan.events WHERE determination = 'review' AND NOT flagged"
        )["n"][0].as_py()
        assert (flagged, reviews) == (2, 4)
        assert sum(int(case["events"]) for case in found.values()) == reviews
        before = cases(deployment)

    with running(tmp_path, partitions=2, artifacts={**artifacts(), "parties.yaml": COMPLETE}) as deployment:
        assert cases(deployment) == before, "a restart changes nothing"
        until(lambda: _epochs(deployment) == 2, "the second epoch is in force")
        sealed(deployment, [calls(100)], NOW + SECOND)
        after = {(case["subject"], case["question"]): case for case in cases(deployment)}
        lion, stranger = after["party:lion", "parent_country"], after["actor:" + STRANGER, "actor_party"]
        assert (lion["events"], lion["last_epoch"]) == (1, 1), "nothing joins what the registry has answered"
        assert (stranger["events"], stranger["last_epoch"]) == (4, 2)

    with opened(tmp_path) as world:
        report = world.replay()
        assert report.verdict == "IDENTICAL", report


def _epochs(deployment: Deployment) -> int:
    found = deployment.store.query(
        "SELECT count() AS n FROM auditspan.events WHERE class = 'audit.reference.activated' AND payload = ''"
    )
    return int(found["n"][0].as_py())
