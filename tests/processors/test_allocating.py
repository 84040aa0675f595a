"""The owner of the control log takes of licenses what sealed events say, once, whoever is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from auditspan.processors.activation import Change
from auditspan.processors.allocating import Allocator, sealed_rounds
from auditspan.processors.control_entries import ACTOR, ControlLog
from auditspan.processors.followers import Following
from licensed_world import allocations, current, licensed, register, shipment
from scripted_assignment import Scripted
from sealing_deployment import Deployment, running
from sealing_inputs import NOW, access, request
from test_activation import evidence_is_valid
from test_group import ALL, World, running_roles
from test_pipeline import control_entries, opened, signed_everything
from waiting import until

from auditspan.licensing.allocation import Balance
from auditspan.licensing.balances import balances
from auditspan.policy.licenses import LICENSES
from auditspan.semconv import EventClass
from auditspan.store.clickhouse import ClickHouseStore


def control_of(store: ClickHouseStore) -> str:
    return str(next(head["log_id"] for head in opened(store) if head["body"]["partition"] == "control"))


def rounds(store: ClickHouseStore) -> list[dict[str, Any]]:
    return control_entries(store, "license.allocation")


def settled(deployment: Deployment, events: int) -> bool:
    return len(allocations(deployment.store)) == events and signed_everything(deployment)


def test_with_two_logs_and_one_remaining_unit_exactly_one_is_covered(tmp_path: Path) -> None:
    with running(tmp_path, partitions=2, artifacts=licensed(1)) as deployment:
        for partition in (0, 1):
            body = request(shipment(partition), stream=f"stream-{partition}")
            deployment.append(f"events-{partition}", [body], NOW)
        until(lambda: settled(deployment, 2))
        store = deployment.store
        found = current(store)
        assert sorted(one["license_outcome"] for one in found) == ["covered", "exhausted"]
        assert {one["license"] for one in found} == {"D1000001"}
        # What is sealed stays as it is; what holds now says that it is licensed, and by which leaf.
        assert {one["determination"] for one in found} == {"license_required"}
        assert all(one["flagged"] for one in found)
        covered, refused = sorted(found, key=lambda one: str(one["license_outcome"]))
        assert (covered["current"], refused["current"]) == ("licensed", "license_required")
        assert covered["license_why"] == "License D1000001 covers 1 accelerator, and 0 of 1 are left."
        assert refused["license_why"] == "License D1000001 has 0 of 1 accelerator left, and the event takes 1."
        assert sorted(one["license_sequence"] for one in found) == [1, 2]
        for one in found:
            place = one["allocation_leaf_index"]
            (batch,) = store.leaves(one["allocation_log_id"], place, place + 1)
            (leaf,) = batch.column("header").to_pylist()
            said = json.loads(leaf)
            assert (said["class"], said["body"]["actor"]) == ("license.allocation", ACTOR)
            mine = [a for a in said["body"]["body"]["allocations"] if a["leaf_index"] == one["leaf_index"]]
            assert one["record_id"] in [a["record_id"] for a in mine]
        assert sealed_rounds(store, control_of(store)).of == {"D1000001": Balance(2, 1)}
        deployment.pipeline.stop()
        evidence_is_valid(deployment)


def test_what_asks_for_no_license_takes_none(tmp_path: Path) -> None:
    more: dict[str, object] = {"audit.outcome": "started"}
    spans = [
        shipment(0, **more),
        shipment(1, **{**more, "audit.outcome": "failure"}),
        shipment(2, **{**more, "audit.outcome": "denied"}),
        # It relies on an exception, whether it applies or not.
        shipment(3, **{"export_control.license": "NAC"}),
        # An access that names no license.
        access(4, **{"export_control.end_user": "harbour"}),
        # Nothing in the register names its end user.
        shipment(5, **{"export_control.end_user": "orchid", "export_control.license": "D1000001"}),
        shipment(6),
    ]
    del spans[5]["export_control.license"]
    with running(tmp_path, artifacts=licensed(None)) as deployment:
        deployment.append("events-0", [request(*spans)], NOW)
        # The same again, as a sender does that did not hear the acknowledgement, and one that nobody can read.
        deployment.append("events-0", [request(*spans), b"\xff\xff"], NOW)
        until(lambda: settled(deployment, 1))
        (one,) = allocations(deployment.store)
        assert (one["record_id"], one["outcome"], one["quantity"], one["remaining"]) == ("record-6", "covered", 1, None)
        found = {one["record_id"]: one["current"] for one in current(deployment.store)}
        assert {found[f"record-{n}"] for n in range(6)} == {"license_required"}
        assert found["record-6"] == "licensed"


REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"export_control.license": "D9"}, "unknown_license"),
    ({"export_control.end_user": "orchid"}, "wrong_end_user"),
    ({"export_control.end_user": "Nobody Ltd"}, "wrong_end_user"),
    ({"export_control.accelerator.model": "A100"}, "wrong_item"),
    ({"export_control.quantity": 6}, "exhausted"),
]


def test_why_no_license_covers_it_is_said(tmp_path: Path) -> None:
    spans = [shipment(n, **more) for n, (more, _) in enumerate(REFUSALS)]
    nameless = shipment(len(spans))
    del nameless["export_control.quantity"]
    with running(tmp_path, artifacts=licensed(5)) as deployment:
        deployment.append("events-0", [request(*spans, nameless)], NOW)
        until(lambda: settled(deployment, len(spans) + 1))
        found = current(deployment.store)
        assert [one["license_outcome"] for one in found] == [*(said for _, said in REFUSALS), "unknown_quantity"]
        assert {one["current"] for one in found} == {"license_required"}
        assert all(one["license_why"] for one in found)


def test_an_event_is_judged_by_the_register_of_its_own_epoch(tmp_path: Path) -> None:
    given = licensed(1)
    del given[LICENSES]
    with running(tmp_path, artifacts=given) as deployment:
        deployment.append("events-0", [request(shipment(0))], NOW)
        until(lambda: len(current(deployment.store)) == 1 and signed_everything(deployment))
        done = deployment.pipeline.activate(Change("m.berger", "granted", {LICENSES: register(1)}))
        assert done.sealed and done.in_use
        deployment.append("events-0", [request(shipment(1))], NOW)
        until(lambda: settled(deployment, 1))
        # One that another register names, and the first one no more: what was taken stays taken.
        change = Change("m.berger", "more", {LICENSES: register(3)})
        assert deployment.pipeline.activate(change).in_use
        deployment.append("events-0", [request(shipment(2, quantity=2), shipment(3))], NOW)
        until(lambda: settled(deployment, 3))
        found = {one["record_id"]: (one["license_outcome"], one["current"]) for one in current(deployment.store)}
    assert found == {
        "record-0": ("", "license_required"),
        "record-1": ("covered", "licensed"),
        "record-2": ("covered", "licensed"),
        "record-3": ("exhausted", "license_required"),
    }


def test_a_start_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    for start in range(3):
        with running(tmp_path, artifacts=licensed(50)) as deployment:
            spans = [shipment(40 * start + n) for n in range(40)]
            deployment.append("events-0", [request(*spans)], NOW)
            until(lambda start=start: settled(deployment, 40 * (start + 1)))
            found = allocations(deployment.store)
            assert [one["sequence"] for one in found] == list(range(1, 40 * (start + 1) + 1))
            assert [one["leaf_index"] for one in found] == sorted({one["leaf_index"] for one in found})
    assert [one["outcome"] for one in found] == ["covered"] * 50 + ["exhausted"] * 70


def test_a_round_that_was_journaled_and_not_sealed_counts_and_is_not_made_again(tmp_path: Path) -> None:
    """As after a kill between the two: the next owner begins while the round waits in the control partition."""
    with running(tmp_path, artifacts=licensed(2)) as deployment:
        store, journal = deployment.store, deployment.journal
        deployment.append("events-0", [request(shipment(0))], NOW)
        until(lambda: settled(deployment, 1))
        deployment.pipeline.stop()
        (log,) = [head["log_id"] for head in opened(store) if head["body"]["partition"] == "events-0"]
        following = Following(ControlLog(journal), control_of(store), [log], lambda: None)
        leaves = store.next_leaf(log)
        (told,) = allocations(store)
        waiting = {
            "number": 2,
            "considered": {log: leaves},
            "allocations": [
                {"license": "D1000001", "sequence": 2, "log_id": log, "leaf_index": leaves - 1, "record_id": "r",
                 "outcome": "covered", "quantity": 1, "remaining": 0, "reference_epoch": 1, "why": "made up"},
            ],
        }  # fmt: skip
        following.entries.append(EventClass.LICENSE_ALLOCATION, ACTOR, waiting)
        end = journal.high_water_mark("control")
        assert Allocator(following).run_once(store) == 0
        assert journal.high_water_mark("control") == end
        # One that came too late counts for nothing, and the next one is made.
        following.entries.append(EventClass.LICENSE_ALLOCATION, ACTOR, {**waiting, "allocations": []})
    with running(tmp_path, artifacts=licensed(2)) as deployment:
        deployment.append("events-0", [request(shipment(1))], NOW)
        until(lambda: len(rounds(deployment.store)) == 4 and signed_everything(deployment))
        assert [one["number"] for one in rounds(deployment.store)] == [1, 2, 2, 3]
        found = allocations(deployment.store)
        assert [(one["round"], one["sequence"], one["outcome"]) for one in found] == [
            (1, 1, "covered"), (2, 2, "covered"), (3, 3, "exhausted"),
        ]  # fmt: skip
        assert found[0] == told
        assert balances(rounds(deployment.store)).of == {"D1000001": Balance(3, 2)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for pipeline in made.pipelines:
        pipeline.stop()
    made.store.close()
    made.journal.close()


def test_two_that_both_believe_they_own_the_control_log_take_each_event_once(tmp_path: Path, world: World) -> None:
    """Two allocators at once on one journal, while two logs are sealed: as if the assignment told both."""
    sealer = world.process(Scripted("events-0", "events-1", "control"), artifacts=licensed(25))
    until(lambda: running_roles(sealer, *ALL))
    logs = sorted(head["log_id"] for head in opened(world.store) if head["body"]["partition"] != "control")
    failures: list[BaseException] = []
    enough = threading.Event()

    def owner() -> None:
        try:
            with closing(world.store.reader()) as store:
                following = Following(ControlLog(world.journal), control_of(store), logs, lambda: None)
                rival = Allocator(following)
                while not enough.is_set():
                    rival.run_once(store)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=owner) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(20):
            for partition in (0, 1):
                world.send(partition, number, **shipment(number, **{"audit.record.id": f"{partition}-{number}"}))
        until(lambda: len(allocations(world.store)) == 40 or failures)
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    assert not failures
    until(lambda: running_roles(sealer, *ALL))
    found = allocations(world.store)
    assert len({(one["log_id"], one["leaf_index"]) for one in found}) == len(found) == 40
    assert sorted(one["sequence"] for one in found) == list(range(1, 41))
    assert sum(one["quantity"] for one in found if one["outcome"] == "covered") == 25
    fold = balances(rounds(world.store))
    assert fold.of == {"D1000001": Balance(40, 25)}


SEALER = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {processors!r}]
from licensed_world import licensed, shipment
from sealing_deployment import Deployment
from sealing_inputs import NOW, request
deployment = Deployment(Path(sys.argv[1]), 2, artifacts=licensed(30), checkpoint_seconds=0.02)
deployment.pipeline.start()
begin = deployment.journal.high_water_mark("events-0") + deployment.journal.high_water_mark("events-1")
for number in range(begin, begin + 100_000):
    body = request(shipment(number), stream=f"run-{{begin}}-{{number % 2}}")
    deployment.append(f"events-{{number % 2}}", [body], NOW)
    print(number, flush=True)
"""


@pytest.mark.crash
def test_killed_at_any_instant_the_balance_is_what_sealed_events_say(tmp_path: Path) -> None:
    here = Path(__file__).parent
    program = SEALER.format(tests=str(here.parent), processors=str(here))
    for lines in (7, 23, 11):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process, process.stdout as said:
            for _ in range(lines):
                assert said.readline(), process.wait()
            process.send_signal(signal.SIGKILL)
    with running(tmp_path, partitions=2, artifacts=licensed(30)) as deployment:
        store = deployment.store

        def count() -> int:
            found = store.query("SELECT count() AS n FROM auditspan.events WHERE class = 'accelerator.transfer'")
            return int(found["n"][0].as_py())

        until(lambda: signed_everything(deployment) and settled(deployment, count()))
        events = count()
        found = allocations(store)
        assert events >= 41
        assert len({(one["log_id"], one["leaf_index"]) for one in found}) == events
        assert [one["sequence"] for one in found] == list(range(1, events + 1))
        assert [one["outcome"] for one in found] == ["covered"] * 30 + ["exhausted"] * (events - 30)
        licensed_now = [one for one in current(store) if one["current"] == "licensed"]
        assert len(licensed_now) == 30
