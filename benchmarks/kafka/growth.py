"""How the cost of sealing from Kafka grows: with partitions, size of a message, backlog, compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from benchmarks.kafka.deployment import Cluster
from benchmarks.kafka.to_store import WARM_UP, Say, Sealed, filled, read, seal
from benchmarks.report import aligned

__all__ = ["Growth", "Table", "measure"]

_MESSAGES = (1, 10, 100, 1000)
_CODECS = ("none", "lz4", "zstd")
_MILLION = 10**6

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Table:
    """A table of the page: what it is about, its head and its lines."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]

    def markdown(self) -> list[str]:
        """As it stands on the page."""
        return ["", f"**{self.title}**", "", *aligned(self.head, self.lines)]


@dataclass(frozen=True)
class Growth:
    """Tables, and what the plot shows: for each of its parts the points (x, microseconds per span) by curve."""

    tables: Sequence[Table]
    plot: Mapping[str, Mapping[str, Points]]


@dataclass(frozen=True)
class _Cost:
    """Microseconds of CPU per span of the processor and of the store; memory in bytes."""

    spans: int
    processor: float
    store: float
    rate: float
    memory: int

    @classmethod
    def of(cls, sealed: Sealed) -> _Cost:
        """What sealing cost."""
        rate = sealed.spans / sealed.wall_seconds
        return cls(sealed.spans, sealed.microseconds, sealed.store_microseconds, rate, sealed.peak_memory)

    def cells(self) -> list[str]:
        """As in the columns `_HEAD`."""
        return [
            f"{self.spans:,}",
            f"{self.processor:.2f}",
            f"{self.store:.2f}",
            f"{self.rate:,.0f}",
            f"{self.memory / _MILLION:,.0f} MB",
        ]


_HEAD = ("spans", "processor, µs a span", "store, µs a span", "spans a second", "processor's memory")


def measure(cluster: Cluster, spans: int, backlog: Sealed, four: Sealed, say: Say) -> Growth:
    """All of it; ``backlog`` is one log in slices, ``four`` are four logs in one process."""
    few = spans // 10
    say("how cost grows: partitions")
    first = backlog.slices[0]
    one = _Cost(
        first.spans,
        first.cpu_seconds / first.spans * _MILLION,
        backlog.store_microseconds,
        first.spans / first.wall_seconds,
        first.peak_memory,
    )
    partitions = {1: one, 4: _Cost.of(four), 16: _partitions(cluster, 16, spans // 2)}
    say("how cost grows: spans a message")
    messages = {size: _message(cluster, size, few) for size in _MESSAGES}
    say("how cost grows: compression")
    codecs = {codec: _codec(cluster, codec, few) for codec in _CODECS}
    tables = [
        _stages(backlog),
        Table(
            "By partitions of one process",
            ("partitions", *_HEAD),
            [[str(n), *c.cells()] for n, c in partitions.items()],
        ),
        Table(
            "By spans a message, one partition",
            ("spans a message", "producer, µs a span", *_HEAD),
            [[str(size), f"{produced:.2f}", *cost.cells()] for size, (cost, produced) in messages.items()],
        ),
        _backlog(backlog),
        Table(
            "By compression, 100 spans a message",
            ("compression", "bytes a span on the topic", "producer, µs a span", "reader, µs a span"),
            [[codec, *(f"{each:.2f}" for each in found)] for codec, found in codecs.items()],
        ),
    ]
    return Growth(
        tables,
        {
            "partitions": _curves(partitions),
            "spans a message": _curves({size: cost for size, (cost, _) in messages.items()}),
            "millions of spans sealed before": {
                "processor": [
                    (before / _MILLION, each.cpu_seconds / each.spans * _MILLION)
                    for before, each in zip([0, *_ends(backlog)], backlog.slices, strict=False)
                ]
            },
        },
    )


def _partitions(cluster: Cluster, count: int, spans: int) -> _Cost:
    topic, _ = filled(cluster, f"partitions-{count}", spans, partitions=count)
    return _Cost.of(seal(cluster, topic, [list(range(count))]))


def _message(cluster: Cluster, size: int, spans: int) -> tuple[_Cost, float]:
    """What sealing cost, and the microseconds of CPU that a span took its producer."""
    topic, produced = filled(cluster, f"messages-{size}", spans, spans_a_message=size)
    return _Cost.of(seal(cluster, topic, [[0]])), produced


def _codec(cluster: Cluster, codec: str, spans: int) -> tuple[float, float, float]:
    """Bytes of a span on the topic, and the microseconds of CPU to produce and to read it."""
    topic, produced = filled(cluster, f"codec-{codec}", spans, compression=codec)
    return topic.stored_bytes() / (spans + WARM_UP), produced, read(topic, spans)


def _stages(backlog: Sealed) -> Table:
    first = backlog.slices[0]
    lines = [[stage, f"{each:.2f}"] for stage, each in first.stages.items()]
    lines.append(["all of the processor", f"{first.cpu_seconds / first.spans * _MILLION:.2f}"])
    lines.append(["the store's process", f"{backlog.store_microseconds:.2f}"])
    return Table(f"By stage, {first.spans:,} spans of one partition", ("stage", "µs of CPU a span"), lines)


def _backlog(backlog: Sealed) -> Table:
    lines = [
        [
            f"{end / _MILLION:.2f}",
            f"{each.cpu_seconds / each.spans * _MILLION:.2f}",
            f"{each.spans / each.wall_seconds:,.0f}",
            f"{each.peak_memory / _MILLION:,.0f} MB",
        ]
        for end, each in zip(_ends(backlog), backlog.slices, strict=True)
    ]
    head = ("millions of spans sealed", "processor, µs a span since the line before", "spans a second", "memory so far")
    return Table("By backlog, one partition", head, lines)


def _ends(backlog: Sealed) -> list[int]:
    return list(accumulate(each.spans for each in backlog.slices))


def _curves(costs: Mapping[int, _Cost]) -> dict[str, Points]:
    return {
        "processor": [(x, cost.processor) for x, cost in costs.items()],
        "store": [(x, cost.store) for x, cost in costs.items()],
    }
