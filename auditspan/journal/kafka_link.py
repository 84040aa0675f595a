"""A connection to a Kafka cluster on which single requests are asked: where partitions are, their ends, their records.

Below the consumer of kafka-python and above its network layer: a consumer decides by itself what to skip and where to
go on, and a journal must know of every position.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest
from kafka.protocol.metadata import MetadataRequest

from auditspan.journal.kafka_connection import explained

__all__ = ["EARLIEST", "LATEST", "Link"]

EARLIEST: Final = -2
LATEST: Final = -1

_FETCH_VERSION: Final = 13
"""From it on, topics are named by id: a topic that was made anew under the same name is another one."""
_UNKNOWN: Final = -1
_RETRY_SECONDS: Final = 0.1
_FRAME_ROOM: Final = 1 << 20

_FetchTopic: Final = FetchRequest.FetchTopic
_FetchPartition: Final = _FetchTopic.FetchPartition
_OffsetsTopic: Final = ListOffsetsRequest.ListOffsetsTopic
_OffsetsPartition: Final = _OffsetsTopic.ListOffsetsPartition


class Link:
    """A client with a thread of its own for the network. Safe to call from several threads.

    Args:
        options: of `client_options`.
        topics: the topics that will be asked about; they must exist.
        connect_seconds: time to reach the cluster.
        request_seconds: time for one answer.
        largest_answer: most bytes of one answer.

    Raises:
        kafka.errors.KafkaError: the cluster cannot be reached.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        topics: Sequence[str],
        *,
        connect_seconds: float,
        request_seconds: float,
        largest_answer: int,
    ) -> None:
        self._request_seconds = request_seconds
        self._client = KafkaNetClient(
            **options,
            receive_message_max_bytes=largest_answer + _FRAME_ROOM,
            # It warns of each large answer, as of a task that takes too long.
            slow_task_threshold_secs=0,
        )
        self._manager = self._client._manager
        self._cluster = self._manager.cluster
        # Asking about a topic must never make it: it would get whatever defaults the brokers have.
        self._cluster.config["allow_auto_create_topics"] = False
        self._net = self._client._net
        self._closed = threading.Event()
        self._net.start()
        try:
            self._manager.bootstrap(connect_seconds * 1000)
            self._run(self._manager.wait_for, self._cluster.set_topics(topics), connect_seconds * 1000)
        except BaseException:
            self.close()
            raise
        self._topic_ids = {topic: self._cluster.topic_id(topic) for topic in topics}

    @property
    def cluster_id(self) -> str:
        """The cluster's own name for itself."""
        return str(self._cluster.cluster_id)

    def partitions(self, topic: str) -> int:
        """How many partitions ``topic`` has; 0 when it is not there."""
        return len(self._cluster.partitions_for_topic(topic) or ())

    def in_sync(self) -> dict[TopicPartition, int]:
        """How many replicas of each partition are in sync, by what the brokers say now; 0 for one without a leader."""
        self._run(self._manager.wait_for, self._cluster.request_update(), self._request_seconds * 1000)
        return {
            TopicPartition(topic, number): len(data.isr_nodes) if data.leader_id != _UNKNOWN else 0
            for topic, partitions in list(self._cluster._partitions.items())
            for number, data in list(partitions.items())
        }

    def exists(self, topic: str, leaders_of: Iterable[TopicPartition], within: float) -> bool:
        """Whether ``topic`` exists, as any broker says that leads one of these partitions and answers in time.

        Raises:
            AuditSpanError: no leader answers within ``within`` seconds, or it does not let us know.
        """
        leaders = {self._cluster.leader_for_partition(one) for one in leaders_of} - {None, _UNKNOWN}
        asked = [self._manager.call_soon(partial(self._exists, topic, leader)) for leader in leaders]
        deadline = time.monotonic() + within
        found: list[bool] = []
        failed: kafka_errors.KafkaError = kafka_errors.LeaderNotAvailableError(topic)
        for one in asked:
            try:
                left = max(deadline - time.monotonic(), 0.0)
                found.append(self._run(self._manager.wait_for, one, left * 1000))
            except (kafka_errors.KafkaError, RuntimeError) as error:
                failed = error
        if not found:
            # So that a leader that moved is found the next time.
            self._cluster.request_update()
            raise explained(failed, f"Looking for the topic {topic}") from failed
        return any(found)

    def offsets(self, partitions: Iterable[TopicPartition], timestamp: int) -> dict[TopicPartition, int]:
        """The `EARLIEST` or `LATEST` offset of each partition, as its leader says now.

        Raises:
            AuditSpanError: a leader cannot be asked within the request timeout.
        """
        wanted = list(partitions)
        what = "Asking the Kafka brokers for the ends of the journal"
        found: dict[TopicPartition, int] = self._ask(lambda: self._offsets(wanted, timestamp), what)
        return found

    def fetch(
        self, partition: TopicPartition, offset: int, *, wait_ms: int, max_bytes: int, last_epoch: int = _UNKNOWN
    ) -> Any:
        """Begin to ask for batches from ``offset`` on; what `answer` takes."""
        return self._manager.call_soon(lambda: self._fetch(partition, offset, wait_ms, max_bytes, last_epoch))

    def answer(self, asked: Any, timeout: float) -> Any:
        """The partition's part of the answer to `fetch`; None when it did not come within ``timeout`` seconds.

        Raises:
            kafka.errors.KafkaError: the request failed.
        """
        if not asked.is_done:
            try:
                self._run(self._manager.wait_for, asked, max(timeout, 0.0) * 1000)
            except kafka_errors.KafkaTimeoutError:
                if not asked.is_done:
                    return None
        if asked.failed():
            raise asked.exception
        return asked.value

    def made_anew(self, topic: str) -> bool:
        """Whether ``topic`` is another one by now than when this link was made."""
        return self._cluster.topic_id(topic) not in (None, self._topic_ids[topic])

    def refresh(self) -> None:
        """Learn anew where partitions are, soon."""
        self._cluster.request_update()

    def close(self) -> None:
        """Let go of the connections and the thread."""
        if not self._closed.is_set():
            self._closed.set()
            self._net.stop(1000)
            self._client.close()

    def _run(self, run: Callable[..., Any], *arguments: Any) -> Any:
        return self._net.run(run, *arguments)

    def _ask(self, run: Callable[[], Coroutine[Any, Any, Any]], what: str) -> Any:
        try:
            return self._run(self._manager.wait_for, self._manager.call_soon(run), self._request_seconds * 1000)
        except (kafka_errors.KafkaError, RuntimeError) as error:
            raise explained(error, what) from error

    async def _exists(self, topic: str, broker: int) -> bool:
        request = MetadataRequest(
            topics=[MetadataRequest.MetadataRequestTopic(name=topic)],
            # Asking must never make it.
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=False,
        )
        answer = await self._manager.send(request, node_id=broker)
        for said in answer.topics:
            error = kafka_errors.for_code(said.error_code)
            if error is kafka_errors.UnknownTopicOrPartitionError:
                return False
            if error not in (kafka_errors.NoError, kafka_errors.LeaderNotAvailableError):
                raise error(topic)
        return True

    async def _offsets(self, wanted: Sequence[TopicPartition], timestamp: int) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = {}
        while True:
            try:
                found.update(await self._offsets_once([one for one in wanted if one not in found], timestamp))
            except kafka_errors.RetriableError:
                self._cluster.request_update()
            if len(found) == len(wanted):
                return found
            await self._net.sleep(_RETRY_SECONDS)

    async def _offsets_once(self, wanted: Sequence[TopicPartition], timestamp: int) -> dict[TopicPartition, int]:
        by_leader: dict[int, dict[str, list[Any]]] = {}
        for one in wanted:
            asked = _OffsetsPartition(partition_index=one.partition, current_leader_epoch=-1, timestamp=timestamp)
            by_leader.setdefault(self._leader(one), {}).setdefault(one.topic, []).append(asked)
        sent = [
            self._manager.send(
                ListOffsetsRequest(
                    isolation_level=0,
                    topics=[_OffsetsTopic(name=topic, partitions=parts) for topic, parts in topics.items()],
                    min_version=1,
                ),
                node_id=leader,
            )
            for leader, topics in by_leader.items()
        ]
        found: dict[TopicPartition, int] = {}
        for one in sent:
            answer = await one
            for topic in answer.topics:
                for part in topic.partitions:
                    error = kafka_errors.for_code(part.error_code)
                    if error is kafka_errors.NoError:
                        found[TopicPartition(topic.name, part.partition_index)] = part.offset
                    elif issubclass(error, kafka_errors.RetriableError):
                        self._cluster.request_update()
                    else:
                        raise error(topic.name)
        return found

    async def _fetch(
        self, partition: TopicPartition, offset: int, wait_ms: int, max_bytes: int, last_epoch: int
    ) -> Any:
        leader = self._leader(partition)
        asked = _FetchPartition(
            partition=partition.partition,
            current_leader_epoch=_UNKNOWN,
            fetch_offset=offset,
            last_fetched_epoch=last_epoch,
            log_start_offset=_UNKNOWN,
            partition_max_bytes=max_bytes,
        )
        request = FetchRequest(
            max_wait_ms=wait_ms,
            min_bytes=1,
            max_bytes=max_bytes,
            isolation_level=0,
            session_id=0,
            session_epoch=-1,
            topics=[_FetchTopic(topic_id=self._topic_ids[partition.topic], partitions=[asked])],
            forgotten_topics_data=[],
            rack_id="",
            min_version=_FETCH_VERSION,
            max_version=_FETCH_VERSION,
        )
        answer = await self._manager.send(request, node_id=leader)
        error = kafka_errors.for_code(answer.error_code)
        if error is not kafka_errors.NoError:
            raise error(partition.topic)
        for topic in answer.responses:
            for part in topic.partitions:
                return part
        raise kafka_errors.KafkaProtocolError("an answer without the partition that was asked for")

    def _leader(self, partition: TopicPartition) -> int:
        leader = self._cluster.leader_for_partition(partition)
        if leader is None or leader == _UNKNOWN:
            self._cluster.request_update()
            raise kafka_errors.LeaderNotAvailableError(f"{partition.topic}-{partition.partition}")
        return int(leader)
