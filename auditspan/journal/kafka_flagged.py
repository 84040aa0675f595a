"""The topic of flagged events: what a SIEM reads. It is no part of the journal, and nothing rests on it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaProducer
from kafka import errors as kafka_errors

from auditspan.config import KafkaSettings
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import JournalUnavailable
from auditspan.journal.kafka_connection import client_options, explained, unreachable

__all__ = ["KafkaFlaggedPublisher"]

_BLOCK_MS: Final = 2000
_READY_MS: Final = 10_000
_CLOSE_SECONDS: Final = 5.0
_GRACE: Final = 1.0


class KafkaFlaggedPublisher:
    """`auditspan.processors.flagged.FlaggedPublisher` on a Kafka topic, which is made when it is missing.

    Records of one key stay in order; ``acks=all``.

    Args:
        url: ``journal.url``.
        settings: how the brokers are reached, and the replication factor of a topic that is made.
        topic: its name.

    Raises:
        JournalUnavailable: the cluster cannot be reached.
        KafkaRefused: it does not let us make or write the topic.
    """

    def __init__(self, url: str, settings: KafkaSettings, topic: str) -> None:
        self._topic = topic
        self._timeout = settings.delivery_timeout_seconds + _GRACE
        options = client_options(url, settings)
        connect_ms = int(settings.connect_timeout_seconds * 1000)
        try:
            _make_topic(options, settings, topic, connect_ms)
            self._producer = KafkaProducer(
                **options,
                acks="all",
                enable_idempotence=True,
                compression_type=None if settings.compression == "none" else settings.compression,
                linger_ms=settings.linger_ms,
                delivery_timeout_ms=int(settings.delivery_timeout_seconds * 1000),
                max_block_ms=_BLOCK_MS,
                bootstrap_timeout_ms=connect_ms,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except (kafka_errors.KafkaError, OSError) as error:
            raise unreachable(url, settings, error) from error
        self._guard = threading.Lock()
        self._closed = False

    def publish(self, documents: Sequence[tuple[bytes, bytes]]) -> None:
        """Publish ``(key, document)`` pairs in order; on all replicas in sync when it returns.

        Raises:
            JournalUnavailable: it is not known which got through; publishing all of them again is right.
        """
        try:
            sent = [self._producer.send(self._topic, key=key, value=value) for key, value in documents]
            for one in sent:
                one.get(timeout=self._timeout)
        except (kafka_errors.KafkaError, ValueError) as error:
            found = explained(error, f"Publishing to the Kafka topic {self._topic}")
            raise JournalUnavailable(found.message, remedy=found.remedy) from error

    def close(self) -> None:
        """Let go of the connection. More than once is harmless."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        try:
            self._producer.close(timeout=_CLOSE_SECONDS)
        except kafka_errors.KafkaError:
            self._producer._sender.force_close()


def _make_topic(options: dict[str, Any], settings: KafkaSettings, topic: str, connect_ms: int) -> None:
    with closing(KafkaAdminClient(**options, bootstrap_timeout_ms=connect_ms)) as administrator:
        try:
            if topic in administrator.list_topics():
                return
            administrator.create_topics(
                {topic: {"num_partitions": 1, "replication_factor": settings.replication_factor}}
            )
            administrator.wait_for_topics([topic], timeout_ms=_READY_MS)
        except kafka_errors.TopicAlreadyExistsError:
            return
        except kafka_errors.KafkaError as error:
            found = explained(error, f"Making the Kafka topic {topic} of flagged events")
            raise AuditSpanError(
                found.message,
                remedy=f"{found.remedy} Make the topic yourself, or set processor.flagged_topic to nothing.",
            ) from error
