"""Collectors on a Kafka journal: what they accept fits the broker's limit, or is kept in parts."""

from __future__ import annotations

import hashlib
import os

import pytest
from collector_requests import a_request, span_names
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from auditspan.journal import EntryKind, JournalUnavailable


def entries(journal, partition="events-0"):
    found = []
    while more := journal.read(partition, len(found), max_entries=10_000, max_bytes=1 << 30):
        found += more
    return found


@pytest.fixture
def small(start, kafka_journal):
    """A collector on a topic that takes 256 KiB at most, and its journal."""
    journal = kafka_journal(max_message_bytes=256 << 10)
    return start(journal=journal), journal


def test_each_stream_meets_one_partition_and_every_span_is_there_once(start, kafka_journal):
    journal = kafka_journal(4)
    collector = start(journal=journal)
    streams = [f"stream-{number}" for number in range(12)]
    for _ in range(2):
        for stream in streams:
            assert collector.post(a_request(5, stream, name=stream)).status == 200
    where: dict[str, set[str]] = {}
    names: list[str] = []
    for partition in journal.own_partitions:
        for entry in entries(journal, partition):
            assert (entry.kind, entry.emitter, entry.authentication) == (EntryKind.OTLP, "emitter", "bearer")
            for name in span_names(entry.body):
                where.setdefault(name.split()[0], set()).add(partition)
                names.append(name)
    assert {len(partitions) for partitions in where.values()} == {1}
    assert len({next(iter(partitions)) for partitions in where.values()}) > 1
    assert sorted(names) == sorted(2 * [f"{stream} {number}" for stream in streams for number in range(5)])


def test_a_request_of_20_000_spans_is_split_to_fit(small):
    collector, journal = small
    assert collector.post(a_request(20_000)).status == 200
    found = entries(journal)
    assert max(len(one.body) for one in found) <= journal.largest_body
    assert [name for one in found for name in span_names(one.body)] == [f"span {number}" for number in range(20_000)]


def test_a_span_above_the_limit_is_rejected_and_kept_in_parts(small):
    collector, journal = small
    answer = collector.post(a_request(1, padding=700_000))
    assert answer.status == 200
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert partial.rejected_spans == 1
    assert "larger than" in partial.error_message
    parts = entries(journal)
    assert {one.kind for one in parts} == {EntryKind.UNDECODABLE}
    whole = b"".join(one.body for one in parts)
    assert span_names(whole) == ["span 0"]
    digest = hashlib.sha256(whole).hexdigest()
    assert [one.encoding for one in parts] == [
        f"raw {number}/{len(parts)} sha256:{digest}" for number in range(1, len(parts) + 1)
    ]
    assert collector.metric("auditspan_collector_quarantined_total") == 1


def test_what_is_no_request_is_kept_in_parts(small):
    collector, journal = small
    sent = b"\xff" + os.urandom(600_000)
    assert collector.post(sent).status == 400
    assert b"".join(one.body for one in entries(journal)) == sent


def test_neighbours_of_a_span_above_the_limit_are_accepted(small):
    collector, journal = small
    heavy = a_request(1, padding=700_000) + a_request(3, name="light")
    answer = collector.post(heavy)
    assert ExportTraceServiceResponse.FromString(answer.body).partial_success.rejected_spans == 1
    accepted = [name for one in entries(journal) if one.kind is EntryKind.OTLP for name in span_names(one.body)]
    assert accepted == ["light 0", "light 1", "light 2"]


def test_a_journal_that_is_away_is_503_and_not_ready(start, kafka_journal):
    journal = kafka_journal()
    collector = start(journal=journal)
    assert collector.get("/readyz").status == 200
    collector.journal.refuse_with = JournalUnavailable("The Kafka brokers are away.")
    answer = collector.post(a_request())
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert entries(journal) == []
