"""Requests: sealed with legal basis, answered by packages that name and prove them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from auditspan.exporters.evidence.export import ExportFailed
from auditspan.exporters.evidence.query import QueryInvalid
from auditspan.exporters.evidence.requests import Request, exports_of, find_request, request_body, requests_of
from auditspan.exporters.evidence.verify import verify_package
from exported import export
from sealed_world import SECOND, T0, World
from tampering import repair, statement_of

from auditspan.errors import AuditSpanError
from auditspan.store.clickhouse import ClickHouseStore

ASKED = request_body("r-1", "BIS, Office of Export Enforcement", "15 CFR 762.7", 0, T0 + 100 * SECOND, "flagged = true")


def asked_world(*bodies: dict[str, Any], later: int = 0) -> World:
    """A deployment with these requests, and ``later`` batches after them."""
    world = World("requests", logs=1)
    for number in range(4):
        world.logs[0].event(T0 + number, sequence=number, flagged=number == 2)
    for body in bodies:
        world.control.control("evidence.requested", body, T0)
    for number in range(later + 1):
        world.logs[0].event(T0 + number * 60 * SECOND, sequence=4 + number)
        world.batch(T0 + number * 60 * SECOND + SECOND)
    return world


def answered(store: ClickHouseStore, world: World, out: Path, request: Request, **options: Any) -> Any:
    times = {"time_from": request.time_from, "time_to": request.time_to, "where": request.where}
    return export(store, world, out, **times | options, request=request)


def test_a_package_names_the_request_that_it_answers(store: ClickHouseStore, tmp_path: Path) -> None:
    world = asked_world(ASKED)
    world.store_into(store)
    request = find_request(store, world.control.log_id, "r-1")
    assert (request.by, request.basis, request.where) == (ASKED["by"], ASKED["basis"], "flagged = true")
    result = answered(store, world, tmp_path / "out", request)
    assert result.entry["request"] == "r-1"
    named = {"id": "r-1", "by": ASKED["by"], "basis": "15 CFR 762.7"}
    assert statement_of(tmp_path / "out")["predicate"]["request"] == named
    report = verify_package(tmp_path / "out", world.trust)
    assert report.verdict == "VALID" and report.request == named
    assert "request r-1" in (tmp_path / "out" / "SUMMARY.html").read_text().replace("<code>", "")


def test_a_request_from_before_the_interval_is_included_with_its_proof(store: ClickHouseStore, tmp_path: Path) -> None:
    body = request_body("r-1", "an auditor", "15 CFR 762.7", T0 + 100 * SECOND, T0 + 170 * SECOND, None)
    world = asked_world(body, later=4)
    world.store_into(store)
    request = find_request(store, world.control.log_id, "r-1")
    answered(store, world, tmp_path / "out", request)
    predicate = statement_of(tmp_path / "out")["predicate"]
    assert predicate["control"]["interval"][0] > request.leaf_index
    assert request.leaf_index in [one["leaf_index"] for one in predicate["control"]["included"]]
    assert verify_package(tmp_path / "out", world.trust).verdict == "VALID"

    def without(value: dict[str, Any]) -> None:
        kept = [one for one in value["control"]["included"] if one["leaf_index"] != request.leaf_index]
        value["control"]["included"] = kept

    repair(tmp_path / "out", world.key, without)
    assert verify_package(tmp_path / "out", world.trust).fault_counts == {"control.inclusion": 1}


@pytest.mark.parametrize("change", [{"by": "somebody else"}, {"basis": "none"}, {"id": "r-2"}])
def test_a_request_that_was_not_sealed_like_that_is_a_fault(
    change: dict[str, str], store: ClickHouseStore, tmp_path: Path
) -> None:
    world = asked_world(ASKED)
    world.store_into(store)
    answered(store, world, tmp_path / "out", find_request(store, world.control.log_id, "r-1"))
    repair(tmp_path / "out", world.key, lambda value: value["request"].update(change))
    assert verify_package(tmp_path / "out", world.trust).fault_counts == {"control.inclusion": 1}


def test_a_package_that_shows_less_than_was_asked_for_is_a_fault(store: ClickHouseStore, tmp_path: Path) -> None:
    world = asked_world(ASKED)
    world.store_into(store)
    request = find_request(store, world.control.log_id, "r-1")
    answered(store, world, tmp_path / "out", request, where="flagged = false")
    report = verify_package(tmp_path / "out", world.trust)
    assert report.fault_counts == {"control.inclusion": 1}
    assert report.faults[0].leaf == (world.control.log_id, request.leaf_index)


def test_of_two_requests_with_one_id_the_first_counts(store: ClickHouseStore, tmp_path: Path) -> None:
    world = asked_world(ASKED, ASKED | {"where": None, "by": "a second"})
    world.store_into(store)
    (request,) = requests_of(store, world.control.log_id)
    assert request.by == ASKED["by"]
    answered(store, world, tmp_path / "out", request)
    assert verify_package(tmp_path / "out", world.trust).verdict == "VALID"


def test_what_an_emitter_sends_is_no_request(store: ClickHouseStore) -> None:
    world = asked_world(ASKED)
    world.logs[0].event(T0 + 90 * SECOND, sequence=90, kind="evidence.requested", facts=None)
    world.batch(T0 + 91 * SECOND)
    world.store_into(store)
    assert [one.id for one in requests_of(store, world.control.log_id)] == ["r-1"]
    with pytest.raises(ExportFailed, match="No request 'r-9'"):
        find_request(store, world.control.log_id, "r-9")


def test_a_leaf_that_is_no_request_stops_nobody(store: ClickHouseStore) -> None:
    world = asked_world({"id": "r-0"}, {"id": ["x"], "from": "soon"}, ASKED)
    world.store_into(store)
    assert [one.id for one in requests_of(store, world.control.log_id)] == ["r-1"]


def test_a_request_that_no_checkpoint_covers_waits(store: ClickHouseStore, tmp_path: Path) -> None:
    world = asked_world(ASKED)
    world.store_into(store)
    request = find_request(store, world.control.log_id, "r-1")
    beyond = Request(**{name: getattr(request, name) for name in request.__slots__} | {"leaf_index": 10_000})
    with pytest.raises(ExportFailed, match="not covered by a checkpoint"):
        answered(store, world, tmp_path / "out", beyond)
    assert not (tmp_path / "out").exists()


def test_exports_say_which_request_they_answer(store: ClickHouseStore, tmp_path: Path) -> None:
    world = asked_world(ASKED)
    world.store_into(store)
    entries: list[dict[str, Any]] = []
    request = find_request(store, world.control.log_id, "r-1")
    answered(store, world, tmp_path / "one", request, record=entries.append)
    export(store, world, tmp_path / "two", record=entries.append)
    assert "request" not in entries[1], "as it was before there were requests"
    for entry in entries:
        world.control.control("evidence.exported", entry, T0 + 200 * SECOND)
    world.batch(T0 + 201 * SECOND)
    world.store_into(store)
    made = exports_of(store, world.control.log_id)
    assert [(one["request"], one["manifest_sha256"]) for one in made] == [
        ("r-1", entries[0]["manifest_sha256"]),
        (None, entries[1]["manifest_sha256"]),
    ]


def test_a_request_that_cannot_be_meant_says_why() -> None:
    with pytest.raises(QueryInvalid):
        request_body("r", "x", "y", 0, 1, "flagged")
    with pytest.raises(AuditSpanError, match="no time"):
        request_body("r", "x", "y", 5, 5, None)
    with pytest.raises(AuditSpanError, match="--basis"):
        request_body("r", "x", " ", 0, 1, None)
    with pytest.raises(AuditSpanError, match="--by"):
        request_body("r", "ä" * 200, "y", 0, 1, None)
