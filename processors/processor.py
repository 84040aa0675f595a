"""One partition, one log: consume the journal, seal what it says, once (design: exactly once, sealing).

The store is the source of truth for progress. A batch counts when it was read back from the store; until then nothing
here has changed, so that the same batch can be tried again, and a process that dies resumes where the last
``audit.batch`` leaf says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

import numpy as np

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import Journal
from auditspan.ledger.hashing import Digests, from_binary
from auditspan.ledger.merkle import CompactRange
from auditspan.ledger.subtrees import TILE_LEVELS
from auditspan.store.contract import SealedBatch, Store, StoreUnavailable

from .batch import Derived, LogContext, derive
from .intake import Intake, Portion
from .metrics import LogMetrics
from .restore import last_batch, node_table, restore_state, store_subtrees

__all__ = ["LogProcessor", "ReadBackDiffers", "Tree"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0


class ReadBackDiffers(AuditSpanError):
    """The store does not hold what was given to it. Nothing is signed over it, and the processor stops."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A log as it was read back: ``size`` leaves with this RFC 6962 ``root`` hold the journal up to ``sealed_to``."""

    size: int
    root: bytes
    sealed_to: int


class LogProcessor:
    """Seals one log from one partition. `run_once` is called from one thread; `tree` may be read from any.

    Args:
        journal: where entries come from.
        store: this processor's own client.
        context: the log's identity, keys, epoch and determiner. Replace `context` only between calls of `run_once`.
        metrics: counters of this log.
        sleep: waits between attempts when the store is away; seconds.
        minimum_interval: seconds between two batches that are not full, so that a trickle does not make a part in the
            store for every request.

    Raises:
        AuditSpanError: store and journal do not fit together.
        StoreUnavailable: the store cannot be read now.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        context: LogContext,
        metrics: LogMetrics,
        *,
        sleep: Callable[[float], Any] = time.sleep,
        minimum_interval: float = 0.2,
    ) -> None:
        self.context = context
        self._journal = journal
        self._store = store
        self._metrics = metrics
        self._sleep = sleep
        self._interval = minimum_interval
        self._sealed_at = 0.0
        self._partition = context.opening.partition
        self._state = restore_state(store, context.opening.log_id)
        self._range = self._restored_range()
        self._intake = Intake(journal, self._partition, self._state.next_offset)
        self._guard = Lock()
        self._tree = Tree(self._state.next_leaf, self._range.root(), self._state.next_offset)
        self._watermark = self._state.watermark

    @property
    def log_id(self) -> str:
        """The log's id."""
        return self.context.opening.log_id

    @property
    def partition(self) -> str:
        """The partition it consumes."""
        return self._partition

    @property
    def tree(self) -> Tree:
        """What was read back from the store so far."""
        with self._guard:
            return self._tree

    @property
    def watermark(self) -> int:
        """Arrival watermark (ns) of the last batch."""
        return self._watermark

    def run_once(self, max_wait: float) -> bool:
        """Seal at most one batch; whether there was one. Waits up to ``max_wait`` seconds for an entry.

        Raises:
            Fenced: another processor owns the log; this one must stop.
            ReadBackDiffers: the store altered what it was given.
            PositionLost: the journal forgot entries that are not sealed.
            AuditSpanError: of the journal.
        """
        if not self._journal.wait(self._partition, self._state.next_offset, max_wait):
            self._metrics.lag.set(0)
            return False
        portion = self._intake.take(self._state.watermark)
        if portion is None:
            return False
        pause = self._sealed_at + self._interval - time.monotonic()
        if not portion.full and pause > 0:
            self._sleep(min(pause, self._interval))
            portion = self._intake.take(self._state.watermark) or portion
        self._seal(portion)
        return True

    def _seal(self, portion: Portion) -> None:
        derived = self._insisting(lambda: self._derive(portion))
        batch = SealedBatch(self.log_id, derived.first_leaf, derived.leaves)
        self._insisting(lambda: self._store.append_batch(batch))
        self._insisting(lambda: self._read_back(derived))
        grown, nodes = self._grown(derived)
        self._insisting(lambda: self._keep_nodes(nodes))
        derived.apply(self._state)
        self._intake.consumed(len(portion.entries))
        self._range = grown
        with self._guard:
            self._tree = Tree(grown.end, grown.root(), derived.next_offset)
            self._watermark = derived.watermark
        self._sealed_at = time.monotonic()
        self._metrics.batch(derived.counts, lag=max(0.0, time.time() - portion.entries[0].arrival_time / 1e9))

    def _derive(self, portion: Portion) -> Derived:
        return derive(portion.entries, portion.spans, self._state, self.context, self._store)

    def _grown(self, derived: Derived) -> tuple[CompactRange, list[tuple[int, int, bytes]]]:
        """The tree with the batch, and the nodes to keep."""
        nodes: list[tuple[int, int, bytes]] = []

        def keep(level: int, first: int, digests: Digests) -> None:
            if level % TILE_LEVELS == 0:
                nodes.extend((level, first + place, digest.tobytes()) for place, digest in enumerate(digests))

        grown = self._range.copy()
        grown.extend_column(derived.leaf_hashes, keep)
        return grown, nodes

    def _read_back(self, derived: Derived) -> None:
        """Compare what the store holds with what was sealed: a client's word is not enough to sign over it."""
        begin, sealed = derived.first_leaf, derived.leaf_hashes
        place = 0
        for found in self._store.leaf_hashes(self.log_id, begin, begin + len(sealed)):
            rows = len(found)
            index = found.column("leaf_index").to_numpy(zero_copy_only=False)
            expected = np.arange(begin + place, begin + place + rows, dtype=np.uint64)
            if not (
                np.array_equal(index, expected)
                and np.array_equal(from_binary(found.column("leaf_hash")), sealed[place : place + rows])
            ):
                break
            place += rows
        if place != len(sealed):
            raise ReadBackDiffers(
                f"The store does not give back leaf {begin + place} of log {self.log_id} as it was sealed.",
                remedy="Stop everything that writes to the store, keep it as it is, and look into how it was altered.",
            )

    def _keep_nodes(self, nodes: list[tuple[int, int, bytes]]) -> None:
        if nodes:
            self._store.append_nodes(self.log_id, node_table(nodes))

    def _restored_range(self) -> CompactRange:
        """The tree of the sealed leaves; nodes of the last batch that a crash left out are kept now."""
        subtrees = store_subtrees(self._store, self.log_id)
        body = last_batch(self._store, self.log_id)
        if body is None:
            return CompactRange()
        self._keep_nodes(subtrees.missing(body["first_leaf"], self._state.next_leaf))
        return subtrees.compact_range(self._state.next_leaf)

    def _insisting(self, act: Callable[[], Any]) -> Any:
        """``act`` until the store is there: trying the same batch again is safe."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return act()
            except StoreUnavailable as error:
                self._metrics.retries.inc()
                _log.warning("log %s: %s Trying again in %.1f s.", self.log_id, error, pause)
                self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
