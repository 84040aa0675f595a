"""What somebody with the signing key may seal: every leaf, root and signature fits, and only what they say does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from auditspan.exporters.evidence.report import Faults, Report
from auditspan.exporters.evidence.verify import verify_package
from auditspan.exporters.evidence.verify_control import ControlState
from auditspan.exporters.evidence.verify_keys import RotationLeaves
from auditspan.exporters.evidence.verify_recovery import RecoveryLeaves
from exported import export
from sealed_world import SECOND, T0, World, text
from tampering import repair

from auditspan.store.clickhouse import ClickHouseStore

Verified = Callable[..., Report]


@pytest.fixture
def verified(store: ClickHouseStore, tmp_path: Path) -> Verified:
    """Exports a deployment and verifies the package, after ``change`` was made to what it says of itself."""

    def make(world: World, change: Callable[[dict[str, Any]], None] | None = None, **options: Any) -> Report:
        world.store_into(store)
        folder = tmp_path / f"package-{len(list(tmp_path.iterdir()))}"
        export(store, world, folder, **{"time_from": 0, "time_to": 2**62} | options)
        if change is not None:
            repair(folder, world.key, change)
        return verify_package(folder, world.trust)

    return make


def leave_out(world: World, number: int) -> Callable[[dict[str, Any]], None]:
    """Take a log out of the manifest, as if there were none."""
    log_id = world.logs[number].log_id

    def change(predicate: dict[str, Any]) -> None:
        gone = next(log for log in predicate["logs"] if log["log_id"] == log_id)
        predicate["logs"].remove(gone)
        size = gone["interval"][1] - gone["interval"][0]
        for name in ("leaves", "selected"):
            predicate["counts"][name] -= size
        predicate["counts"]["flagged"] -= sum(row["flagged"] for row in world.logs[number].rows)

    return change


def hiding(rounds: int = 3) -> World:
    """A deployment whose rounds never name its second log, and where that log's flagged events are."""
    world = World("hiding")
    for number in range(rounds):
        at = T0 + number * 10 * SECOND
        world.logs[0].event(at, sequence=number)
        world.logs[1].event(at + 1, sequence=number, stream="stream-2", flagged=True)
        world.batch(at + 5 * SECOND, unnamed=[world.logs[1]])
    return world


def test_a_log_that_no_round_names_is_noticed(verified: Verified) -> None:
    world = hiding()
    report = verified(world)
    assert set(report.fault_counts) == {"log.missing"}
    last = max(row["leaf_index"] for row in world.control.rows if row["class"] == "audit.checkpoint")
    assert report.faults[0].leaf == (world.control.log_id, last)
    assert world.logs[1].log_id in report.faults[0].expected


def test_a_log_that_neither_rounds_nor_the_package_name_is_noticed_by_what_opened_it(verified: Verified) -> None:
    world = hiding()
    report = verified(world, leave_out(world, 1))
    assert report.fault_counts == {"log.missing": 1}
    (fault,) = report.faults
    opened = [row["leaf_index"] for row in world.control.rows if row["class"] == "audit.log.opened"]
    assert fault.leaf == (world.control.log_id, opened[-1])
    assert world.logs[1].log_id in fault.expected


def test_a_round_of_a_signer_that_has_an_heir_is_no_fault(verified: Verified) -> None:
    """It knows the logs that it knew; what comes before and after it names them all."""
    world = World("heir")
    for number in range(3):
        at = T0 + number * 10 * SECOND
        for log in world.logs:
            log.event(at, sequence=number)
        world.batch(at + 5 * SECOND, unnamed=world.logs[1:] if number == 2 else ())
    assert verified(world).verdict == "VALID"


def test_a_log_opened_after_the_last_round_needs_none(verified: Verified) -> None:
    world = World("late")
    world.logs[0].event(T0, sequence=0)
    world.batch(T0 + SECOND)
    (made,) = world.open(1)
    made.event(T0 + 2 * SECOND, sequence=0, stream="stream-3")
    made.batch(world.epochs)
    world.control.batch(world.epochs)
    world.checkpoints += [made.checkpoint(world.key), world.control.checkpoint(world.key)]
    assert verified(world).verdict == "VALID"


def test_an_opening_after_the_first_of_its_partition_opens_nothing(verified: Verified) -> None:
    world = World("twice")
    for log, log_id in ((world.logs[1], "f" * 32), (world.control, "e" * 32)):
        world.control.control("audit.log.opened", {**world.opened_body(log), "log_id": log_id}, T0)
    world.logs[0].event(T0, sequence=0)
    world.batch(T0 + SECOND)
    assert verified(world).verdict == "VALID"


@pytest.mark.parametrize("field", ["log_id", "partition", "generation"])
@pytest.mark.parametrize("value", [None, [], {"a": 1}])
def test_an_opening_that_cannot_be_read_is_malformed(field: str, value: object) -> None:
    faults = Faults()
    rotations, recoveries = (leaves("c" * 32, "acme", faults) for leaves in (RotationLeaves, RecoveryLeaves))
    state = ControlState("c" * 32, faults, rotations, recoveries)
    body = {"deployment": "acme", "log_id": "d" * 32, "partition": "events-0", "generation": 1}
    state.leaf(2, {"class": "audit.log.opened", "body": {"actor": "auditspan", "body": body}})
    state.leaf(3, {"class": "audit.log.opened", "body": {"actor": "auditspan", "body": {**body, field: value}}})
    assert faults.by_code == {"leaf.malformed": 1}
    assert [opening.index for opening in state.data_logs()] == [2]


def test_a_leaf_judged_under_another_epoch_than_its_batch_says_is_noticed(verified: Verified) -> None:
    world = World("older")
    log = world.logs[0]
    log.event(T0, sequence=0)
    world.batch(T0 + SECOND)
    world.activate(2)
    log.event(T0 + 2 * SECOND, sequence=1)
    world.batch(T0 + 3 * SECOND)
    assert log.epoch == 2
    log.event(T0 + 4 * SECOND, sequence=2)
    log.epoch = 1
    false = log.event(T0 + 5 * SECOND, sequence=3)
    log.event(T0 + 5 * SECOND, sequence=4)
    log.epoch = 2
    world.batch(T0 + 6 * SECOND)
    report = verified(world)
    assert report.fault_counts == {"batch.epoch": 1}
    assert report.faults[0].leaf == (log.log_id, false)
    assert (report.faults[0].expected, report.faults[0].actual) == ("epoch 2, as its audit.batch says", "1")


def test_a_batch_that_names_another_epoch_than_all_its_leaves_is_noticed(verified: Verified) -> None:
    world = World("renamed")
    log = world.logs[0]
    log.event(T0, sequence=0)
    world.batch(T0 + SECOND)
    world.activate(2)
    world.batch(T0 + 2 * SECOND)
    log.epoch = 1
    first = log.event(T0 + 4 * SECOND, sequence=1)
    log.epoch = 2
    world.batch(T0 + 6 * SECOND)
    report = verified(world)
    assert report.fault_counts == {"batch.epoch": 1}
    assert report.faults[0].leaf == (log.log_id, first)


FALSE: dict[str, dict[str, Any]] = {
    "class": {"class": "other"},
    "record_id": {"record_id": "another"},
    "stream": {"stream": "stream-9"},
    "sequence": {"sequence": 7},
    "event_time": {"event_time": str(T0 - SECOND)},
    "time_basis": {"time_basis": "arrival"},
    "action": {"action": None},
    "outcome": {"outcome": "denied"},
    "asset": {"asset": "harmless"},
    "faults": {"faults": ["time.end_before_start"]},
}


@pytest.mark.parametrize("field", FALSE)
def test_a_header_that_says_another_thing_than_its_payload_is_noticed(field: str, verified: Verified) -> None:
    world = World(f"false-{field}")
    log = world.logs[0]
    log.event(T0, sequence=0)
    false = log.event(T0 + SECOND, sequence=1, says=FALSE[field])
    log.event(T0 + 2 * SECOND, sequence=2)
    world.batch(T0 + 3 * SECOND)
    report = verified(world)
    noted = [fault for fault in report.faults if fault.code == "header.mismatch"]
    assert [fault.leaf for fault in noted] == [(log.log_id, false)]
    assert noted[0].expected.startswith(f"{field} ")
    assert set(report.fault_counts) <= {"header.mismatch", "facts.mismatch"}


def test_a_long_text_is_compared_by_its_digest(verified: Verified) -> None:
    world = World("long")
    log = world.logs[0]
    log.event(T0, sequence=0, asset="x" * 300)
    false = log.event(T0 + SECOND, sequence=1, asset="x" * 300, says={"asset": text("y" * 300)})
    world.batch(T0 + 3 * SECOND)
    report = verified(world)
    assert report.fault_counts == {"header.mismatch": 1}
    assert report.faults[0].leaf == (log.log_id, false)


def hidden_as(code: str, record: str) -> dict[str, Any]:
    """What the header of a readable span says that is passed off as unreadable."""
    nothing = dict.fromkeys(("action", "outcome", "asset", "stream", "sequence", "eccn", "destination", "facts_hash"))
    return {
        **nothing,
        "class": "audit.quarantined",
        "record_id": record,
        "time_basis": "arrival",
        "determination": "review",
        "faults": [code],
    }


@pytest.mark.parametrize("code", ["span.undecodable", "span.invalid_id", "request.undecodable"])
def test_a_readable_span_cannot_be_passed_off_as_unreadable(code: str, verified: Verified) -> None:
    world = World(f"hidden-{code}")
    log = world.logs[0]
    log.event(T0, sequence=0)
    record = f"position:{log.log_id}:{log.offset}:0"
    false = log.event(T0 + SECOND, sequence=1, facts=None, says=hidden_as(code, record))
    world.batch(T0 + 3 * SECOND)
    report = verified(world)
    assert {fault.leaf for fault in report.faults} == {(log.log_id, false)}
    assert "header.mismatch" in report.fault_counts
