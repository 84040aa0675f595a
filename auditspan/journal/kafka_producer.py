"""Appending to Kafka: what is acknowledged is on every replica in sync; all else fails within a bounded time.

The client library batches, retries and keeps order (idempotent producer, ``acks=all``). Around it stands what it has
not: an append of several records that is one thing, a bound in bytes, a bound in time that holds whatever state the
library is in, and a new producer when one has got stuck for good.

A record that failed here may still be written by a request under way: then it is there twice when its sender comes
again, and the processors suppress one of the two.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from auditspan.config import KafkaSettings
from auditspan.journal.contract import JournalUnavailable
from auditspan.journal.kafka_connection import explained

__all__ = ["OutgoingRecord", "Producer"]

_log = logging.getLogger(__name__)

_BLOCK_MS: Final = 250
"""The event loop of a collector waits here: only when a topic has vanished."""
_IN_FLIGHT: Final = 5
_GRACE: Final = 0.5
"""Our own deadline comes after the library's, so that its reason is heard."""
_RENEW_AFTER: Final = 10.0


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """A record and where it goes."""

    topic: str
    partition: int
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass(slots=True, eq=False)
class _Append:
    offsets: list[int]
    missing: int
    size: int
    deadline: float
    future: Future[list[int]] = field(default_factory=Future)


class Producer:
    """Sends records for all partitions of a journal. Safe to call from several threads.

    Args:
        options: of `client_options`.
        settings: bounds and batching.
        largest_record: most bytes of a record that the topic takes.

    Raises:
        kafka.errors.KafkaError: the cluster cannot be reached.
    """

    def __init__(self, options: Mapping[str, Any], settings: KafkaSettings, largest_record: int) -> None:
        self._options = {
            **options,
            "acks": "all",
            "enable_idempotence": True,
            "max_in_flight_requests_per_connection": _IN_FLIGHT,
            "compression_type": None if settings.compression == "none" else settings.compression,
            "linger_ms": settings.linger_ms,
            # A batch is refused by its compressed size, which is hardly ever more than what went into it.
            "batch_size": min(settings.batch_bytes, largest_record),
            "max_request_size": largest_record + settings.batch_bytes,
            "delivery_timeout_ms": int(settings.delivery_timeout_seconds * 1000),
            "max_block_ms": _BLOCK_MS,
            "bootstrap_timeout_ms": int(settings.connect_timeout_seconds * 1000),
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
        }
        self._queue_bytes = settings.queue_bytes
        self._timeout = settings.delivery_timeout_seconds + _GRACE
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._waiting: deque[_Append] = deque()
        self._held = 0
        self._failing_since: float | None = None
        self._failed_at = float("-inf")
        self._reason: JournalUnavailable | None = None
        self._renewed = time.monotonic()
        self._renewing: threading.Thread | None = None
        self._closed = False
        self._producer = KafkaProducer(**self._options)
        self._watch = threading.Thread(target=self._watch_deadlines, name="auditspan-kafka-deadlines", daemon=True)
        self._watch.start()

    def send(self, records: Sequence[OutgoingRecord]) -> Future[list[int]]:
        """Send all of ``records``; the future gives their offsets when every one is acknowledged.

        It fails with `JournalUnavailable` when one is not, when too much is under way, or at once while the brokers are
        known to be away and another append is trying them.
        """
        size = sum(len(record.value) for record in records)
        append = _Append([-1] * len(records), len(records), size, time.monotonic() + self._timeout)
        append.future.set_running_or_notify_cancel()
        with self._changed:
            refusal = self._refusal(size)
            if refusal is None:
                self._held += size
                self._waiting.append(append)
                if len(self._waiting) == 1:
                    self._changed.notify_all()
        if refusal is not None:
            append.future.set_exception(refusal)
        elif not records:
            self._settle(append, None)
        else:
            self._hand_over(append, records)
        return append.future

    def recent_failure(self, seconds: float) -> JournalUnavailable | None:
        """Why the last append failed, if that was within ``seconds`` and none has succeeded since."""
        with self._changed:
            recent = self._failing_since is not None and time.monotonic() - self._failed_at < seconds
            return self._reason if recent else None

    def close(self) -> None:
        """Send what waits, within bounds, and end."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._watch.join()
        with self._sending:
            producer = self._producer
        _end(producer, self._timeout)
        self._expire(float("inf"))

    def _refusal(self, size: int) -> JournalUnavailable | None:
        if self._closed:
            return JournalUnavailable("The journal is closed.", remedy="Start the service again.")
        if self._failing_since is not None and self._waiting:
            return self._reason
        if self._held and self._held + size > self._queue_bytes:
            return JournalUnavailable(
                f"{self._held} bytes are under way to the Kafka brokers.",
                remedy="Send again; if it stays so, the brokers are too slow for this load: raise kafka.queue_bytes.",
            )
        return None

    def _hand_over(self, append: _Append, records: Sequence[OutgoingRecord]) -> None:
        handed = 0
        try:
            # Records of one append follow each other in a partition, whoever else appends.
            with self._sending:
                for index, record in enumerate(records):
                    sent = self._producer.send(
                        record.topic, value=record.value, headers=record.headers, partition=record.partition
                    )
                    handed += 1
                    sent.add_callback(self._acknowledged, append, index)
                    sent.add_errback(self._failed, append)
        except (kafka_errors.KafkaError, ValueError) as error:
            for _ in records[handed:]:
                self._failed(append, error)

    def _acknowledged(self, append: _Append, index: int, metadata: Any) -> None:
        append.offsets[index] = metadata.offset
        self._settle(append, None)

    def _failed(self, append: _Append, error: BaseException) -> None:
        self._settle(append, error)

    def _settle(self, append: _Append, error: BaseException | None) -> None:
        """Count one record of ``append`` as done, and resolve its future when it is the first to fail or the last."""
        failure: BaseException | None = None
        with self._changed:
            append.missing -= 1
            if append.missing <= 0:
                self._held -= append.size
                append.size = 0
            if error is not None:
                failure = self._note_failure(error)
            elif append.missing <= 0 and not append.future.done():
                self._failing_since, self._reason = None, None
            resolved = append.future.done() or (failure is None and append.missing > 0)
            if not resolved and append in self._waiting:
                self._waiting.remove(append)
        if not resolved:
            _resolve(append, failure)

    def _note_failure(self, error: BaseException) -> JournalUnavailable:
        found = explained(error, "Appending to the Kafka topic")
        # Whatever the reason, the sender has to come again: nothing of it is durable.
        failure = (
            found if isinstance(found, JournalUnavailable) else JournalUnavailable(found.message, remedy=found.remedy)
        )
        self._failed_at = time.monotonic()
        self._failing_since = self._failing_since or self._failed_at
        self._reason = failure
        return failure

    def _watch_deadlines(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                if self._closed:
                    return
                until = self._waiting[0].deadline - now if self._waiting else None
                if until is None or until > 0:
                    self._changed.wait(until)
                renew = self._failing_since is not None and now - max(self._failing_since, self._renewed) > _RENEW_AFTER
            self._expire(time.monotonic())
            if renew and (self._renewing is None or not self._renewing.is_alive()):
                # Of its own: it waits for the brokers, and deadlines do not.
                self._renewing = threading.Thread(target=self._renew, name="auditspan-kafka-renewal", daemon=True)
                self._renewing.start()

    def _expire(self, now: float) -> None:
        expired: list[_Append] = []
        with self._changed:
            while self._waiting and self._waiting[0].deadline <= now:
                expired.append(self._waiting.popleft())
            if expired:
                reason = self._note_failure(
                    JournalUnavailable(
                        f"The Kafka brokers did not acknowledge within {self._timeout:g} s.",
                        remedy="See that the brokers of journal.url run and that enough replicas are in sync.",
                    )
                )
        for append in expired:
            _resolve(append, reason)

    def _renew(self) -> None:
        """Replace a producer that has only failed for a while: some states of it have no way out."""
        self._renewed = time.monotonic()
        try:
            fresh = KafkaProducer(**self._options)
        except kafka_errors.KafkaError as error:
            _log.warning("The Kafka brokers are still away: %s", error)
            return
        _log.warning("Appending to Kafka has failed for a while: a new producer takes over.")
        with self._sending:
            if not self._closed:
                fresh, self._producer = self._producer, fresh
        _end(fresh, 0.0)


def _end(producer: KafkaProducer, patience: float) -> None:
    try:
        producer.close(timeout=patience)
    except kafka_errors.KafkaError as error:
        # The library leaves its thread behind then, sending for as long as the process lives.
        _log.warning("A Kafka producer is closed with records under way: %s", error)
        producer._sender.force_close()


def _resolve(append: _Append, failure: BaseException | None) -> None:
    # Two threads may find the same append done: the first counts.
    try:
        if failure is None:
            append.future.set_result(append.offsets)
        else:
            append.future.set_exception(failure)
    except InvalidStateError:
        _log.debug("an append was resolved twice")
