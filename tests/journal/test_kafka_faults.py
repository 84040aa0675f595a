"""Brokers that are killed, stopped or missing: what was acknowledged is there, all else fails within a bounded time."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from broker import JOURNAL_KEY, running
from full_disk import RefusedWrites, SmallDisk
from kafka.admin import KafkaAdminClient

from auditspan.config import KafkaSettings
from auditspan.journal import EntryKind, JournalUnavailable, NewEntry
from auditspan.journal.kafka import KafkaJournal
from auditspan.journal.kafka_topics import TopicsUnfit, check_topics, make_topics

# The client library leaves sockets of failed connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SINGLE = {"replication_factor": 1, "min_insync_replicas": 1}
PATIENT = {"delivery_timeout_seconds": 60.0, "request_timeout_seconds": 30.0, "connect_timeout_seconds": 60.0}
QUICK = {"delivery_timeout_seconds": 2.0, "request_timeout_seconds": 1.0, "connect_timeout_seconds": 5.0}


def entry(body: bytes) -> NewEntry:
    return NewEntry(EntryKind.OTLP, "serving", "bearer", 1, "otlp_proto", body)


@pytest.fixture(scope="module")
def broker(tmp_path_factory, kafka_here):
    """A broker of this file's own, to be killed; every test leaves it running."""
    with running(tmp_path_factory.mktemp("killed")) as kafka:
        yield kafka


@pytest.fixture(autouse=True)
def _closed_in_the_end():
    """A test that fails leaves no journal's threads to the tests after it."""
    yield
    while _opened:
        _opened.pop().close()


_opened: list[KafkaJournal] = []


def opened(kafka, name, **settings) -> KafkaJournal:
    chosen = KafkaSettings(topic=name, **{**SINGLE, **QUICK, **settings})
    # A broker that has just started may take longer than the tests allow one that runs.
    make_topics(kafka.url, KafkaSettings(topic=name, **{**SINGLE, **settings, **PATIENT}), 1)
    journal = KafkaJournal(kafka.url, chosen, 1, JOURNAL_KEY)
    _opened.append(journal)
    return journal


def everything(journal):
    found = []
    while more := journal.read("events-0", len(found), max_entries=10_000, max_bytes=1 << 30):
        found += more
    return found


class Appending:
    """Threads that append until told to end, as requests of senders would come."""

    def __init__(self, journal, threads=4, size=0):
        self.journal = journal
        self.size = size
        self.acknowledged: dict[bytes, int] = {}
        self.refused: list[BaseException] = []
        self.slowest = 0.0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, number):
        step = 0
        while not self._ended.is_set():
            body = (b"%d-%d" % (number, step)).ljust(self.size)
            step += 1
            began = time.monotonic()
            try:
                (self.acknowledged[body],) = self.journal.append([("events-0", entry(body))]).result(30)
            except JournalUnavailable as error:
                self.refused.append(error)
                self._ended.wait(0.01)
            self.slowest = max(self.slowest, time.monotonic() - began)

    def end(self):
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def until(self, holds, seconds=60.0):
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{len(self.acknowledged)} acknowledged, {len(self.refused)} refused"
            time.sleep(0.01)


def check_nothing_is_missing(journal, appending):
    found = everything(journal)
    assert [one.offset for one in found] == list(range(len(found)))
    where = {one.offset: one.body for one in found}
    for body, offset in appending.acknowledged.items():
        assert where.get(offset) == body, f"{body!r} was acknowledged at {offset}"


def test_what_was_acknowledged_survives_a_killed_broker(broker):
    journal, reading = opened(broker, "killed"), opened(broker, "reading")
    sent = [b"%d" % number for number in range(20)]
    reading.append([("events-0", entry(body)) for body in sent]).result(10)
    assert len(reading.read("events-0", 0, max_entries=5, max_bytes=99)) == 5
    appending = Appending(journal)
    try:
        appending.until(lambda: len(appending.acknowledged) >= 50)
        broker.brokers[0].kill()
        try:
            appending.until(lambda: len(appending.refused) >= 5)
            with pytest.raises(JournalUnavailable):
                reading.wait("events-0", 20, 0.3)
            with pytest.raises(JournalUnavailable) as away:
                reading.high_water_mark("events-0")
            assert "journal.url" in away.value.remedy
            began = time.monotonic()
            with pytest.raises(
                JournalUnavailable, match=r"No Kafka broker of journal.url kafka://.*Connection refused"
            ):
                KafkaJournal(
                    broker.url, KafkaSettings(topic="killed", **SINGLE, connect_timeout_seconds=1.0), 1, JOURNAL_KEY
                )
            assert time.monotonic() - began < 10
        finally:
            broker.brokers[0].start()
        more = len(appending.acknowledged) + 50
        appending.until(lambda: len(appending.acknowledged) >= more)
    finally:
        appending.end()
    assert all("Kafka" in str(error) and error.remedy for error in appending.refused)
    assert appending.slowest < 15.0, "bounded by kafka.delivery_timeout_seconds"
    check_nothing_is_missing(journal, appending)
    found = []
    while len(found) < 15:
        found += reading.read("events-0", 5 + len(found), max_entries=99, max_bytes=999)
    assert [one.body for one in found] == sent[5:], "a reader goes on where it was"
    journal.close()
    reading.close()


def test_a_broker_that_hangs_is_noticed_and_found_again(broker):
    journal, closing = opened(broker, "hangs"), opened(broker, "closing")
    (first,) = journal.append([("events-0", entry(b"before"))]).result(10)
    assert journal.probe().result(10) is None
    broker.brokers[0].suspend()
    try:
        began = time.monotonic()
        left_behind = closing.append([("events-0", entry(b"x"))])
        with pytest.raises(JournalUnavailable, match=r"did not answer in time|did not acknowledge within"):
            journal.append([("events-0", entry(b"meanwhile"))]).result(10)
        assert time.monotonic() - began < 10
        with pytest.raises(JournalUnavailable):
            journal.probe().result(10)
        with pytest.raises(JournalUnavailable):
            journal.read("events-0", first + 1, max_entries=9, max_bytes=9)
        trying = journal.append([("events-0", entry(b"trying"))])
        with pytest.raises(JournalUnavailable):
            journal.append([("events-0", entry(b"more"))]).result(10)
        assert not trying.done(), "one append tries, all others are told at once"
        with pytest.raises(JournalUnavailable):
            trying.result(10)
        began = time.monotonic()
        closing.close()
        assert time.monotonic() - began < 20, "nobody waits for ever for a broker"
        with pytest.raises(JournalUnavailable):
            left_behind.result(1)
    finally:
        broker.brokers[0].resume()
    deadline = time.monotonic() + 20
    while True:
        try:
            (last,) = journal.append([("events-0", entry(b"after"))]).result(10)
            break
        except JournalUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert everything(journal)[last].body == b"after"
    assert journal.probe().result(10) is None
    journal.close()


def test_a_partition_added_under_it_turns_readiness_red(broker):
    """What others wrote there would never be sealed, and nobody would notice."""
    for topic, settings in (("grown", {}), ("theirs", {"foreign_topics": ["theirs"]})):
        with KafkaAdminClient(bootstrap_servers=broker.brokers[0].address) as administrator:
            if settings:
                administrator.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
                administrator.wait_for_topics([topic])
            journal = opened(broker, f"{topic}-own" if settings else topic, **settings)
            assert journal.probe().result(10) is None
            administrator.create_partitions({topic: 2})
            deadline = time.monotonic() + 20
            said = ""
            while topic not in said:
                assert time.monotonic() < deadline
                try:
                    journal.probe().result(10)
                except JournalUnavailable as error:
                    said = str(error)
            assert f"The topic {topic} has 2 partitions now, and had 1" in said
            journal.close()


@pytest.mark.parametrize("fillable_disk", [[SmallDisk], [RefusedWrites]], indirect=True, ids=["full", "refusing"])
def test_what_was_acknowledged_survives_a_full_disk(tmp_path, fillable_disk):
    """A broker ends itself when it cannot write, and is started again by its supervisor: with room, later without."""
    with running(tmp_path / "kafka", properties=fillable_disk.properties, launch=fillable_disk.launch) as kafka:
        (broker,) = kafka.brokers
        journal = opened(kafka, "filled")
        assert journal.probe().result(10) is None
        appending = Appending(journal, size=1000)
        try:
            appending.until(lambda: len(appending.acknowledged) >= 100)
            fillable_disk.fill(broker)
            appending.until(lambda: len(appending.refused) >= 5)
            assert broker.ended() == 1
            assert "No space left on device" in (broker.folder / "broker.log").read_text()
            for _ in range(fillable_disk.starts_while_full):
                broker.start(wait=False)
                assert broker.ended() == 1
            acknowledged, refused = len(appending.acknowledged), len(appending.refused)
            appending.until(lambda: len(appending.refused) >= refused + 20)
            assert len(appending.acknowledged) == acknowledged
            with pytest.raises(JournalUnavailable):
                journal.probe().result(10)
            fillable_disk.make_room()
            broker.start()
            appending.until(lambda: len(appending.acknowledged) >= acknowledged + 100)
        finally:
            appending.end()
        assert all("Kafka" in str(error) and error.remedy for error in appending.refused)
        assert appending.slowest < 15.0, "bounded by kafka.delivery_timeout_seconds"
        assert journal.probe().result(10) is None
        check_nothing_is_missing(journal, appending)
        assert set(Counter(one.body for one in everything(journal)).values()) == {1}, "nothing is there twice"
        journal.close()


@pytest.fixture(scope="module")
def three(tmp_path_factory, kafka_here):
    with running(tmp_path_factory.mktemp("three"), 3) as kafka:
        yield kafka


def test_one_of_three_brokers_may_die_and_a_second_stops_the_acknowledgements(three):
    settings = KafkaSettings(topic="replicated", **PATIENT)
    journal = opened(three, "replicated", replication_factor=3, min_insync_replicas=2)
    appending = Appending(journal)
    try:
        appending.until(lambda: len(appending.acknowledged) >= 50)
        # The controller's majority stays; if this was the partition's leader, it takes an election.
        three.brokers[2].kill()
        more = len(appending.acknowledged) + 200
        appending.until(lambda: len(appending.acknowledged) >= more)
        check_topics(three.url, settings, 1)
        three.brokers[1].suspend()
        refused = len(appending.refused) + 20
        appending.until(lambda: len(appending.refused) >= refused)
        with pytest.raises(JournalUnavailable):
            journal.probe().result(10)
        three.brokers[1].resume()
        more = len(appending.acknowledged) + 50
        appending.until(lambda: len(appending.acknowledged) >= more)
    finally:
        appending.end()
    check_nothing_is_missing(journal, appending)
    journal.close()


def test_fewer_replicas_than_wanted_are_refused(broker):
    settings = KafkaSettings(topic="single", **SINGLE)
    make_topics(broker.url, settings, 1)
    with pytest.raises(TopicsUnfit, match=r"replication factor is 1.*min.insync.replicas is 1 in effect"):
        check_topics(broker.url, KafkaSettings(topic="single"), 1)
