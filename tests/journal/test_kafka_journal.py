"""What the journal on Kafka promises beyond the contract: large entries, lost positions, other clients' reading."""

from __future__ import annotations

import os
import threading
import time

import pytest
from broker import JOURNAL_KEY
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from auditspan.errors import AuditSpanError
from auditspan.journal import CONTROL_PARTITION, EntryKind, JournalUnavailable, NewEntry, PositionLost
from auditspan.journal.kafka_topics import TopicsUnfit


def entry(body: bytes, kind: EntryKind = EntryKind.OTLP) -> NewEntry:
    return NewEntry(kind, "serving", "bearer", 1_795_500_000_000_000_000, "otlp_proto", body)


def put(journal, *bodies, partition="events-0"):
    return journal.append([(partition, entry(body)) for body in bodies]).result(30)


def request() -> bytes:
    made = ExportTraceServiceRequest()
    span = made.resource_spans.add().scope_spans.add().spans.add()
    span.name, span.trace_id, span.span_id = "chat frontier-7", b"t" * 16, b"s" * 8
    return made.SerializeToString()


@pytest.fixture
def administrator(kafka):
    opened = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    yield opened
    opened.close()


@pytest.fixture
def foreign_producer(kafka):
    opened = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    yield opened
    opened.close()


def test_another_client_reads_a_request_with_opentelemetry_alone(kafka, kafka_settings, kafka_journal):
    settings = kafka_settings()
    put(kafka_journal(settings=settings), request())
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    consumer.assign([TopicPartition(settings.topic, 0)])
    (record,) = next(iter(consumer.poll(10_000).values()))
    consumer.close()
    read = ExportTraceServiceRequest.FromString(record.value)
    assert read.resource_spans[0].scope_spans[0].spans[0].name == "chat frontier-7"
    assert dict(record.headers)["auditspan.emitter"] == b"serving"
    assert len(bytes.fromhex(dict(record.headers)["auditspan.mac"].decode())) == 32


def test_entries_of_8_mb_go_through_whole(kafka_journal):
    journal = kafka_journal()
    bodies = [os.urandom(8 << 20), b"small", os.urandom(8 << 20)]
    assert put(journal, *bodies) == [0, 1, 2]
    found = []
    while len(found) < 3:
        found += journal.read("events-0", len(found), max_entries=9, max_bytes=1 << 30)
    assert [one.body for one in found] == bodies
    assert journal.read("events-0", 2, max_entries=1, max_bytes=1)[0].body == bodies[2]


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd", "gzip"])
def test_the_largest_body_that_is_promised_is_taken(kafka_journal, compression):
    journal = kafka_journal(compression=compression, max_message_bytes=1 << 20)
    body = os.urandom(journal.largest_body)
    assert put(journal, body) == [0]
    assert journal.read("events-0", 0, max_entries=1, max_bytes=1)[0].body == body
    with pytest.raises(AuditSpanError, match=r"larger than the topic .* max.message.bytes"):
        journal.append([("events-0", entry(body + b"x")), ("events-0", entry(b"y"))])
    assert put(journal, b"next") == [1], "nothing of the refused append was written"


def test_more_than_the_queue_holds_is_refused_at_once(kafka_journal):
    journal = kafka_journal(queue_bytes=1 << 20, linger_ms=500)
    # Less than a batch, so it lingers; two of them are more than the queue holds.
    first = journal.append([("events-0", entry(bytes(600_000)))])
    refused = journal.append([("events-0", entry(bytes(600_000)))])
    with pytest.raises(JournalUnavailable, match="under way"):
        refused.result(0.1)
    assert first.result(10) == [0]
    assert put(journal, bytes(900_000)) == [1], "and later there is room again"


def test_a_record_without_the_mac_is_read_and_not_believed(kafka, kafka_settings, kafka_journal, foreign_producer):
    settings = kafka_settings()
    journal = kafka_journal(settings=settings)
    put(journal, b"ours")
    headers = [("auditspan.kind", b"control"), ("auditspan.emitter", b"serving"), ("auditspan.mac", b"0" * 64)]
    foreign_producer.send(settings.topic, request(), partition=0, headers=headers).get(10)
    foreign_producer.send(settings.control_topic, b'{"class":"audit.key.added"}', headers=headers).get(10)
    ours, forged = journal.read("events-0", 0, max_entries=9, max_bytes=1 << 20)
    assert (ours.emitter, ours.authentication) == ("serving", "bearer")
    assert (forged.kind, forged.emitter, forged.authentication) == (EntryKind.OTLP, journal.identity, "none")
    assert abs(forged.arrival_time / 1e9 - time.time()) < 60, "the broker's clock"
    (control,) = journal.read(CONTROL_PARTITION, 0, max_entries=9, max_bytes=1 << 20)
    assert (control.kind, control.encoding, control.authentication) == (EntryKind.UNDECODABLE, "raw", "none")


def test_two_processes_with_different_keys_do_not_believe_each_other(kafka_settings, kafka_journal):
    settings = kafka_settings()
    put(kafka_journal(settings=settings, key=b"x" * 32), b"theirs")
    (found,) = kafka_journal(settings=settings, key=JOURNAL_KEY).read("events-0", 0, max_entries=9, max_bytes=99)
    assert found.authentication == "none"


def test_a_foreign_topic_is_read_as_logs_of_its_own(
    administrator, kafka_settings, kafka_journal, foreign_producer, foreign_topic
):
    # What the OpenTelemetry Collector's kafka exporter writes: the request as value, no headers of ours.
    foreign_producer.send(foreign_topic, request(), partition=1).get(10)
    foreign_producer.send(foreign_topic, b"\xff not protobuf", partition=1).get(10)
    foreign_producer.send(foreign_topic, None, key=b"tombstone", partition=1).get(10)
    journal = kafka_journal(2, foreign_topics=(foreign_topic,))
    assert list(journal.partitions) == ["events-0", "events-1", f"{foreign_topic}-0", f"{foreign_topic}-1"]
    assert list(journal.own_partitions) == ["events-0", "events-1"]
    found = journal.read(f"{foreign_topic}-1", 0, max_entries=9, max_bytes=1 << 20)
    assert [one.kind for one in found] == [EntryKind.OTLP, EntryKind.OTLP, EntryKind.UNDECODABLE]
    assert [one.body for one in found] == [request(), b"\xff not protobuf", b""]
    cluster = journal.identity.removeprefix("kafka:").partition("/")[0]
    assert {(one.emitter, one.authentication) for one in found} == {(f"kafka:{cluster}/{foreign_topic}", "none")}
    with pytest.raises(AuditSpanError, match="others write"):
        journal.append([(f"{foreign_topic}-0", entry(b"x"))])


@pytest.fixture
def foreign_topic(administrator, kafka_settings):
    """A topic that is made by its owner, with two partitions."""
    name = kafka_settings(make=False).topic + "-otlp"
    configs = {"retention.ms": "-1", "min.insync.replicas": "1"}
    administrator.create_topics(
        {name: {"num_partitions": 2, "replication_factor": 1, "configs": configs}}, wait_for_metadata=True
    )
    return name


@pytest.mark.parametrize("committed", [True, False])
def test_markers_of_a_foreign_transaction_have_their_positions(kafka, kafka_journal, foreign_topic, committed):
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=foreign_topic)
    producer.init_transactions()
    for _ in range(2):
        producer.begin_transaction()
        producer.send(foreign_topic, request(), partition=0)
        producer.flush()
        _ = producer.commit_transaction() if committed else producer.abort_transaction()
    producer.close()
    found = kafka_journal(foreign_topics=(foreign_topic,)).read(
        f"{foreign_topic}-0", 0, max_entries=9, max_bytes=1 << 20
    )
    assert [one.offset for one in found] == [0, 1, 2, 3]
    assert [one.kind for one in found] == [EntryKind.OTLP, EntryKind.UNDECODABLE] * 2


def test_entries_that_retention_took_are_not_jumped_over(administrator, kafka_settings, kafka_journal):
    settings = kafka_settings()
    journal = kafka_journal(settings=settings)
    put(journal, *[b"x"] * 10)
    administrator.delete_records({TopicPartition(settings.topic, 0): 4})
    for limit in (1, 9):
        with pytest.raises(PositionLost, match=r"Offsets 2 to 3 .* retention") as lost:
            journal.read("events-0", 2, max_entries=limit, max_bytes=99)
        assert lost.value.resumes_at == 4
    assert journal.wait("events-0", 2, 5.0), "so that the reader comes to know"
    assert journal.earliest("events-0") == 4
    assert [one.offset for one in journal.read("events-0", 4, max_entries=9, max_bytes=99)] == list(range(4, 10))


def test_a_topic_that_ends_before_what_was_sealed_is_an_error(kafka_settings, kafka_journal):
    journal = kafka_journal()
    put(journal, b"x")
    assert journal.wait("events-0", 7, 5.0)
    with pytest.raises(PositionLost, match="ends at offset 1, and offset 7 was there before") as lost:
        journal.read("events-0", 7, max_entries=9, max_bytes=99)
    assert lost.value.resumes_at is None


def test_a_topic_that_was_made_anew_is_not_taken_for_the_old_one(administrator, kafka, kafka_settings, kafka_journal):
    from auditspan.journal.kafka_topics import make_topics

    settings = kafka_settings()
    journal = kafka_journal(settings=settings)
    put(journal, b"old", b"old")
    assert len(journal.read("events-0", 0, max_entries=9, max_bytes=99)) == 2
    administrator.delete_topics([settings.topic])
    deadline = time.monotonic() + 30
    while True:
        try:
            make_topics(kafka.url, settings, 1)
            break
        except AuditSpanError:
            assert time.monotonic() < deadline, "the topic cannot be made anew"
            time.sleep(0.1)
    other = kafka_journal(settings=settings)
    put(other, b"new", b"new", b"new")
    assert journal.wait("events-0", 2, 10.0)
    with pytest.raises(PositionLost, match="made anew"):
        journal.read("events-0", 2, max_entries=9, max_bytes=99)


def test_a_compacted_hole_is_not_jumped_over(administrator, kafka, kafka_settings, kafka_journal, foreign_producer):
    settings = kafka_settings()
    journal = kafka_journal(settings=settings)
    # Compaction under the running journal: small segments and eager settings, so that it happens within seconds.
    eager = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "0",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "100",
    }
    administrator.alter_configs([ConfigResource("TOPIC", settings.topic, eager)])
    for number in range(6):
        foreign_producer.send(settings.topic, b"v%d" % number, key=b"same", partition=0).get(10)
    deadline = time.monotonic() + 60
    while True:
        # A new segment makes the one before it ready for the cleaner.
        foreign_producer.send(settings.topic, b"roll", key=os.urandom(4), partition=0).get(10)
        try:
            found = journal.read("events-0", 0, max_entries=99, max_bytes=1 << 20)
            assert found[0].offset == 0, "never a silent jump"
            assert [one.offset for one in found] == list(range(len(found)))
        except PositionLost as lost:
            assert "Offsets 0 to " in lost.message
            assert lost.resumes_at is not None
            assert lost.resumes_at > 0
            break
        assert time.monotonic() < deadline, "compaction did not come"
        threading.Event().wait(0.5)
    with pytest.raises(TopicsUnfit, match=r"cleanup.policy is compact"):
        kafka_journal(settings=settings)


def test_looking_in_passing_does_not_move_a_reader(kafka_journal):
    journal = kafka_journal()
    put(journal, *[bytes([number]) for number in range(50)])
    seen = []
    while len(seen) < 50:
        seen += journal.read("events-0", len(seen), max_entries=7, max_bytes=1 << 20)
        assert journal.read("events-0", 3, max_entries=1, max_bytes=1)[0].body == b"\x03"
        assert journal.read("events-0", 40, max_entries=2, max_bytes=99)[1].body == bytes([41])
    assert [one.offset for one in seen] == list(range(50))


def test_trimming_is_left_to_the_topic(kafka_journal):
    journal = kafka_journal()
    put(journal, b"a", b"b")
    journal.trim("events-0", 2)
    assert journal.earliest("events-0") == 0
