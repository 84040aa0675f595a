"""Sealing, measured: what `pipeline` (SQLite, embedded store) and `kafka` (Kafka, store over HTTP) share."""

from __future__ import annotations

import resource
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditspan.processors import batch, leaves, payloads
from auditspan.processors.batch import LogContext, Opening
from auditspan.processors.determine import Determiner
from auditspan.processors.epochs import epoch_of
from auditspan.processors.identity import Identities
from auditspan.processors.intake import Intake
from auditspan.processors.metrics import ProcessorMetrics
from auditspan.processors.processor import BatchLimits, LogProcessor
from prometheus_client import CollectorRegistry

from auditspan.journal.contract import Journal
from auditspan.policy.reference import Reference
from auditspan.store.clickhouse import ClickHouseStore
from benchmarks.pace import Pace

__all__ = ["DEPLOYMENT", "READ", "Measured", "StageClock", "context_of", "peak_memory", "processor_of", "seal_until"]

DEPLOYMENT = "bench.local"
READ = "read the journal"
_REST = "the rest"
_POLL = 0.25
_LOOK_EVERY = 150_000
"""Leaves between two looks at the pace of the machine."""

Functions = Sequence[tuple[Any, str]]
Thread = Callable[[threading.Thread], bool]

_STAGES: Mapping[str, Functions] = {
    "decode": [(Intake, "take")],
    "class, identity": [(batch, "classify"), (Identities, "judge")],
    "determine": [(batch, "_judge")],
    "payloads, salts, hashes": [
        *((payloads, name) for name in ("payloads", "salts")),
        *((leaves, name) for name in ("payload_hashes", "facts_hashes")),
        (batch, "leaf_hashes"),
    ],
    "headers": [(leaves, "event_headers")],
    "insert": [(ClickHouseStore, "append_batch")],
    "read back": [(LogProcessor, "_read_back")],
    "tree": [(LogProcessor, "_grown"), (LogProcessor, "_keep_nodes")],
}


class StageClock:
    """CPU time of all threads by stage, from now on in this process. For one thread that seals.

    Of stages within each other each counts what the inner ones do not. What a library does in the background counts to
    the stage in whose time it falls, but for the threads that fetch.

    Args:
        read: functions that read the journal.
        fetches: whether a thread does nothing but fetch ahead for `READ`.
    """

    def __init__(self, read: Functions, fetches: Thread = lambda _: False) -> None:
        self._spent = dict.fromkeys((READ, *_STAGES), 0.0)
        self._fetches = fetches
        self._open: list[str] = []
        self._since = 0.0
        self._began = self._fetched = 0.0
        for stage, functions in {READ: read, **_STAGES}.items():
            for owner, name in functions:
                setattr(owner, name, self._timed(stage, getattr(owner, name)))

    def start(self) -> None:
        """Forget what was measured so far."""
        self._spent = dict.fromkeys(self._spent, 0.0)
        self._fetched = self._fetching()
        self._began = self._since = self._now()

    def spent(self) -> dict[str, float]:
        """CPU-seconds since `start` by stage."""
        self._count()
        fetched = self._fetching() - self._fetched
        rest = self._now() - self._began - sum(self._spent.values())
        return {**self._spent, READ: self._spent[READ] + fetched, _REST: rest}

    def pass_over(self, seconds: float) -> None:
        """Leave out CPU-seconds that were spent just now, within no stage."""
        self._began += seconds
        self._count()

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            self._count()
            self._open.append(stage)
            try:
                return function(*arguments, **named)
            finally:
                self._count()
                self._open.pop()

        return run

    def _count(self) -> None:
        now = self._now()
        if self._open:
            self._spent[self._open[-1]] += now - self._since
        self._since = now

    def _now(self) -> float:
        return time.process_time() - self._fetching()

    def _fetching(self) -> float:
        return sum(
            time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
            for thread in threading.enumerate()
            if thread.ident is not None and self._fetches(thread)
        )


@dataclass
class Measured:
    """What was sealed between two moments. ``stages`` are microseconds of CPU per span; memory is the peak, in bytes.

    Rates are per CPU-second of the process, all its threads counted.
    """

    spans: int
    cpu_seconds: float
    wall_seconds: float
    peak_memory: int
    stages: dict[str, float]

    @property
    def rate(self) -> float:
        """Spans per CPU-second."""
        return self.spans / self.cpu_seconds


def context_of(opening: Opening) -> LogContext:
    """The log under the packaged reference. What is determined once is known to all processors of one context."""
    reference = Reference.packaged()
    return LogContext(
        opening=opening,
        salt_key=secrets.token_bytes(32),
        epoch=epoch_of(reference.to_control_body()),
        software="auditspan benchmark",
        determine=Determiner(reference).determine,
    )


def processor_of(
    journal: Journal, store: ClickHouseStore, context: LogContext, limits: BatchLimits | None = None
) -> LogProcessor:
    """What `auditspan` runs for one partition."""
    metrics = ProcessorMetrics(CollectorRegistry()).of(context.opening.partition)
    return LogProcessor(journal, store, context, metrics, minimum_interval=0.0, limits=limits)


def seal_until(
    processor: LogProcessor, leaves_: int | None, end: int, clock: StageClock | None = None, pace: Pace | None = None
) -> Measured:
    """Seal to ``leaves_`` leaves or to the journal's ``end``, whichever comes first.

    ``pace`` is looked at on the way, again and again, and what that takes is left out.
    """
    before = processor.tree.size
    looked, look_at = 0.0, before + _LOOK_EVERY
    if clock is not None:
        clock.start()
    cpu, wall = time.process_time(), time.perf_counter()
    while processor.tree.sealed_to < end and (leaves_ is None or processor.tree.size < leaves_):
        processor.run_once(_POLL)
        if pace is not None and processor.tree.size >= look_at:
            took = pace.look()
            looked, look_at = looked + took, look_at + _LOOK_EVERY
            if clock is not None:
                clock.pass_over(took)
    cpu, wall = time.process_time() - cpu - looked, time.perf_counter() - wall - looked
    sealed = processor.tree.size - before
    spent = {} if clock is None else clock.spent()
    return Measured(sealed, cpu, wall, peak_memory(), {stage: each / sealed * 1e6 for stage, each in spent.items()})


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
