"""A journal on Kafka of several generations: what is read, what is written, and where the early ones end."""

from __future__ import annotations

import time

import pytest

from auditspan.errors import AuditSpanError
from auditspan.journal import EntryKind, JournalUnavailable, NewEntry
from auditspan.journal import kafka as kafka_journals
from auditspan.journal.kafka_topics import make_next_generation


def entry(body: bytes, kind: EntryKind = EntryKind.OTLP) -> NewEntry:
    return NewEntry(kind, "serving", "bearer", 1_795_500_000_000_000_000, "otlp_proto", body)


def ready(journal) -> bool:
    try:
        journal.probe().result(10)
    except JournalUnavailable:
        return False
    return True


def test_both_generations_are_read_and_the_last_one_is_written(kafka, kafka_settings, kafka_journal) -> None:
    settings = kafka_settings(partitions=2)
    before = kafka_journal(2, settings=settings)
    assert before.append([("events-1", entry(b"early"))]).result(30) == [0]
    make_next_generation(kafka.url, settings, 3)
    journal = kafka_journal(3, settings=settings)
    assert dict(journal.generations) == {
        1: ("events-0", "events-1"),
        2: ("events.2-0", "events.2-1", "events.2-2"),
    }
    assert list(journal.own_partitions) == ["events.2-0", "events.2-1", "events.2-2"]
    assert list(journal.partitions) == [*journal.generations[1], *journal.generations[2]]
    assert journal.identity == before.identity
    assert journal.append([("events.2-2", entry(b"late"))]).result(30) == [0]
    read = [journal.read(partition, 0, max_entries=9, max_bytes=99)[0] for partition in ("events-1", "events.2-2")]
    assert [(one.body, one.authentication) for one in read] == [(b"early", "bearer"), (b"late", "bearer")]
    with pytest.raises(AuditSpanError, match="no partition of the last generation"):
        journal.append([("events-1", entry(b"x"))])


def test_who_began_before_acknowledges_nothing_more_and_is_not_ready(kafka, kafka_settings, kafka_journal) -> None:
    settings = kafka_settings(partitions=2)
    before = kafka_journal(2, settings=settings)
    assert ready(before)
    make_next_generation(kafka.url, settings, 1)
    deadline = time.monotonic() + 30
    while ready(before):
        assert time.monotonic() < deadline
    with pytest.raises(JournalUnavailable, match=r"generation .* has ended") as refused:
        before.append([("events-0", entry(b"x"))]).result(10)
    assert "journal.partitions" in refused.value.remedy
    assert before.append([("events-0", entry(b"{}", EntryKind.HEARTBEAT))]).result(10) == [0], "nobody waits for that"


def test_an_early_partition_is_settled_when_nobody_can_acknowledge_in_it_any_more(
    kafka, kafka_settings, kafka_journal, monkeypatch
) -> None:
    settings = kafka_settings(partitions=1)
    before = kafka_journal(1, settings=settings)
    assert not before.settled("events-0"), "it still grows"
    make_next_generation(kafka.url, settings, 2)
    journal = kafka_journal(2, settings=settings)
    assert not journal.settled("events-0"), "too early to say"
    now = kafka_journals.boot_time()
    monkeypatch.setattr(kafka_journals, "boot_time", lambda: now + kafka_journals.SETTLED)
    assert journal.settled("events-0")
    assert not any(journal.settled(partition) for partition in ("events.2-0", "events.2-1", "control"))
    assert journal.append([("events-0", entry(b"{}", EntryKind.HEARTBEAT))]).result(10) == [0], "its end is marked"
