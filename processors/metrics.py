"""What the processors count, for Prometheus."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge

from .batch import Counts

__all__ = ["AnchorMetrics", "LogMetrics", "ProcessorMetrics"]


class ProcessorMetrics:
    """The metrics of all logs of a process, labelled with the partition."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, meaning: str) -> Counter:
            return Counter(f"auditspan_{name}", meaning, ["partition"], registry=registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"auditspan_{name}", meaning, ["partition"], registry=registry)

        self.sealed = counter("sealed", "Records sealed and read back from the store.")
        self.leaves = counter("leaves", "Leaves sealed, those that the log itself originates included.")
        self.batches = counter("batches", "Batches sealed.")
        self.flagged = counter("flagged", "Records sealed as flagged.")
        self.quarantined = counter("quarantined", "Records that could not be read, kept as they came.")
        self.duplicates = counter("duplicates", "Records suppressed because they were sealed before.")
        self.conflicts = counter("conflicts", "Records that contradict one sealed under the same identity.")
        self.gaps = counter("gaps", "Runs of missing records declared.")
        self.gaps_closed = counter("gaps_closed", "Runs of records declared missing that came after all.")
        self.lost_entries = counter("journal_lost_entries", "Journal entries that were gone before they were sealed.")
        self.retries = counter("store_retries", "Attempts that the store refused for now.")
        self.lag = gauge("lag_seconds", "Age of the oldest record that is not sealed; 0 when none waits.")
        self.lag_entries = gauge("lag_entries", "Journal entries that are not sealed yet.")
        self.checkpoint_size = gauge("checkpoint_size", "Leaves under the last signed checkpoint.")
        self.owned = gauge("log_owned", "1 while this process owns the log of this partition.")

    def of(self, partition: str) -> LogMetrics:
        """The metrics of one partition."""
        return LogMetrics(self, partition)

    def forget(self, partition: str) -> None:
        """Another process says from now on where this log stands."""
        for gauge in (self.lag, self.lag_entries, self.checkpoint_size):
            gauge.remove(partition)
        self.owned.labels(partition).set(0)


class AnchorMetrics:
    """Who vouched for the control log, by kind (``timestamp``, ``cosignature``) and name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, meaning: str) -> Counter:
            return Counter(f"auditspan_{name}", meaning, ["kind", "name"], registry=registry)

        self._anchored = counter("anchored", "Checkpoints of the control log that somebody independent vouched for.")
        self._failed = counter("anchor_failures", "Times that somebody was asked to vouch and did not.")
        self._age = Gauge(
            "auditspan_anchor_age_seconds",
            "Seconds since it vouched last, or since this process began to ask.",
            ["kind", "name"],
            registry=registry,
        )

    def begun(self, kind: str, name: str) -> None:
        """From now on it is asked."""
        self._anchored.labels(kind, name)
        self._failed.labels(kind, name)
        self._since(kind, name)

    def anchored(self, kind: str, name: str) -> None:
        """It vouched."""
        self._anchored.labels(kind, name).inc()
        self._since(kind, name)

    def failed(self, kind: str, name: str) -> None:
        """It was asked, and did not."""
        self._failed.labels(kind, name).inc()

    def forget(self, kind: str, name: str) -> None:
        """Another process asks it from now on."""
        self._age.remove(kind, name)

    def _since(self, kind: str, name: str) -> None:
        at = time.monotonic()
        self._age.labels(kind, name).set_function(lambda: time.monotonic() - at)


class LogMetrics:
    """The metrics of one log."""

    def __init__(self, metrics: ProcessorMetrics, partition: str) -> None:
        self._batches = metrics.batches.labels(partition)
        self._leaves = metrics.leaves.labels(partition)
        self._counters = {
            "events": metrics.sealed.labels(partition),
            "flagged": metrics.flagged.labels(partition),
            "quarantined": metrics.quarantined.labels(partition),
            "duplicates": metrics.duplicates.labels(partition),
            "conflicts": metrics.conflicts.labels(partition),
            "gaps": metrics.gaps.labels(partition),
            "gaps_closed": metrics.gaps_closed.labels(partition),
        }
        self.retries = metrics.retries.labels(partition)
        self._lost = metrics.lost_entries.labels(partition)
        self.owned = metrics.owned.labels(partition)
        self.lag = metrics.lag.labels(partition)
        self.lag_entries = metrics.lag_entries.labels(partition)
        self.checkpoint_size = metrics.checkpoint_size.labels(partition)

    def lost(self, entries: int) -> None:
        """So many journal entries were gone before they were sealed."""
        self._lost.inc(entries)

    def batch(self, counts: Counts, lag: float) -> None:
        """A batch is in the store; ``lag`` is the age of its oldest entry in seconds."""
        self._batches.inc()
        self._leaves.inc(counts.sealed + 1)
        for name, counter in self._counters.items():
            counter.inc(getattr(counts, name))
        self.lag.set(lag)
