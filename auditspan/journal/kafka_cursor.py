"""Reading one partition of a Kafka topic from an offset on, position by position."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from kafka import TopicPartition
from kafka import errors as kafka_errors

from auditspan.journal.contract import Entry, JournalUnavailable, PositionLost
from auditspan.journal.kafka_batches import Batch, CorruptBatch, batches
from auditspan.journal.kafka_connection import explained
from auditspan.journal.kafka_link import EARLIEST, LATEST, Link
from auditspan.journal.kafka_record import RecordFormat

__all__ = ["LARGEST_UNPACKED", "Cursor"]

LARGEST_UNPACKED: Final = 64 << 20
"""Most bytes that a compressed batch may unpack to: what a collector accepts in one request."""
_WAIT_MS: Final = 500
_PAUSE: Final = 0.05


class Cursor:
    """The place of one reader. Called by one thread at a time.

    Args:
        link: where to ask.
        partition: what to read.
        record_format: makes entries of records.
        offset: where to begin.
        fetch_bytes: compressed bytes to ask for at once; a larger batch comes whole.
        ahead: ask for what follows while what came is used.
    """

    def __init__(
        self,
        link: Link,
        partition: TopicPartition,
        record_format: RecordFormat,
        offset: int,
        *,
        fetch_bytes: int,
        ahead: bool = True,
    ) -> None:
        self.link = link
        self._partition = partition
        self._format = record_format
        self._fetch_bytes = fetch_bytes
        self._ahead = ahead
        self._asked: Any = None
        self.seek(offset)

    def seek(self, offset: int) -> None:
        """Go on at ``offset``, forgetting what was fetched."""
        self.offset = offset
        """Of the next entry that `take` gives."""
        self._parsed_to = offset
        self._fetch_at = offset
        self._epoch = -1
        self._entries: deque[Entry] = deque()
        self._batches: Iterator[Batch] = iter(())
        self._lost: PositionLost | None = None
        self._asked = None

    def fill(self, timeout: float) -> bool:
        """Have an entry to give, or something to raise, within ``timeout`` seconds; whether that is so.

        Raises:
            JournalUnavailable: the brokers cannot be asked, or gave altered bytes.
            KafkaRefused: they do not let us read.
        """
        deadline = time.monotonic() + timeout
        while not self._entries and self._lost is None:
            batch = next(self._batches, None)
            if batch is not None:
                self._unpack(batch)
            elif not self._receive(deadline):
                return False
        return True

    def take(self, max_entries: int, max_bytes: int) -> list[Entry]:
        """What is here by now, within both bounds but at least one entry if there is any.

        Raises:
            PositionLost: the next entry is gone.
        """
        found: list[Entry] = []
        size = 0
        while len(found) < max(1, max_entries):
            if not self._entries and not self.fill(0.0):
                break
            if not self._entries:
                if found or self._lost is None:
                    break
                raise self._lost
            size += len(self._entries[0].body)
            if found and size > max_bytes:
                break
            found.append(self._entries.popleft())
        if found:
            self.offset = found[-1].offset + 1
        return found

    def _unpack(self, batch: Batch) -> None:
        """Entries of a batch; a position that is missing in it or before it ends the reading."""
        if batch.next_offset <= self._parsed_to:
            return
        for record in batch.records(LARGEST_UNPACKED):
            if record.offset < self._parsed_to:
                continue
            if record.offset > self._parsed_to:
                self._miss(record.offset)
                return
            if record.broken:
                self._entries.append(self._format.unvouched(record.offset, record.timestamp, record.value, broken=True))
            else:
                self._entries.append(self._format.entry(record.offset, record.timestamp, record.headers, record.value))
            self._parsed_to += 1
        if self._parsed_to < batch.next_offset:
            self._miss(batch.next_offset)

    def _miss(self, next_offset: int) -> None:
        self._lost = PositionLost(
            f"Offsets {self._parsed_to} to {next_offset - 1} of {self._name} are gone, and later ones are there.",
            remedy="The topic was compacted or cut: set its cleanup.policy to delete; the gap stays in the log.",
            resumes_at=next_offset,
        )

    def _receive(self, deadline: float) -> bool:
        """Batches from the brokers; false when none came in time."""
        try:
            if self._asked is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._ask(min(int(left * 1000), _WAIT_MS))
            answer = self.link.answer(self._asked, deadline - time.monotonic())
            if answer is None:
                return False
            self._asked = None
            return self._understand(answer) or time.monotonic() < deadline
        except kafka_errors.RetriableError:
            # The leader moved, or its connection broke: both are looked up anew.
            self._asked = None
            return self._try_again(deadline)
        except (kafka_errors.KafkaError, RuntimeError) as error:
            self._asked = None
            raise explained(error, f"Reading {self._name}") from error
        except CorruptBatch as error:
            raise JournalUnavailable(
                f"Reading {self._name} at offset {self._fetch_at} failed: {error}.",
                remedy="Compare the replicas of the partition: one of the brokers' disks, or the network, alters data.",
            ) from error

    def _ask(self, wait_ms: int) -> None:
        self._asked = self.link.fetch(
            self._partition,
            self._fetch_at,
            wait_ms=wait_ms,
            max_bytes=self._fetch_bytes,
            last_epoch=self._epoch,
        )

    def _understand(self, answer: Any) -> bool:
        """Take batches out of ``answer``; whether there were any, or the end of what can be read."""
        error = kafka_errors.for_code(answer.error_code)
        if error is kafka_errors.OffsetOutOfRangeError:
            return self._out_of_range()
        if error in (kafka_errors.UnknownTopicIdError, kafka_errors.UnknownTopicOrPartitionError):
            if self.link.made_anew(self._partition.topic):
                return self._cut_off("was made anew")
            raise kafka_errors.UnknownTopicOrPartitionError(self._partition.topic)
        if error is not kafka_errors.NoError:
            raise error(self._partition.topic)
        diverging = answer.diverging_epoch
        if diverging is not None and diverging.end_offset is not None and diverging.end_offset >= 0:
            return self._cut_off(f"was cut off at offset {diverging.end_offset}")
        came = list(batches(answer.records or b""))
        if not came:
            return False
        self._batches = iter(came)
        self._fetch_at = came[-1].next_offset
        self._epoch = came[-1].leader_epoch
        # Not at the end: there the request would wait at the broker, and everything after it on this connection too.
        if self._ahead and self._fetch_at < answer.high_watermark:
            self._ask(0)
        return True

    def _out_of_range(self) -> bool:
        earliest = self.link.offsets([self._partition], EARLIEST)[self._partition]
        latest = self.link.offsets([self._partition], LATEST)[self._partition]
        if self._fetch_at < earliest:
            self._lost = PositionLost(
                f"Offsets {self._fetch_at} to {earliest - 1} of {self._name} are gone: Kafka's retention took them.",
                remedy="Raise retention.ms and retention.bytes of the topic; the gap stays in the log.",
                resumes_at=earliest,
            )
            return True
        if self._fetch_at > latest:
            return self._cut_off(f"ends at offset {latest}")
        raise kafka_errors.LeaderNotAvailableError(self._name)

    def _cut_off(self, how: str) -> bool:
        self._lost = PositionLost(
            f"{self._name} {how}, and offset {self._fetch_at} was there before.",
            remedy="Acknowledged events may be lost: find out who made the topic anew or elected a leader that was not"
            " in sync, and set unclean.leader.election.enable to false.",
        )
        return True

    def _try_again(self, deadline: float) -> bool:
        self.link.refresh()
        pause = min(_PAUSE, deadline - time.monotonic())
        if pause <= 0:
            return False
        time.sleep(pause)
        return True

    @property
    def _name(self) -> str:
        return f"partition {self._partition.partition} of the topic {self._partition.topic}"
