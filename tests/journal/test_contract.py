"""What every journal promises, of SQLite and of Kafka alike."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from auditspan.errors import AuditSpanError
from auditspan.journal import CONTROL_PARTITION, EntryKind, JournalUnavailable, NewEntry
from auditspan.journal.sqlite import SqliteJournal


def entry(body: bytes = b"body", kind: EntryKind = EntryKind.OTLP) -> NewEntry:
    return NewEntry(kind, "emitter", "bearer", 1_795_500_000_000_000_000, "otlp_proto", body)


def put(journal, *bodies, partition="events-0"):
    return journal.append([(partition, entry(body)) for body in bodies]).result(30)


@pytest.fixture(params=["sqlite", "kafka"])
def journal(request, tmp_path):
    if request.param == "kafka":
        yield request.getfixturevalue("kafka_journal")(3)
        return
    with closing(SqliteJournal(tmp_path / "journal.sqlite", 3)) as opened:
        yield opened


def test_entries_come_back_as_they_were_with_offsets_from_zero(journal):
    sent = [
        NewEntry(kind, f"emitter-{number}é", "bearer", number, f"encoding {number}", bytes([number]) * number)
        for number, kind in enumerate(EntryKind)
    ]
    assert journal.append([("events-1", one) for one in sent]).result(30) == [0, 1, 2, 3]
    found = journal.read("events-1", 0, max_entries=10, max_bytes=1000)
    assert [one.offset for one in found] == [0, 1, 2, 3]
    assert {one.partition for one in found} == {"events-1"}
    for back, given in zip(found, sent, strict=True):
        for name in ("kind", "emitter", "authentication", "arrival_time", "encoding", "body"):
            assert getattr(back, name) == getattr(given, name), name


def test_one_append_may_go_to_several_partitions(journal):
    where = ["events-0", "events-2", CONTROL_PARTITION, "events-0"]
    assert journal.append([(partition, entry(partition.encode())) for partition in where]).result(30) == [0, 0, 0, 1]
    for partition in where:
        assert journal.read(partition, 0, max_entries=1, max_bytes=100)[0].body == partition.encode()
    assert not journal.read("events-1", 0, max_entries=1, max_bytes=100)


def test_a_read_keeps_both_bounds_but_gives_at_least_one(journal):
    put(journal, *[b"x" * 100] * 10)
    assert len(journal.read("events-0", 0, max_entries=4, max_bytes=10_000)) == 4
    assert len(journal.read("events-0", 0, max_entries=100, max_bytes=350)) == 3
    assert len(journal.read("events-0", 0, max_entries=100, max_bytes=1)) == 1
    assert [one.offset for one in journal.read("events-0", 7, max_entries=100, max_bytes=10_000)] == [7, 8, 9]
    assert journal.read("events-0", 10, max_entries=100, max_bytes=10_000) == []


def test_a_reader_goes_on_where_it_was_and_sees_what_came_meanwhile(journal):
    seen = []
    for number in range(20):
        put(journal, *[bytes([number])] * 3)
        seen += journal.read("events-0", len(seen), max_entries=1000, max_bytes=1 << 20)
    assert [one.offset for one in seen] == list(range(60))
    assert [one.body[0] for one in seen] == [number for number in range(20) for _ in range(3)]


def test_marks_tell_where_a_partition_begins_and_ends(journal):
    assert (journal.earliest("events-0"), journal.high_water_mark("events-0")) == (0, 0)
    put(journal, b"a", b"b")
    assert journal.wait("events-0", 1, 10.0)
    assert journal.earliest("events-0") == 0
    assert journal.read("events-0", 1, max_entries=9, max_bytes=9)[0].body == b"b"
    for _ in range(100):
        if journal.high_water_mark("events-0") == 2:
            break
        threading.Event().wait(0.05)
    assert journal.high_water_mark("events-0") == 2


def test_waiting_ends_when_an_entry_comes_and_not_before(journal):
    assert not journal.wait("events-0", 0, 0.0)
    assert not journal.wait("events-0", 0, 0.2)
    came = threading.Event()

    def wait():
        if journal.wait("events-0", 0, 30.0):
            came.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not came.wait(0.2)
    put(journal, b"now")
    assert came.wait(10)
    waiting.join()
    assert journal.wait("events-0", 0, 0.0)
    assert not journal.wait("events-0", 1, 0.0)


def test_appends_of_many_threads_are_all_there_once(journal):
    def work(number):
        for step in range(25):
            put(journal, f"{number}-{step}-a".encode(), f"{number}-{step}-b".encode())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = journal.read("events-0", 0, max_entries=10_000, max_bytes=1 << 20)
    assert [one.offset for one in found] == list(range(300))
    bodies = [one.body.decode() for one in found]
    assert len(set(bodies)) == 300
    for number in range(6):
        mine = [body for body in bodies if body.startswith(f"{number}-")]
        assert mine == [f"{number}-{step}-{part}" for step in range(25) for part in "ab"], "a sender's order is kept"


def test_what_is_not_there_is_refused(journal):
    with pytest.raises(AuditSpanError, match="no partition 'events-3'"):
        journal.append([("events-3", entry())])
    with pytest.raises(AuditSpanError, match="no partition 'other'"):
        journal.read("other", 0, max_entries=1, max_bytes=1)
    with pytest.raises(AuditSpanError, match="no partition 'other'"):
        journal.high_water_mark("other")


def test_a_probe_says_that_an_append_would_succeed(journal):
    assert journal.probe().result(10) is None
    assert journal.high_water_mark("events-0") == 0, "and leaves no entry"


def test_a_closed_journal_says_so(journal):
    put(journal, b"a")
    journal.close()
    journal.close()
    with pytest.raises(JournalUnavailable):
        journal.append([("events-0", entry())]).result(10)
    with pytest.raises(JournalUnavailable):
        journal.read("events-0", 0, max_entries=9, max_bytes=9)
    with pytest.raises(JournalUnavailable):
        journal.probe().result(10)


def test_partitions_are_named_in_order(journal):
    assert list(journal.partitions) == list(journal.own_partitions) == ["events-0", "events-1", "events-2"]
    assert journal.identity.startswith(("sqlite:", "kafka:"))
