"""The journal on Kafka as any consumer sees it: read with the client library alone, past the product's own reading."""

from __future__ import annotations

import time
from collections.abc import Mapping

from kafka import KafkaConsumer, TopicPartition
from reference.derive import Entry

_PATIENCE = 60.0


def ends(bootstrap: str, places: Mapping[str, tuple[str, int]]) -> dict[str, int]:
    """How many records each place has, by name."""
    consumer = _consumer(bootstrap)
    try:
        found = consumer.end_offsets([TopicPartition(*place) for place in places.values()])
        return {name: found[TopicPartition(*place)] for name, place in places.items()}
    finally:
        consumer.close()


def entries_of(bootstrap: str, topic: str, partition: int) -> list[Entry]:
    """All records of one partition as the slow deriver takes them."""
    place = TopicPartition(topic, partition)
    consumer = _consumer(bootstrap)
    entries: list[Entry] = []
    try:
        consumer.assign([place])
        assert consumer.beginning_offsets([place])[place] == 0, "the topic has forgotten its beginning"
        consumer.seek_to_beginning(place)
        end = consumer.end_offsets([place])[place]
        deadline = time.monotonic() + _PATIENCE
        while len(entries) < end:
            assert time.monotonic() < deadline, f"{topic} gives {len(entries)} of {end} records"
            for record in consumer.poll(1000).get(place, []):
                assert record.offset == len(entries), "the topic has a hole"
                entries.append(_entry(record))
    finally:
        consumer.close()
    return entries


def _entry(record: object) -> Entry:
    said = {name: value.decode() for name, value in record.headers}  # type: ignore[attr-defined]
    return Entry(
        record.offset,  # type: ignore[attr-defined]
        said["auditspan.kind"],
        said["auditspan.emitter"],
        said["auditspan.authentication"],
        int(said["auditspan.arrival_time"]),
        said["auditspan.encoding"],
        record.value,  # type: ignore[attr-defined]
    )


def _consumer(bootstrap: str) -> KafkaConsumer:
    return KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=16 << 20,
    )
