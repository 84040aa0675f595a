"""What a member of the consumer group says that it owns, and who gets what of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kafka import TopicPartition
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

from auditspan.journal.kafka_assignor import HeldPartitionsAssignor

TOPIC = "events"
ALL = frozenset(TopicPartition(TOPIC, number) for number in range(4))
CLUSTER = SimpleNamespace(topics=lambda: {TOPIC}, partitions_for_topic=lambda _: set(range(4)))


@pytest.fixture
def assigned():
    """Once everything was assigned to it."""
    assignor = HeldPartitionsAssignor()
    assignor.on_assignment(ConsumerProtocolAssignment(1, [(TOPIC, [0, 1, 2, 3])], b""), 7)
    return assignor


def said(assignor: HeldPartitionsAssignor) -> set[TopicPartition]:
    return {TopicPartition(one.topic, n) for one in assignor.metadata({TOPIC}).owned_partitions for n in one.partitions}


def share_out(*assignors: HeldPartitionsAssignor) -> list[set[TopicPartition]]:
    """What a round of joining gives to each."""
    members = [
        SimpleNamespace(member_id=str(number), metadata=assignor.metadata({TOPIC}))
        for number, assignor in enumerate(assignors)
    ]
    found = assignors[0].assign(CLUSTER, members)
    return [set(found[member.member_id].partitions()) for member in members]


def test_a_member_says_what_it_holds(assigned):
    assigned.holds = lambda: ALL
    assert said(assigned) == ALL
    assigned.holds = lambda: {TopicPartition(TOPIC, 2)}
    assert said(assigned) == {TopicPartition(TOPIC, 2)}


def test_a_member_that_lost_everything_claims_nothing(assigned):
    assert said(assigned) == frozenset()


@pytest.mark.parametrize("returned", [0, 1])
def test_what_a_returned_member_has_lost_goes_to_its_owners_at_once(assigned, returned):
    members = [HeldPartitionsAssignor()]
    members.insert(returned, assigned)
    first, second = share_out(*members)
    assert first | second == ALL
    assert not first & second
    assert len(first) == len(second) == 2


def test_what_moves_is_kept_back_until_its_owner_lets_go(assigned):
    assigned.holds = lambda: ALL
    kept, given = share_out(assigned, HeldPartitionsAssignor())
    assert len(kept) == 2
    assert given == frozenset()
    assigned.holds = lambda: kept
    assert share_out(assigned, HeldPartitionsAssignor()) == [kept, ALL - kept]
