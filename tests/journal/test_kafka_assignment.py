"""Who owns which partition: one owner each, orderly moves, and no owner that has gone quiet."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest
from kafka import KafkaConsumer, TopicPartition

ALL = {"events-0", "events-1", "events-2", "events-3", "control"}


@pytest.fixture
def member(kafka_settings, kafka_journal):
    """Join one group as one more process would: ``member()`` gives its assignment."""
    settings = kafka_settings(4, session_timeout_seconds=6)
    with ExitStack() as stack:

        def join():
            assignment = kafka_journal(4, settings=settings).assignment()
            stack.callback(assignment.close)
            return assignment

        join.settings = settings
        yield join


class Member:
    """A processor that lets go at once of what it loses."""

    def __init__(self, assignment):
        self.assignment = assignment
        self.owned = frozenset()

    def step(self) -> frozenset[str]:
        now = self.assignment.poll(0.1)
        for partition in self.owned - now:
            self.assignment.released(partition)
        self.owned = now
        return now


def until(holds, *members, seconds=30.0):
    """Go on until ``holds`` of what the members own; at no moment has a partition two owners."""
    deadline = time.monotonic() + seconds
    while True:
        owned = [member.step() for member in members]
        assert sum(map(len, owned)) == len(frozenset().union(*owned)), "two owners"
        if holds(*owned):
            return owned
        assert time.monotonic() < deadline, f"they own {owned}"


def test_one_member_owns_everything_and_a_second_gets_its_share(member):
    one = Member(member())
    until(lambda owned: owned == ALL, one)
    two = Member(member())
    kept = []

    def shared(first, second):
        kept.append(first)
        return first | second == ALL and len(second) >= 2

    first, _ = until(shared, one, two)
    assert all(owned >= first for owned in kept), "what stays is never interrupted"
    two.assignment.close()
    until(lambda owned: owned == ALL, one)


def test_a_partition_moves_only_when_its_owner_has_let_go(member):
    one = member()
    until(lambda owned: owned == ALL, Member(one))
    two = member()
    deadline = time.monotonic() + 20
    while (kept := one.poll(0.1)) == ALL:
        two.poll(0.1)
        assert time.monotonic() < deadline
    held = ALL - kept
    until_then = time.monotonic() + 1.5
    while time.monotonic() < until_then:
        one.poll(0.1)
        assert not two.poll(0.1) & held, "it moved while its owner still worked"
    for partition in held:
        one.released(partition)
    while not two.poll(0.1) >= held:
        one.poll(0.1)
        assert time.monotonic() < deadline


def test_an_owner_that_stopped_asking_loses_everything_and_may_come_back(member):
    one, two = Member(member()), Member(member())
    until(lambda first, second: first and second and first | second == ALL, one, two)
    until(lambda owned: owned == ALL, two, seconds=20)
    assert one.step() == frozenset()
    until(lambda first, second: first and second and first | second == ALL, one, two)


def test_a_change_wakes_who_waits(member):
    one = member()
    until(lambda owned: owned == ALL, Member(one))
    lost = threading.Event()

    def wait():
        while one.poll(10.0) == ALL:
            pass
        lost.set()

    threading.Thread(target=wait, daemon=True).start()
    two = member()
    deadline = time.monotonic() + 20
    while not lost.is_set():
        two.poll(0.1)
        assert time.monotonic() < deadline


def test_confirmed_offsets_are_committed_for_those_who_watch_the_lag(kafka, member):
    one = member()
    until(lambda owned: owned == ALL, Member(one))
    one.confirm("events-2", 41)
    one.confirm("events-2", 42)
    one.confirm("control", 7)
    one.close()
    assert one.poll(0.0) == frozenset()
    watcher = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=member.settings.group)
    assert watcher.committed(TopicPartition(member.settings.topic, 2)) == 42
    assert watcher.committed(TopicPartition(member.settings.control_topic, 0)) == 7
    watcher.close()


def test_whatever_ends_the_membership_is_told_to_who_asks(member, monkeypatch):
    one = member()
    until(lambda owned: owned == ALL, Member(one))

    def broken():
        raise RuntimeError("a fault of the client library")

    monkeypatch.setattr(one, "_finish_joining", broken)
    with pytest.raises(RuntimeError, match="a fault of the client library"):
        while True:
            one.poll(1.0)
