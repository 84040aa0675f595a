"""`auditspan collect` on Kafka: what an acknowledged span costs it, and how long an acknowledgement takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from auditspan.tokens import TokenRegistry
from benchmarks.kafka.deployment import Cluster, Helper, Service, helpers, service
from benchmarks.report import Row
from benchmarks.workload import SPANS_A_MESSAGE

RATE_TARGET = 25_000
P99_TARGET_MS = 50.0
_CLOSED = 16
"""Connections that send as fast as they are answered."""
_OPEN = 48


@dataclass(frozen=True)
class Collected:
    """What a collector did with a load; ``load`` is what the generator says."""

    spans: int
    cpu_seconds: float
    load: dict[str, float]

    @property
    def spans_a_cpu_second(self) -> float:
        """Spans accepted per CPU-second of the collector."""
        return self.spans / self.cpu_seconds

    @property
    def spans_a_second(self) -> float:
        """Spans accepted in a second of the clock."""
        return self.spans / self.load["seconds"]

    @property
    def generator_share(self) -> float:
        """How much of a core the generator used: it is the bottleneck only near 1."""
        return self.load["cpu_seconds"] / self.load["seconds"]


def collect(cluster: Cluster, seconds: float, say: Any) -> tuple[Collected, Collected]:
    """First as fast as it goes, then at half of the rate that was accepted."""
    topic = cluster.topic("collected", 4)
    token = TokenRegistry(topic.directory.tokens).create("bench")
    arguments = ["--data", topic.directory.root, "--otlp-http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0"]
    with service(["collect", *arguments], topic.directory.root) as collector:
        fast = _load(collector, token, seconds)
        say(f"collector: {fast.spans_a_second:,.0f} spans a second, {fast.spans_a_cpu_second:,.0f} a CPU-second")
        half = _load(collector, token, seconds, fast.spans_a_second / 2)
        say(f"collector: p99 {half.load['p99_ms']:.0f} ms at {half.spans_a_second:,.0f} spans a second")
    return fast, half


def rows(fast: Collected, half: Collected, pace: float) -> Iterator[Row]:
    """The figures; ``pace``: how fast the machine was."""
    yield Row("collector → Kafka: spans accepted per CPU-second", fast.spans_a_cpu_second, RATE_TARGET, pace=pace)
    yield Row("collector → Kafka: spans accepted a second", fast.spans_a_second)
    yield Row("collector → Kafka: acknowledged at that rate, p99", fast.load["p99_ms"], unit=" ms")
    at = f"at {half.spans_a_second:,.0f} spans a second"
    yield Row(f"collector → Kafka: acknowledged {at}, p50", half.load["p50_ms"], unit=" ms")
    yield Row(f"collector → Kafka: acknowledged {at}, p99", half.load["p99_ms"], P99_TARGET_MS, limit=True, unit=" ms")
    yield Row("collector → Kafka: cores used by the load generator", fast.generator_share)


def _load(collector: Service, token: str, seconds: float, spans_a_second: float | None = None) -> Collected:
    arguments: list[object] = [collector.endpoints["otlp_http"], seconds]
    if spans_a_second is None:
        arguments += ["--connections", _CLOSED]
    else:
        arguments += ["--connections", _OPEN, "--rate", spans_a_second / SPANS_A_MESSAGE]
    with helpers(partial(Helper, "load", *arguments, say_first=token)) as [generator]:
        begin = collector.cpu_seconds()
        generator.go()
        found = generator.result()
        spent = collector.cpu_seconds() - begin
    collector.check()
    return Collected(int(found["requests"]) * SPANS_A_MESSAGE, spent, found)
