"""Which partitions a processor owns: membership in a Kafka consumer group, and nothing else of a consumer.

Nothing is read through the group: positions come from the store. Rebalancing is cooperative (KIP-429): a partition that
does not move is never interrupted, and one that does moves when its owner has let go of it, or has taken too long. That
an owner which was only paused still writes is what the store's conditional insert is for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener

from auditspan.config import KafkaSettings
from auditspan.journal.kafka_assignor import HeldPartitionsAssignor
from auditspan.journal.kafka_connection import explained, unreachable

__all__ = ["KafkaAssignment"]

_log = logging.getLogger(__name__)

_ROUND_MS: Final = 200
_PAUSE: Final = 0.5
_COMMIT_SECONDS: Final = 1.0
_HEARTBEAT_MS: Final = 500
"""By which a member comes to know of a rebalance, of which a move takes two."""
_CLOSE_MS: Final = 3000
_LOOK: Final = 0.02


class KafkaAssignment:
    """`auditspan.journal.Assignment` of a Kafka consumer group. See `KafkaJournal.assignment`."""

    def __init__(
        self, url: str, options: Mapping[str, Any], settings: KafkaSettings, places: Mapping[str, TopicPartition]
    ) -> None:
        self._names = {place: name for name, place in places.items()}
        self._places = dict(places)
        self._session = settings.session_timeout_seconds
        self._changed = threading.Condition()
        self._owned: frozenset[str] = frozenset()
        self._given: frozenset[str] | None = None
        self._releasing: set[str] = set()
        self._confirmed: dict[str, int] = {}
        self._asked_at = self._alive_at = time.monotonic()
        self._refused: BaseException | None = None
        self._closed = False
        assignor = HeldPartitionsAssignor()
        try:
            self._consumer = KafkaConsumer(
                **options,
                group_id=settings.group,
                partition_assignment_strategy=(assignor,),
                enable_auto_commit=False,
                # Nothing is read, so it does not matter where; it must only not be an error.
                auto_offset_reset="latest",
                session_timeout_ms=int(self._session * 1000),
                heartbeat_interval_ms=_HEARTBEAT_MS,
                max_poll_interval_ms=int(self._session * 1000 * 2),
                allow_auto_create_topics=False,
                bootstrap_timeout_ms=int(settings.connect_timeout_seconds * 1000),
                metrics_enabled=False,
            )
        except (kafka_errors.KafkaError, OSError) as error:
            raise unreachable(url, settings, error) from error
        assignor.holds = self._consumer._subscription.assigned_partitions
        self._join()
        self._thread = threading.Thread(target=self._keep, name="auditspan-kafka-group", daemon=True)
        self._thread.start()

    def poll(self, timeout: float) -> frozenset[str]:
        """The partitions owned now; returns early when they have changed since the last call. Call it often.

        A member that was held up for longer than the session timeout owns nothing until it has joined again.

        Raises:
            KafkaRefused: an ACL denies the group.
            BaseException: whatever ended the membership; there is no other that it comes back with.
        """
        with self._changed:
            self._asked_at = time.monotonic()
            self._changed.wait_for(
                lambda: self._closed or self._refused is not None or self._current() != self._given, max(timeout, 0.0)
            )
            if self._refused is not None:
                raise self._refused
            self._given = self._current()
            return self._given

    def released(self, partition: str) -> None:
        """The caller has stopped processing ``partition``, which `poll` no longer gave: it may go to another."""
        with self._changed:
            self._releasing.discard(partition)
            self._changed.notify_all()

    def confirm(self, partition: str, offset: int) -> None:
        """Everything below ``offset`` is in the store; committed within a second or so, so that lag tools work."""
        with self._changed:
            self._confirmed[partition] = offset

    def close(self) -> None:
        """Commit what was confirmed, and leave the group, so that others take over at once."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._releasing.clear()
            self._changed.notify_all()
        self._thread.join()
        with self._changed:
            self._owned = frozenset()
        self._consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)

    def _join(self) -> None:
        topics = sorted({place.topic for place in self._names})
        self._consumer.subscribe(topics, listener=_Listener(self, self._consumer))

    def _current(self) -> frozenset[str]:
        if self._closed or time.monotonic() - self._alive_at > self._session:
            return frozenset()
        return self._owned

    def _keep(self) -> None:
        try:
            self._follow()
        except BaseException as error:  # unseen, it would be a member for ever that owns nothing and looks healthy
            with self._changed:
                self._refused = error
                self._changed.notify_all()

    def _follow(self) -> None:
        """Keep the membership alive for as long as `poll` is called: what is stuck must not stay an owner."""
        committed_at = time.monotonic()
        member = True
        while not self._closed:
            asked = time.monotonic() - self._asked_at <= self._session
            try:
                if asked and not member:
                    self._join()
                elif member and not asked:
                    _log.warning("The partitions go to others: nothing asked for them within %g s.", self._session)
                    self._given_up(frozenset(self._places), orderly=False)
                    self._consumer.unsubscribe()
                member = asked
                if member:
                    self._consumer.poll(_ROUND_MS)
                    self._finish_joining()
                else:
                    with self._changed:
                        self._changed.wait(_PAUSE)
            except kafka_errors.AuthorizationError as error:
                raise explained(error, "Joining the consumer group") from error
            except kafka_errors.KafkaError as error:
                _log.warning("The consumer group cannot be reached: %s", error)
                time.sleep(_PAUSE)
                continue
            self._alive_at = time.monotonic()
            if member and self._alive_at - committed_at >= _COMMIT_SECONDS:
                committed_at = self._alive_at
                self._commit(wait=False)
        self._commit(wait=True)

    def _finish_joining(self) -> None:
        """Let the next round of polling take up a join that this one had no time to finish.

        kafka-python 3.0 forgets one that new metadata had caused: it would neither own anything nor send heartbeats.
        """
        coordinator = self._consumer._coordinator
        if coordinator.rejoining:
            coordinator.request_rejoin()

    def _commit(self, *, wait: bool) -> None:
        with self._changed:
            confirmed, self._confirmed = self._confirmed, {}
        offsets = {
            self._places[name]: OffsetAndMetadata(offset, "", -1)
            for name, offset in confirmed.items()
            if name in self._owned
        }
        if not offsets:
            return
        try:
            if wait:
                self._consumer.commit(offsets, timeout_ms=_CLOSE_MS)
            else:
                self._consumer.commit_async(offsets)
        except kafka_errors.KafkaError as error:
            _log.info("Offsets are not committed, which only lag tools notice: %s", error)

    def _given_up(self, names: frozenset[str], *, orderly: bool) -> None:
        with self._changed:
            self._owned -= names
            if orderly and not self._closed:
                self._releasing |= names & (self._given or frozenset())
            self._changed.notify_all()

    def _gained(self, names: frozenset[str]) -> None:
        with self._changed:
            self._owned |= names
            self._changed.notify_all()

    def _all_released(self, names: frozenset[str]) -> bool:
        with self._changed:
            return not self._releasing & names

    def _forget(self, names: frozenset[str]) -> None:
        with self._changed:
            self._releasing -= names


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Runs on the client's network thread, which goes on with heartbeats while this waits."""

    def __init__(self, assignment: KafkaAssignment, consumer: KafkaConsumer) -> None:
        self._assignment = assignment
        self._consumer = consumer

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._consumer.pause(*assigned)
        self._assignment._gained(self._names(assigned))

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        names = self._names(revoked)
        self._assignment._given_up(names, orderly=True)
        deadline = time.monotonic() + self._assignment._session
        while not self._assignment._all_released(names):
            if time.monotonic() > deadline:
                _log.warning("%s go to another processor before this one has let go.", ", ".join(sorted(names)))
                self._assignment._forget(names)
                return
            # Heartbeats go on meanwhile: what stays is still owned.
            self._assignment._alive_at = time.monotonic()
            await self._consumer._net.sleep(_LOOK)

    async def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        self._assignment._given_up(self._names(lost), orderly=False)

    def _names(self, partitions: set[TopicPartition]) -> frozenset[str]:
        known = self._assignment._names
        return frozenset(known[one] for one in partitions if one in known)
