"""What is believed of a Kafka record, and what is not."""

from __future__ import annotations

import pytest

from auditspan.journal import EntryKind, NewEntry
from auditspan.journal.kafka_record import HEADERS, RecordFormat

KEY = b"k" * 32
SOURCE = "kafka:cluster/events"
SENT = NewEntry(EntryKind.OTLP, "serving-é", "bearer", 1_795_500_000_000_000_123, "otlp_proto", b"body")


def format_of(topic="events", partition="events-0", key=KEY) -> RecordFormat:
    return RecordFormat(topic, partition, SOURCE, key)


def unvouched(entry) -> bool:
    return (entry.emitter, entry.authentication) == (SOURCE, "none")


@pytest.mark.parametrize("kind", list(EntryKind))
def test_what_a_collector_wrote_is_read_as_it_was(kind):
    sent = NewEntry(kind, "serving-é", "bearer", 1_795_500_000_000_000_123, "otlp_proto", b"\x00body")
    found = format_of().entry(7, 1_000, format_of().headers(sent), sent.body)
    assert (found.partition, found.offset, found.kind, found.emitter) == ("events-0", 7, kind, "serving-é")
    assert (found.authentication, found.arrival_time) == ("bearer", 1_795_500_000_000_000_123)
    assert (found.encoding, found.body) == ("otlp_proto", b"\x00body")


@pytest.mark.parametrize("number", range(len(HEADERS)))
def test_a_header_that_was_altered_takes_the_credit_away(number):
    headers = format_of().headers(SENT)
    name, value = headers[number]
    altered = b"1" + value[1:] if value[:1] != b"1" else b"2" + value[1:]
    found = format_of().entry(0, 5, [*headers[:number], (name, altered), *headers[number + 1 :]], SENT.body)
    assert unvouched(found)
    assert (found.kind, found.encoding, found.body) == (EntryKind.OTLP, "otlp_proto", SENT.body)
    assert found.arrival_time == 5_000_000, "the broker's or the producer's clock, in nanoseconds"


def test_a_body_that_was_altered_takes_the_credit_away():
    assert unvouched(format_of().entry(0, 5, format_of().headers(SENT), b"bodY"))


@pytest.mark.parametrize(
    "other", [format_of(topic="others"), format_of(partition="events-1"), format_of(key=b"x" * 32)]
)
def test_a_record_counts_only_where_it_was_written_and_under_its_key(other):
    assert unvouched(format_of().entry(0, 5, other.headers(SENT), SENT.body))
    assert not unvouched(other.entry(0, 5, other.headers(SENT), SENT.body))


@pytest.mark.parametrize(
    "change",
    [
        lambda headers: [],
        lambda headers: headers[:-1],
        lambda headers: [*headers, headers[0]],
        lambda headers: [("auditspan.kind", b"control"), *headers],
        lambda headers: [headers[1], headers[0], *headers[2:]],
        lambda headers: [(name, None) for name, _ in headers],
        lambda headers: [*headers[:-1], ("auditspan.mac", b"")],
    ],
)
def test_headers_that_are_not_exactly_those_written_are_not_believed(change):
    assert unvouched(format_of().entry(0, 5, change(format_of().headers(SENT)), SENT.body))


def test_fields_cannot_be_moved_into_each_other():
    one = NewEntry(EntryKind.OTLP, "ab", "c", 1, "otlp_proto", b"body")
    two = NewEntry(EntryKind.OTLP, "a", "bc", 1, "otlp_proto", b"body")
    assert format_of().headers(one)[-1] != format_of().headers(two)[-1]
    longer = NewEntry(EntryKind.OTLP, "ab", "c", 1, "otlp_proto" + "b", b"ody")
    assert format_of().headers(one)[-1] != format_of().headers(longer)[-1]


def test_a_foreign_topic_is_believed_nothing_whatever_its_headers_say():
    foreign = format_of(key=None)
    for key in (KEY, b"", b"x" * 32):
        assert unvouched(foreign.entry(0, 5, format_of(key=key).headers(SENT), SENT.body))


def test_nothing_unvouched_is_a_control_entry():
    control = format_of(topic="events.control", partition="control")
    forged = NewEntry(EntryKind.CONTROL, "auditspan", "internal", 1, "jcs", b"{}")
    written = format_of(topic="events.control", partition="control", key=b"x" * 32).headers(forged)
    found = control.entry(3, 5, written, b"{}")
    assert unvouched(found)
    assert (found.kind, found.encoding, found.body) == (EntryKind.UNDECODABLE, "raw", b"{}")


def test_a_record_without_a_value_is_kept_as_undecodable():
    found = format_of().entry(3, -1, [], None)
    assert (found.kind, found.encoding, found.body, found.arrival_time) == (EntryKind.UNDECODABLE, "raw", b"", 0)
