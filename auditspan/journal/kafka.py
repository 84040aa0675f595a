"""The journal on Apache Kafka: partition ``events-<i>`` is partition i of the topic, ``control`` that of its own topic.

A foreign topic's partition i is the data partition ``<topic>-<i>``: a log of its own, which others write and we read.
The offsets are Kafka's. Nothing is ever trimmed from here: retention belongs to the topic.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from kafka import TopicPartition
from kafka import errors as kafka_errors

from auditspan.config import KafkaSettings
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import (
    CONTROL_PARTITION,
    Entry,
    EntryKind,
    JournalUnavailable,
    NewEntry,
    data_partition,
    generation_of,
)
from auditspan.journal.kafka_assignment import KafkaAssignment
from auditspan.journal.kafka_connection import client_options, unreachable
from auditspan.journal.kafka_cursor import Cursor
from auditspan.journal.kafka_generation import SETTLED, Fence, boot_time
from auditspan.journal.kafka_link import EARLIEST, LATEST, Link
from auditspan.journal.kafka_owners import member_name, partition_owners
from auditspan.journal.kafka_producer import OutgoingRecord, Producer
from auditspan.journal.kafka_readers import Readers
from auditspan.journal.kafka_record import RecordFormat
from auditspan.journal.kafka_topics import TopicFacts, check_topics, generations

__all__ = ["KafkaJournal"]

_log = logging.getLogger(__name__)

_ENDS_KEPT: Final = 0.2
_FAILURE_KEPT: Final = 5.0
_RECORD_ROOM: Final = 4096
"""Headers and framing of a record."""
_INCOMPRESSIBLE: Final = 512
"""A batch that does not compress grows by less than this part of it."""
_PEEK_BYTES: Final = 1
_LOOK_WITHIN: Final = 2.0
_OWN_KINDS: Final = frozenset({EntryKind.HEARTBEAT, EntryKind.CONTROL})
"""What no sender waits to be acknowledged for, whichever generation it is for."""


class KafkaJournal:
    """`auditspan.journal.Journal` on a Kafka cluster.

    Args:
        url: ``kafka://HOST:PORT[,HOST:PORT...]``.
        settings: section ``[kafka]``.
        partitions: how many data partitions the topic must have.
        key: the journal key (32 bytes), with which collectors vouch for what they write.
        read_only: every append fails; no right to write is needed.

    Raises:
        TopicsUnfit: a topic is missing or would lose events, or has another number of partitions.
        JournalUnavailable: the cluster cannot be reached within ``kafka.connect_timeout_seconds``.
        KafkaRefused: it refuses the credentials, or an ACL denies what is needed.
    """

    def __init__(
        self, url: str, settings: KafkaSettings, partitions: int, key: bytes, *, read_only: bool = False
    ) -> None:
        self._url = url
        self._settings = settings
        self._options = client_options(url, settings)
        looked_at = boot_time()
        facts = check_topics(url, settings, partitions)
        self._opened_at = boot_time()
        self._least_in_sync = {name: _in_sync(one) for name, one in facts.items()}
        self._generations = {
            generation: tuple(data_partition(index, generation) for index in range(count))
            for generation, count in generations(settings, facts).items()
        }
        generation, self._own = list(self._generations.items())[-1]
        self._topic, self._next_topic = settings.topic_of(generation), settings.topic_of(generation + 1)
        smallest = min(facts[name].largest_message for name in (self._topic, settings.control_topic))
        self._largest_body = smallest - _RECORD_ROOM - smallest // _INCOMPRESSIBLE
        self._places = {
            **{
                name: TopicPartition(settings.topic_of(one), index)
                for one, names in self._generations.items()
                for index, name in enumerate(names)
            },
            **{
                f"{topic}-{index}": TopicPartition(topic, index)
                for topic in settings.foreign_topics
                for index in range(facts[topic].partitions)
            },
            CONTROL_PARTITION: TopicPartition(settings.control_topic, 0),
        }
        self._topics = tuple(dict.fromkeys(place.topic for place in self._places.values()))
        self._guard = threading.Lock()
        self._closed = False
        self._ends: dict[TopicPartition, int] = {}
        self._ends_at = float("-inf")
        self._asking: Link | None = None
        try:
            self._asking = self._link(settings.connect_timeout_seconds)
            self._cluster = self._asking.cluster_id
            self._producer = None if read_only else Producer(self._options, settings, self._largest_body + _RECORD_ROOM)
        except (kafka_errors.KafkaError, OSError) as error:
            if self._asking is not None:
                self._asking.close()
            raise unreachable(url, settings, error) from error
        self._formats = {name: self._format(name, key) for name in self._places}
        self._readers = Readers(self._new_cursor, self._places)
        self._probes = ThreadPoolExecutor(1, thread_name_prefix="auditspan-kafka-probe")
        self._fence = Fence(self._has_successor, self._topic, looked_at)

    @property
    def identity(self) -> str:
        """``kafka:<cluster id>/<topic>``."""
        return f"kafka:{self._cluster}/{self._settings.topic}"

    @property
    def partitions(self) -> Sequence[str]:
        """The data partitions: ``events-0`` …, those of later generations, then those of the foreign topics."""
        return tuple(name for name in self._places if name != CONTROL_PARTITION)

    @property
    def own_partitions(self) -> Sequence[str]:
        """Those of the last generation, to which collectors append."""
        return self._own

    @property
    def generations(self) -> Mapping[int, Sequence[str]]:
        """Our own data partitions by generation, as far as their topics are there."""
        return self._generations

    def settled(self, partition: str) -> bool:
        """Whether nothing more can be acknowledged to a sender in ``partition``, see `Journal.settled`."""
        self._place(partition)
        early = generation_of(partition) is not None and partition not in self._own
        return early and boot_time() - self._opened_at >= SETTLED

    @property
    def largest_body(self) -> int:
        """Most bytes of an entry's body: the topic's ``max.message.bytes`` with room for headers."""
        return self._largest_body

    def append(self, entries: Sequence[tuple[str, NewEntry]]) -> Future[list[int]]:
        """Append ``entries``; the future gives their offsets once every one is on all replicas in sync.

        It fails with `JournalUnavailable` within ``kafka.delivery_timeout_seconds`` when one of them is not, at once
        when too much is under way, or when the generation has ended that senders' entries are for. Kafka keeps single
        records: after a failure some may be there, and once more when they are sent again.

        Raises:
            AuditSpanError: an entry names a partition that is not ours to write, or is too large. No retry can help.
        """
        records = [self._record(partition, entry) for partition, entry in entries]
        if self._producer is None:
            return _refused(_not_writable())
        if all(entry.kind in _OWN_KINDS for _, entry in entries):
            return self._producer.send(records)
        ended = self._fence.refusal()
        return _refused(ended) if ended is not None else self._fence.guarded(self._producer.send(records))

    def probe(self) -> Future[None]:
        """Whether an append would succeed now: the own partitions are all there are of the topic and of the last
        generation, each has a leader that answers, and replicas in sync.

        Fails with `JournalUnavailable`, also for some seconds after an append failed.
        """
        try:
            return self._probes.submit(self._probe)
        except RuntimeError:
            return _refused(_not_writable())

    def read(self, partition: str, offset: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Entries of ``partition`` from ``offset`` on, in order; see `Journal.read`.

        Raises:
            PositionLost: retention or compaction took an entry, or the topic was cut off or made anew.
            JournalUnavailable: the brokers cannot be asked.
            KafkaRefused: they do not let us read.
        """
        place = self._place(partition)
        if max_entries == 1:
            return self._peek(partition, offset)
        with self._readers.at(partition, offset) as cursor:
            if not cursor.fill(0.0):
                end = self._fresh_ends()[place]
                if offset == end:
                    return []
                if not cursor.fill(self._settings.request_timeout_seconds):
                    raise self._silent(place, offset)
            return cursor.take(max_entries, max_bytes)

    def earliest(self, partition: str) -> int:
        """The earliest offset of ``partition`` that Kafka still has.

        Raises:
            JournalUnavailable: the brokers cannot be asked.
        """
        place = self._place(partition)
        return self._ask([place], EARLIEST)[place]

    def high_water_mark(self, partition: str) -> int:
        """Offset that the next entry of ``partition`` will get, as it was at most 0.2 seconds ago.

        Raises:
            JournalUnavailable: the brokers cannot be asked.
        """
        place = self._place(partition)
        with self._guard:
            if time.monotonic() - self._ends_at < _ENDS_KEPT:
                return self._ends[place]
        return self._fresh_ends()[place]

    def wait(self, partition: str, offset: int, timeout: float) -> bool:
        """Block until ``partition`` has an entry at ``offset`` or ``timeout`` seconds passed; whether it has.

        Raises:
            JournalUnavailable: the brokers cannot be asked.
            KafkaRefused: they do not let us read.
        """
        place = self._place(partition)
        with self._readers.at(partition, offset) as cursor:
            if cursor.fill(max(timeout, 0.0)):
                return True
            return timeout <= 0 and self._fresh_ends()[place] > offset

    def trim(self, partition: str, before: int) -> None:
        """Nothing: how long Kafka keeps entries is the topic's ``retention.ms``, which its operators own."""
        self._place(partition)

    def assignment(self) -> KafkaAssignment:
        """Join the consumer group ``kafka.group``; the partitions that this process owns from now on.

        Raises:
            JournalUnavailable: the cluster cannot be reached.
            KafkaRefused: it refuses.
        """
        options = {**self._options, "client_id": member_name()}
        return KafkaAssignment(self._url, options, self._settings, self._places)

    def owners(self) -> Mapping[str, str]:
        """``HOST-PROCESS`` of the process that owns each partition, as the consumer group says; for people to look at.

        Raises:
            JournalUnavailable: the brokers cannot be asked.
            KafkaRefused: they do not let us look.
        """
        return partition_owners(self._url, self._settings, self._places)

    def close(self) -> None:
        """Send what was submitted, within bounds, and let go of connections and threads."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            asking, self._asking = self._asking, None
        if self._producer is not None:
            self._producer.close()
        self._probes.shutdown(wait=False, cancel_futures=True)
        self._readers.close()
        if asking is not None:
            asking.close()
        self._fence.close()

    def _format(self, partition: str, key: bytes) -> RecordFormat:
        topic = self._places[partition].topic
        ours = topic not in self._settings.foreign_topics
        return RecordFormat(topic, partition, f"kafka:{self._cluster}/{topic}", key if ours else None)

    def _place(self, partition: str) -> TopicPartition:
        place = self._places.get(partition)
        if place is None:
            raise AuditSpanError(
                f"The journal has no partition {partition!r}.", remedy=f"It has {', '.join(self._places)}."
            )
        return place

    def _record(self, partition: str, entry: NewEntry) -> OutgoingRecord:
        place = self._place(partition)
        early = entry.kind in _OWN_KINDS and generation_of(partition) is not None
        if not (partition in self._own or partition == CONTROL_PARTITION or early):
            raise AuditSpanError(
                f"The partition {partition} is no partition of the last generation: others write it, or nobody.",
                remedy=f"Append to {', '.join(self._own)}.",
            )
        if len(entry.body) > self._largest_body:
            raise AuditSpanError(
                f"An entry of {len(entry.body)} bytes is larger than the topic {place.topic} takes.",
                remedy="Raise max.message.bytes of the topic; collectors split what they receive to fit it.",
            )
        return OutgoingRecord(place.topic, place.partition, entry.body, self._formats[partition].headers(entry))

    def _peek(self, partition: str, offset: int) -> list[Entry]:
        """One entry, without a reader's place: for those who look in passing."""
        place = self._place(partition)
        with self._linked() as link:
            cursor = Cursor(link, place, self._formats[partition], offset, fetch_bytes=_PEEK_BYTES, ahead=False)
            if not cursor.fill(0.0) and self._fresh_ends()[place] == offset:
                return []
            if not cursor.fill(self._settings.request_timeout_seconds):
                raise self._silent(place, offset)
            return cursor.take(1, _PEEK_BYTES)

    def _silent(self, place: TopicPartition, offset: int) -> JournalUnavailable:
        return JournalUnavailable(
            f"The Kafka brokers did not give offset {offset} of partition {place.partition} of {place.topic} within "
            f"{self._settings.request_timeout_seconds:g} s.",
            remedy="See that the brokers of journal.url run; raise kafka.request_timeout_seconds if they are slow.",
        )

    def _probe(self) -> None:
        if self._producer is None:
            raise _not_writable()
        failed = self._producer.recent_failure(_FAILURE_KEPT)
        if failed is not None:
            raise failed
        ended = self._fence.refusal()
        if ended is not None:
            raise ended
        places = [self._places[name] for name in self._own]
        self._ask(places, LATEST)
        with self._linked() as link:
            in_sync = link.in_sync()
        self._refuse_grown(in_sync)
        short = [place for place in places if in_sync.get(place, 0) < self._least_in_sync[place.topic]]
        if short:
            raise JournalUnavailable(
                f"{len(short)} of {len(places)} partitions of {self._topic} have too few replicas in sync.",
                remedy="See that all Kafka brokers run and follow; nothing is acknowledged until they do.",
            )

    def _has_successor(self) -> bool:
        with self._linked() as link:
            return link.exists(self._next_topic, [self._places[name] for name in self._own], _LOOK_WITHIN)

    def _refuse_grown(self, there: Iterable[TopicPartition]) -> None:
        """What others write into a partition that was added since the start would not be sealed."""
        wanted, found = (Counter(place.topic for place in places) for places in (self._places.values(), there))
        for topic, count in wanted.items():
            # None: the brokers did not name the topic in this answer.
            if found[topic] not in (0, count):
                raise JournalUnavailable(
                    f"The topic {topic} has {found[topic]} partitions now, and had {count} when this process began.",
                    remedy="Restart every process to take in a topic of others. The number of our own is fixed for "
                    "the life of a log generation, and `auditspan kafka reshard` begins the next one.",
                )

    def _fresh_ends(self) -> dict[TopicPartition, int]:
        ends = self._ask(list(self._places.values()), LATEST)
        with self._guard:
            self._ends, self._ends_at = ends, time.monotonic()
        return ends

    def _ask(self, places: Sequence[TopicPartition], timestamp: int) -> dict[TopicPartition, int]:
        with self._linked() as link:
            return link.offsets(places, timestamp)

    @contextmanager
    def _linked(self) -> Iterator[Link]:
        """The link for single questions; one that failed is made anew for the next question."""
        with self._guard:
            self._refuse_closed()
            link = self._asking
        if link is None:
            link = self._reconnected()
        try:
            yield link
        except (AuditSpanError, kafka_errors.KafkaError) as error:
            with self._guard:
                if self._asking is link and not _is_answer(error):
                    self._asking = None
                    link.close()
            raise unreachable(self._url, self._settings, error) from error

    def _reconnected(self) -> Link:
        made = self._relink()
        with self._guard:
            if self._asking is None and not self._closed:
                self._asking = made
                return made
            current = self._asking
        made.close()
        if current is None:
            raise _not_writable()
        return current

    def _relink(self) -> Link:
        try:
            return self._link(min(self._settings.connect_timeout_seconds, self._settings.request_timeout_seconds))
        except (kafka_errors.KafkaError, OSError) as error:
            raise unreachable(self._url, self._settings, error) from error

    def _new_cursor(self, partition: str, offset: int) -> Cursor:
        return Cursor(
            self._relink(),
            self._places[partition],
            self._formats[partition],
            offset,
            fetch_bytes=self._settings.fetch_bytes,
        )

    def _link(self, connect_seconds: float) -> Link:
        return Link(
            self._options,
            self._topics,
            connect_seconds=connect_seconds,
            request_seconds=self._settings.request_timeout_seconds,
            largest_answer=self._settings.fetch_bytes + self._largest_body,
        )

    def _refuse_closed(self) -> None:
        if self._closed:
            raise _not_writable()


def _not_writable() -> JournalUnavailable:
    return JournalUnavailable("The journal is closed, or open for reading only.", remedy="Start the service again.")


def _refused(reason: JournalUnavailable) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(reason)
    return future


def _in_sync(facts: TopicFacts) -> int:
    return min(facts.replicas, int(facts.settings["min.insync.replicas"]))


def _is_answer(error: BaseException) -> bool:
    """Whether the brokers said this, over a connection that works."""
    return isinstance(error, AuditSpanError) and not isinstance(error, JournalUnavailable)
