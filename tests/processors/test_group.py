"""Processes that share the logs: partitions come and go, and nobody seals what is not his. In threads, on one store."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from auditspan.processors.pipeline import Pipeline
from auditspan.processors.signing import SignerPlaces
from prometheus_client import CollectorRegistry
from scripted_assignment import Scripted
from sealing_deployment import KEY, artifacts
from sealing_inputs import access, request
from test_pipeline import control_entries, leaves_of, opened, prove
from waiting import until

from auditspan.journal.contract import EntryKind, JournalUnavailable, NewEntry
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.signing_key import public_bytes
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import Fenced, SealedBatch

ALL = ("control", "events-0", "events-1")


class World:
    """One journal and one store, and any number of processes' worth of pipelines on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = SqliteJournal(root / "journal.sqlite", 2)
        self.store = ClickHouseStore.embedded(root / "store")
        self.pipelines: list[Pipeline] = []
        self.sent: list[tuple[str, int]] = []

    def process(self, assignment: Scripted, **options: Any) -> Pipeline:
        number = len(self.pipelines)
        for name in ("signer", f"reference-{number}"):
            (self.root / name).mkdir(exist_ok=True)
        made = Pipeline(
            self.journal,
            options.pop("store_factory", self.store.reader),
            SignerPlaces(KEY, self.root / "signer", "plant"),
            salt_key=b"k" * 32,
            public_key=base64.b64encode(public_bytes(KEY.public_key())).decode(),
            deployment="plant",
            artifacts=options.pop("artifacts", None) or artifacts(),
            reference_folder=self.root / f"reference-{number}",
            registry=CollectorRegistry(),
            assignment=lambda: assignment,
            **{"checkpoint_seconds": 0.05, "heartbeat_seconds": 3600.0, **options},
        )
        self.pipelines.append(made)
        made.start()
        return made

    def send(self, partition: int, sequence: int, **more: object) -> None:
        stream = f"stream-{partition}"
        entry = NewEntry(
            EntryKind.OTLP, "gateway", "bearer", 1_795_500_000_000_000_000, "otlp_proto",
            request(access(sequence, **more), stream=stream),
        )  # fmt: skip
        self.journal.append([(f"events-{partition}", entry)]).result()
        self.sent.append((stream, sequence))

    def sealed(self) -> list[tuple[str, int]]:
        rows = self.store.query(
            "SELECT stream, sequence FROM auditspan.events WHERE class = 'model.access' ORDER BY stream, sequence"
        )
        return sorted(zip(rows["stream"].to_pylist(), rows["sequence"].to_pylist(), strict=True))

    def settled(self) -> bool:
        return self.sealed() == sorted(self.sent)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for pipeline in made.pipelines:
        pipeline.stop()
    made.store.close()
    made.journal.close()


def running_roles(pipeline: Pipeline, *partitions: str) -> bool:
    healthy, reason = pipeline.healthy()
    assert healthy, reason
    here = {s.partition for s in pipeline.status() if s.sealed_here}
    return here == set(partitions) and not pipeline.troubles()


def signed_all(world: World) -> bool:
    heads = opened(world.store)
    return len(heads) == 3 and all(
        (last := world.store.last_checkpoint(head["log_id"])) is not None
        and last.size == world.store.next_leaf(head["log_id"])
        for head in heads
    )


def test_the_signer_follows_logs_that_another_process_seals(world: World) -> None:
    signer = world.process(Scripted("control"))
    sealer = world.process(Scripted("events-0", "events-1"))
    until(lambda: running_roles(signer, "control") and running_roles(sealer, "events-0", "events-1"))
    for k in range(20):
        world.send(k % 2, k // 2)
    until(lambda: world.settled() and signed_all(world))
    assert {s.partition: s.leaves for s in signer.status()} == {
        head["body"]["partition"]: world.store.next_leaf(head["log_id"]) for head in opened(world.store)
    }
    assert all(s.checkpoint_size == s.leaves for s in signer.status())
    prove(world.store)


def test_partitions_move_between_processes_while_events_flow(world: World) -> None:
    first, second = Scripted(*ALL), Scripted()
    one, two = world.process(first), world.process(second)
    until(lambda: running_roles(one, *ALL))
    stop = threading.Event()

    def feed() -> None:
        sequence = 0
        while not stop.is_set() and sequence < 400:
            world.send(sequence % 2, sequence // 2)
            sequence += 1

    feeder = threading.Thread(target=feed)
    feeder.start()
    for move in range(4):
        giver, taker = (first, second) if move % 2 == 0 else (second, first)
        taken = one if move % 2 else two
        for partition in ("events-1", "control", "events-0"):
            giver.released_.clear()
            giver.give(*(p for p in giver.poll(0) if p != partition))
            until(lambda giver=giver, partition=partition: partition in giver.released_)
            taker.give(*taker.poll(0), partition)
            until(lambda taken=taken, taker=taker: running_roles(taken, *taker.poll(0)))
    stop.set()
    feeder.join()
    until(lambda: world.settled() and signed_all(world))
    prove(world.store)
    assert len(control_entries(world.store, "audit.reference.activated")) == 1
    assert sorted(e["partition"] for e in control_entries(world.store, "audit.log.opened")) == sorted(ALL)
    until(lambda: first.confirmed.get("events-0") == world.journal.high_water_mark("events-0"))


@contextmanager
def held(world: World) -> Iterator[tuple[Any, threading.Event, threading.Event]]:
    """A store whose next batch with an event stands still before it is inserted, as a process that is stopped does."""
    reached, go_on = threading.Event(), threading.Event()

    class Held(ClickHouseStore):
        def append_batch(self, batch: SealedBatch) -> None:
            if not reached.is_set() and "model.access" in batch.leaves["class"].to_pylist():
                reached.set()
                assert go_on.wait(60)
            super().append_batch(batch)

    store = world.store
    yield lambda: Held(store._connect, store._lock, store._path), reached, go_on
    go_on.set()


def test_an_owner_that_was_stopped_while_another_took_over_is_fenced_and_ends(world: World) -> None:
    world.process(Scripted("control", "events-1"))
    with held(world) as (factory, reached, go_on):
        zombie = world.process(Scripted("events-0"), store_factory=factory)
        until(lambda: running_roles(zombie, "events-0"))
        world.send(0, 0)
        assert reached.wait(20)
        # More has come meanwhile, so the heir cuts its batch elsewhere: the very same batch would be no conflict.
        world.send(0, 1)
        heir = world.process(Scripted("events-0"))
        until(world.settled)
        go_on.set()
        until(lambda: zombie.failure() is not None)
        assert isinstance(zombie.failure(), Fenced)
        assert "Another processor owns the log" in zombie.healthy()[1]
        world.send(0, 2)
        until(lambda: world.settled() and signed_all(world))
        assert heir.healthy() == (True, "")
        prove(world.store)


def test_a_partition_that_comes_back_while_its_role_still_ends_begins_anew(world: World) -> None:
    assignment = Scripted(*ALL)
    with held(world) as (factory, reached, go_on):
        process = world.process(assignment, store_factory=factory)
        until(lambda: running_roles(process, *ALL))
        world.send(0, 0)
        assert reached.wait(20)
        ending = process._roles["events-0"]
        assignment.give("control", "events-1")
        until(lambda: ending.stopped)
        assert process.healthy() == (True, "")
        assignment.give(*ALL)
        until(lambda: process.troubles() == ["events-0 is not taken over yet"])
        go_on.set()
        until(lambda: running_roles(process, *ALL))
    assert assignment.released_ == ["events-0"]
    world.send(0, 1)
    until(lambda: world.settled() and signed_all(world))
    prove(world.store)


def test_two_signers_never_contradict_and_one_of_them_ends(world: World) -> None:
    first = world.process(Scripted(*ALL))
    until(lambda: running_roles(first, *ALL))
    second = world.process(Scripted("control"))
    sequence = 0

    def fed_until_one_ends() -> bool:
        nonlocal sequence
        world.send(sequence % 2, sequence // 2)
        sequence += 1
        return first.failure() is not None or second.failure() is not None

    until(fed_until_one_ends)
    (failed,) = [p for p in (first, second) if p.failure() is not None]
    assert isinstance(failed.failure(), Fenced)
    failed.stop()
    (first if failed is second else second).stop()
    heir = world.process(Scripted(*ALL))
    until(lambda: heir.failure() is not None or (world.settled() and signed_all(world)))
    assert heir.failure() is None
    prove(world.store)


def test_a_log_to_which_somebody_else_goes_on_adding_is_not_taken_over(world: World) -> None:
    from auditspan.processors.data_role import take_over

    log_id = "ab" * 16
    grows = iter(range(100))

    class Growing:
        def next_leaf(self, _log_id: str) -> int:
            return next(grows)

    with pytest.raises(Fenced, match="goes on sealing"):
        take_over(Growing(), log_id, lambda: object(), lambda _: None)  # type: ignore[arg-type, return-value]


def test_a_member_that_owns_nothing_is_ready_and_one_that_knows_nothing_is_not(world: World) -> None:
    class Silent(Scripted):
        def poll(self, timeout: float) -> frozenset[str]:
            from auditspan.journal.contract import JournalUnavailable

            raise JournalUnavailable("The group cannot be reached.")

    spare, lonely = world.process(Scripted()), world.process(Silent())
    until(lambda: spare.troubles() == [])
    assert lonely.troubles() == ["it has not been told yet which partitions it owns"]
    waiting = world.process(Scripted("events-0"))
    until(lambda: any("has not opened its log" in trouble for trouble in waiting.troubles()))


def test_stopping_is_bounded_and_leaves_the_group(world: World) -> None:
    assignment = Scripted(*ALL)
    pipeline = world.process(assignment)
    until(lambda: running_roles(pipeline, *ALL))
    world.send(0, 0)
    until(world.settled)
    pipeline.stop(timeout=10)
    assert assignment.closed
    assert signed_all(world), "the last round signs what was sealed last"
    assert pipeline.healthy() == (False, "stopping")


def test_an_older_version_does_not_undo_the_epoch_of_a_newer_one(world: World) -> None:
    older = artifacts()
    newer = {**older, "parties.yaml": b"parties: []\n# reviewed\n"}
    first, second = Scripted(*ALL), Scripted()
    one = world.process(first, artifacts=older)
    until(lambda: running_roles(one, *ALL))
    two = world.process(second, artifacts=newer)
    first.give("events-0", "events-1")
    until(lambda: "control" in first.released_)
    second.give("control")
    until(lambda: running_roles(two, "control"))
    epochs = control_entries(world.store, "audit.reference.activated")
    assert [epoch["number"] for epoch in epochs] == [1, 2]

    # The older process judges under the new epoch: it gets what it lacks from the store.
    def judged_under_the_new_one() -> bool:
        world.send(0, len(world.sent))
        data = next(h["log_id"] for h in opened(world.store) if h["body"]["partition"] == "events-0")
        return any(
            leaf["class"] == "model.access" and leaf["reference_epoch"] == 2
            for leaf in map(json.loads, leaves_of(world.store, data))
        )

    until(judged_under_the_new_one)
    second.give()
    until(lambda: "control" in second.released_)
    first.give(*ALL)
    until(lambda: running_roles(one, *ALL))
    assert len(control_entries(world.store, "audit.reference.activated")) == 2
    until(lambda: world.settled() and signed_all(world))
    prove(world.store)


def test_what_the_journals_probe_finds_makes_a_process_unready_until_it_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a partition that others added to a topic: what they write there is not sealed."""
    pipeline = world.process(Scripted(*ALL))
    until(lambda: running_roles(pipeline, *ALL))
    grown: Future[None] = Future()
    grown.set_exception(JournalUnavailable("The topic has 3 partitions now.", remedy="Restart every process."))
    with monkeypatch.context() as broken:
        broken.setattr(world.journal, "probe", lambda: grown)
        until(lambda: any("3 partitions now" in trouble for trouble in pipeline.troubles()))
        assert pipeline.healthy()[0], "it goes on with what it owns"
    until(lambda: pipeline.troubles() == [])
