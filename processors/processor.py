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
import pyarrow as pa

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import Journal, JournalUnavailable, PositionLost
from auditspan.ledger.hashing import Digests, from_binary
from auditspan.ledger.merkle import CompactRange
from auditspan.ledger.subtrees import TILE_LEVELS
from auditspan.store.contract import SealedBatch, Store, StoreUnavailable

from .batch import Derived, LogContext, derive
from .earlier_logs import PayloadsAcross
from .identity import Identities
from .intake import LARGEST_BATCH_BYTES, LARGEST_BATCH_ROWS, Intake, Portion
from .metrics import LogMetrics
from .own_batches import Successor, derive_closing, derive_lost
from .repetitions import suppressed_by_stream
from .restore import is_closed, last_batch, node_table, restore_state, store_subtrees
from .stored_tree import Tree

__all__ = ["BatchLimits", "LogProcessor", "OnSealed", "ReadBackDiffers", "Tree"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0


class ReadBackDiffers(AuditSpanError):
    """The store does not hold what was given to it. Nothing is signed over it, and the processor stops."""


OnSealed = Callable[[int, int], None]
"""``on_sealed(begin, end)`` is told the leaves of each batch that holds a flagged one, after it was read back."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch ends: at ``rows`` spans, at ``size`` bytes of entries, or, not being full, after ``seconds``."""

    rows: int = LARGEST_BATCH_ROWS
    size: int = LARGEST_BATCH_BYTES
    seconds: float = 0.2


def _nothing(_begin: int, _end: int) -> None:
    """Nobody is told."""


class LogProcessor:
    """Seals one log from one partition. `run_once` is called from one thread; `tree` may be read from any.

    Args:
        journal: where entries come from.
        store: this processor's own client.
        context: the log's identity, keys, epoch and determiner. Replace `context` only between calls of `run_once`.
        metrics: counters of this log.
        sleep: waits between attempts when the store is away; seconds.
        minimum_interval: seconds between two batches that are not full, so that a trickle does not make a part in the
            store for every request; None: as ``limits`` say.
        limits: when a batch ends.
        on_sealed: told of flagged leaves before the next batch is begun; insisted on like the store.

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
        minimum_interval: float | None = None,
        limits: BatchLimits | None = None,
        on_sealed: OnSealed = _nothing,
    ) -> None:
        limits = limits or BatchLimits()
        self.context = context
        self._journal = journal
        self._store = store
        self._metrics = metrics
        self._sleep = sleep
        self._interval = limits.seconds if minimum_interval is None else minimum_interval
        self._on_sealed = on_sealed
        self._sealed_at = 0.0
        self._partition = context.opening.partition
        self._state = restore_state(store, context.opening.log_id, context.earlier, context.opening.opened_at)
        self._sealed_payloads = PayloadsAcross(store, context.earlier) if context.earlier else store
        self._closed = is_closed(store, context.opening.log_id)
        self._range = self._restored_range()
        self._limits = limits
        self._intake = self._intake_from(self._state.next_offset)
        self._guard = Lock()
        self._tree = Tree(self._state.next_leaf, self._range.root(), self._state.next_offset)
        self._watermark = self._state.watermark
        self._waiting_since: int | None = None
        self._trouble = ""
        self._lost_from: int | None = None

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

    @property
    def waiting_since(self) -> int | None:
        """Arrival time (ns) of the oldest entry that was taken and is not sealed; None when there is none."""
        return self._waiting_since

    @property
    def trouble(self) -> str:
        """Why the batch at hand does not get on; empty while it does."""
        return self._trouble

    @property
    def lost_from(self) -> int | None:
        """The first journal offset of those that were gone before this processor could seal them; None for none."""
        return self._lost_from

    @property
    def closed(self) -> bool:
        """Whether the log has ended: `run_once` must not be called any more."""
        return self._closed

    def read_back(self) -> tuple[CompactRange, int]:
        """A copy of the tree that was read back, and the journal offset that it is sealed to."""
        with self._guard:
            return self._range.copy(), self._tree.sealed_to

    def run_once(self, max_wait: float) -> bool:
        """Seal at most one batch; whether there was one. Waits up to ``max_wait`` seconds for an entry.

        Raises:
            Fenced: another processor owns the log; this one must stop.
            ReadBackDiffers: the store altered what it was given.
            PositionLost: what the journal holds is not what followed the sealed entries.
            AuditSpanError: of the journal.
        """
        if not self._journal.wait(self._partition, self._state.next_offset, max_wait):
            self._metrics.lag.set(0)
            return False
        try:
            portion = self._intake.take(self._state.watermark)
        except PositionLost as error:
            return self._seal_lost(error)
        if portion is None:
            return False
        self._waiting_since = portion.entries[0].arrival_time
        pause = self._sealed_at + self._interval - time.monotonic()
        if not portion.full and pause > 0:
            self._sleep(min(pause, self._interval))
            portion = self._intake.take(self._state.watermark) or portion
        derived = self._insisting(lambda: self._derive(portion))
        self._seal(derived, suppressed_by_stream(portion, derived) if derived.counts.duplicates else None)
        self._intake.consumed(len(portion.entries))
        self._waiting_since = None
        self._metrics.batch(derived.counts, lag=max(0.0, time.time() - portion.entries[0].arrival_time / 1e9))
        return True

    def close(self, successor: Successor) -> None:
        """End the log, all of whose partition is sealed, and name the generation that goes on.

        Raises:
            Fenced: another processor owns the log; this one must stop.
            ReadBackDiffers: the store altered what it was given.
        """
        self._seal(derive_closing(successor, self._state, self.context))
        self._closed = True
        # Nothing is compared with what was sealed any more: later logs read it from the store.
        self._state.identities = Identities()

    def _seal_lost(self, error: PositionLost) -> bool:
        """Say in the log that entries are gone, once the journal shows where it goes on."""
        begin, earliest = self._state.next_offset, error.resumes_at
        if earliest is None or earliest <= begin:
            raise error
        if self._lost_from != begin:
            self._lost_from = begin
            _log.critical(
                "%s: the journal lost the entries %d to %d before they were sealed; an audit.gap of log %s says so.",
                *(self._partition, begin, earliest, self.log_id),
            )
        try:
            kept = self._journal.read(self._partition, earliest, max_entries=1, max_bytes=1)
        except PositionLost:  # it goes on losing
            kept = []
        if not kept:
            self._sleep(_FIRST_PAUSE)
            return False
        derived = derive_lost(kept[0], self._state, self.context)
        self._seal(derived)
        self._intake = self._intake_from(self._state.next_offset)
        self._metrics.lost(derived.next_offset - begin)
        self._metrics.batch(derived.counts, lag=0.0)
        return True

    def _intake_from(self, offset: int) -> Intake:
        return Intake(self._journal, self._partition, offset, rows=self._limits.rows, size=self._limits.size)

    def _seal(self, derived: Derived, suppressed: pa.Table | None = None) -> None:
        batch = SealedBatch(self.log_id, derived.first_leaf, derived.leaves)
        self._insisting(lambda: self._store.append_batch(batch))
        self._insisting(lambda: self._read_back(derived))
        grown, nodes = self._grown(derived)
        self._insisting(lambda: self._keep_nodes(nodes))
        if suppressed is not None:
            self._insisting(lambda: self._store.append_suppressed(self.log_id, derived.first_leaf, suppressed))
        if derived.counts.flagged:
            self._insisting(lambda: self._on_sealed(derived.first_leaf, grown.end))
        derived.apply(self._state)
        with self._guard:
            self._range = grown
            self._tree = Tree(grown.end, grown.root(), derived.next_offset)
            self._watermark = derived.watermark
        self._sealed_at = time.monotonic()

    def _derive(self, portion: Portion) -> Derived:
        return derive(portion.entries, portion.spans, self._state, self.context, self._sealed_payloads)

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
        """``act`` until the store, or who is told of flagged leaves, is there: trying the same batch again is safe."""
        pause = _FIRST_PAUSE
        while True:
            try:
                result = act()
                self._trouble = ""
                return result
            except (StoreUnavailable, JournalUnavailable) as error:
                self._metrics.retries.inc()
                self._trouble = str(error)
                _log.warning("log %s: %s Trying again in %.1f s.", self.log_id, error, pause)
                self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
