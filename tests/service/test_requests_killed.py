"""A service that is killed between decision and transfer finds what it would have found, and finds it once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from running_service import Service
from sent_spans import an_access, request_of, resource
from waiting import until

from auditspan.semconv import EventClass


def _send(service: Service, token: str, event_class: EventClass, actor: str, **said: str) -> None:
    given = {
        "audit.event.class": str(event_class),
        "audit.record.id": f"{event_class}-{os.urandom(4).hex()}",
        "audit.actor.id": actor,
        **{f"export_control.{name.replace('__', '.')}": value for name, value in said.items()},
    }
    body = request_of(resource({"service.name": "desk"}), [an_access(given)]).body
    assert service.post(body, token).status == 200


def _findings(service: Service) -> list[tuple[str, str]]:
    rows = service.rows("SELECT request_id, finding FROM auditspan.findings ORDER BY request_id, finding")
    return [(row["request_id"], row["finding"]) for row in rows]


def test_killed_between_decision_and_transfer(new_service: Callable[..., Service], tmp_path: Path) -> None:
    service = new_service(
        journal__partitions=2, processor__heartbeat_seconds=1, requests__approving_emitters='["desk"]'
    )
    service.start()
    desk, gateway = service.token("desk"), service.token("gateway")
    for name in ("EXP-1", "EXP-2"):
        _send(service, gateway, EventClass.EXPORT_REQUEST, "user:asks", request__id=name, final_recipient="Acme")
        _send(service, desk, EventClass.EXPORT_DECISION, "user:decides", request__id=name, approval__outcome="approved")
    service.kill()
    service.start()
    for name, recipient in (("EXP-1", "Acme"), ("EXP-2", "Somebody else"), ("EXP-3", "Acme")):
        _send(service, gateway, EventClass.MODEL_TRANSFER, "role:ml", request__id=name, final_recipient=recipient)
    until(lambda: len(service.rows("SELECT 1 FROM auditspan.request_records")) >= 7, "all of it is read")
    service.kill()
    service.start()
    expected = [("EXP-2", "other_recipient"), ("EXP-3", "transfer_without_decision")]
    until(lambda: len(_findings(service)) >= len(expected), "the findings")
    service.kill()
    service.start()
    assert _findings(service) == expected
    listed = {one["request_id"]: one for one in service.run("requests", "list", "--data", service.data)}
    assert {name: one["findings"] for name, one in listed.items()} == {
        "EXP-1": [], "EXP-2": ["other_recipient"], "EXP-3": ["transfer_without_decision"],
    }  # fmt: skip
    assert [one["transfers"] for one in listed.values()] == [1, 1, 1]
    service.run("evidence", "export", "--data", service.data, "--out", tmp_path / "package")
    report = service.run("evidence", "verify", tmp_path / "package", "--trust", service.directory.trust)
    assert report["verdict"] == "VALID"
