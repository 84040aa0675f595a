"""Kafka → store: topics filled beforehand, sealed by processes of their own into a store over HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from auditspan.processors.control import open_logs

from auditspan.store.opening import open_store
from benchmarks.kafka.deployment import Cluster, Helper, Topic, helpers
from benchmarks.report import Row
from benchmarks.sealing import DEPLOYMENT, Measured
from benchmarks.workload import SPANS_A_MESSAGE

RATE_TARGET = 75_000
RATIO_TARGET = 1.7
WARM_UP = 25_000
"""Spans of a topic that are sealed before the clock starts."""
_CORES_FOR_RATIO = 4
"""Two for the processors, two for broker and store."""
_MILLION = 10**6

Say = Callable[[str], None]


@dataclass(frozen=True)
class Sealed:
    """What sealing a topic cost. ``slices`` follow one another; of several processes each has one.

    Args:
        slices: what the sealing processes say.
        wall_seconds: from the start of all to the end of the last.
        store_microseconds: CPU of the store's process per span.
        store_memory: its largest resident size, in bytes.
    """

    slices: Sequence[Measured]
    wall_seconds: float
    store_microseconds: float
    store_memory: int

    @property
    def spans(self) -> int:
        """How many were sealed."""
        return sum(each.spans for each in self.slices)

    @property
    def microseconds(self) -> float:
        """CPU of the sealing processes per span."""
        return sum(each.cpu_seconds for each in self.slices) / self.spans * _MILLION

    @property
    def peak_memory(self) -> int:
        """Largest resident size of a sealing process, in bytes."""
        return max(each.peak_memory for each in self.slices)


def filled(
    cluster: Cluster,
    name: str,
    spans: int,
    *,
    partitions: int = 1,
    spans_a_message: int = SPANS_A_MESSAGE,
    compression: str = "lz4",
) -> tuple[Topic, float]:
    """A topic of ``spans`` and as many more as warm up, and the microseconds of CPU that each took its producer."""
    topic = cluster.topic(name, partitions, compression=compression)
    with helpers(partial(Helper, "topic_io", "fill", topic.directory.root, spans + WARM_UP, spans_a_message)) as [
        producer
    ]:
        producer.go()
        return topic, float(producer.result()["microseconds_a_span"])


def read(topic: Topic, spans: int) -> float:
    """Microseconds of CPU per span of a process that reads the whole topic of `filled` and does nothing else."""
    with helpers(partial(Helper, "topic_io", "read", topic.directory.root, spans + WARM_UP)) as [reader]:
        reader.go()
        return float(reader.result()["microseconds_a_span"])


def seal(cluster: Cluster, topic: Topic, shares: Sequence[Sequence[int]], marks: Sequence[int] = ()) -> Sealed:
    """Seal ``topic`` into a new store, its partitions shared out to one process for each of ``shares``."""
    with cluster.store() as store:
        url, password = store.endpoints["sql"], store.directory.write_token
        _open_logs(topic, url, str(password))
        wanted = [
            partial(
                Helper,
                *("seal", topic.directory.root, url, password),
                ",".join(f"events-{number}" for number in share),
                *(WARM_UP // topic.partitions, *marks),
            )
            for share in shares
        ]
        with helpers(*wanted) as processors:
            before = store.cpu_seconds()
            for processor in processors:
                processor.go()
            found = [processor.result() for processor in processors]
            spent = store.cpu_seconds() - before
        slices = [Measured(**each) for one in found for each in one["slices"]]
        wall = max(sum(each["wall_seconds"] for each in one["slices"]) for one in found)
        return Sealed(slices, wall, spent / sum(each.spans for each in slices) * _MILLION, store.peak_memory())


def backlog(cluster: Cluster, spans: int, times: int, say: Say) -> Sealed:
    """One log of ``times`` × ``spans``: the first slice is the figure, the others say how it goes on."""
    topic, _ = filled(cluster, "backlog", spans * times)
    done = seal(cluster, topic, [[0]], [spans] * (times - 1))
    say(f"one partition: {done.slices[0].rate:,.0f} spans a CPU-second")
    return done


def two_processors(cluster: Cluster, spans: int, say: Say) -> tuple[Sealed, Sealed]:
    """The same topic of four partitions through one process, then through two."""
    topic, _ = filled(cluster, "shared", spans, partitions=4)
    one, two = seal(cluster, topic, [[0, 1, 2, 3]]), seal(cluster, topic, [[0, 1], [2, 3]])
    say(f"four partitions: {one.wall_seconds:.1f} s by one process, {two.wall_seconds:.1f} s by two")
    return one, two


def rows(plain: Sealed, one: Sealed, two: Sealed, pace: float) -> Iterator[Row]:
    """The figures; ``pace``: how fast the machine was."""
    first = plain.slices[0]
    name = f"Kafka → store, 1 kB, {first.spans / _MILLION:.2g}M spans"
    yield Row(f"{name}: spans per CPU-second of the processor", first.rate, RATE_TARGET, pace=pace)
    yield Row(f"{name}: spans a second", first.spans / first.wall_seconds)
    yield Row(f"{name}: peak memory", first.peak_memory / _MILLION, unit=" MB")
    yield Row("Kafka → store: CPU of the store's process per span", plain.store_microseconds, unit=" µs")
    cores = os.cpu_count() or 1
    yield Row(
        "Kafka → store: two processors by one, wall-clock",
        one.wall_seconds / two.wall_seconds,
        RATIO_TARGET,
        note=f"reported: {cores} cores, {_CORES_FOR_RATIO} needed" if cores < _CORES_FOR_RATIO else "",
    )


def _open_logs(topic: Topic, url: str, password: str) -> None:
    journal = topic.open()
    store = open_store(topic.directory, topic.settings(store={"url": url, "password_file": password}))
    open_logs(journal, store, DEPLOYMENT, actor="benchmark")
    journal.close()
    store.close()
