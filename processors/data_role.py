"""What the owner of a data partition does: take the log over from the store, then seal what the journal brings.

A log of an earlier generation is closed when everything that was acknowledged in its partition is sealed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import JournalUnavailable, generation_of
from auditspan.policy.reference import software
from auditspan.store.contract import Fenced, Store, StoreUnavailable

from .batch import LogContext
from .control import Logs, find_logs
from .control_entries import heartbeat
from .determine import Determiner
from .earlier_logs import earlier_logs
from .epochs import last_epoch
from .flagged import publish_flagged
from .own_batches import Successor
from .processor import LogProcessor
from .references import epoch_of
from .restore import is_closed, last_batch
from .role import Role
from .signing_keys import signing_keys
from .stored_tree import CheckpointDoubtful, StoredTree, last_kept

__all__ = ["DataRole", "take_over"]

_log = logging.getLogger(__name__)

_POLL: Final = 0.25
"""Seconds that it waits for an entry before it looks whether it should stop."""
_JOURNAL_PAUSE: Final = 1.0
_EPOCH_EVERY: Final = 2.0
_ATTEMPTS: Final = 5
"""Takeovers that may find another process still sealing before this one gives way."""


def take_over(
    store: Store, log_id: str, make: Callable[[], LogProcessor], verify: Callable[[LogProcessor], None]
) -> LogProcessor:
    """A processor whose restored state was verified, while nobody else added to the log.

    Another owner that does not know yet that it lost the log may add a batch in between. What was read then does not
    fit together, and is read again.

    Raises:
        Fenced: somebody goes on adding to the log.
        AuditSpanError: the log is not as it was sealed and signed.
        StoreUnavailable: the store cannot be read now.
    """
    for _ in range(_ATTEMPTS):
        before = store.next_leaf(log_id)
        fault: AuditSpanError | None = None
        processor: LogProcessor | None = None
        try:
            processor = make()
            verify(processor)
        except StoreUnavailable:
            raise
        except AuditSpanError as error:
            fault = error
        if store.next_leaf(log_id) == before:
            if fault is not None:
                raise fault
            assert processor is not None
            return processor
    raise Fenced(
        f"Another processor goes on sealing log {log_id}.",
        remedy="Two processes believe that they own it: let only one consumer group run on a deployment.",
    )


class DataRole(Role):
    """Seals one data log."""

    def run(self, store: Store) -> None:
        """Take over, then seal until told to end."""
        parts = self.parts
        logs = self.wait_for(partial(self._find, store), "the owner of the control partition has not opened its log")
        if self.insist(partial(is_closed, store, logs.of(self.partition).log_id)):
            self._rest()
            return
        control = logs.control.log_id
        epoch = self.wait_for(partial(last_epoch, store, control), "no reference epoch is sealed")
        self._waits_for = f"reference epoch {epoch['number']} is being loaded"
        context = self.insist(partial(self._context, store, logs, epoch))
        self._waits_for = "its log is being read back"
        keys = self.insist(partial(signing_keys, parts.journal, store, control, parts.deployment, parts.keys))
        keys.check(parts.keys[0])
        processor = self.insist(partial(self._take_over, store, context, keys.known))
        self._waits_for = "its last flagged events are being told again"
        self.insist(partial(self._republish, store, processor))
        self.processor = processor
        self._running.set()
        parts.metrics.of(self.partition).owned.set(1)
        _log.info("%s: log %s goes on at offset %d.", self.partition, processor.log_id, processor.tree.sealed_to)
        self._seal(store, processor, logs)
        if processor.closed:
            self._rest()

    def _rest(self) -> None:
        """Keep a closed log's partition, which nobody else has anything to do with either."""
        self._running.set()
        self.parts.metrics.of(self.partition).owned.set(1)
        _log.info("%s: its log is closed.", self.partition)
        while not self._finishing.is_set():
            self.pause(_POLL)

    def _find(self, store: Store) -> Logs | None:
        logs = find_logs(self.parts.journal, store, self.parts.deployment)
        return logs if logs is not None and logs.find(self.partition) is not None else None

    def _seal(self, store: Store, processor: LogProcessor, logs: Logs) -> None:
        looked = time.monotonic()
        references = self.parts.references
        successor, end = self._successor(), None
        while not (self._stop.is_set() or processor.closed):
            finishing = self._finishing.is_set()
            try:
                known = references.announced > processor.context.epoch.number
                if (known or time.monotonic() - looked >= _EPOCH_EVERY) and self._follow_epoch(store, processor, logs):
                    looked = time.monotonic()
                sealed = processor.run_once(0 if finishing else _POLL)
                if successor is not None and end is None and self.parts.journal.settled(self.partition):
                    end = self._mark_end()
                if successor is not None and end is not None and processor.tree.sealed_to >= end:
                    processor.close(successor)
            except (JournalUnavailable, StoreUnavailable) as error:
                _log.warning("%s: %s", self.partition, error)
                self.pause(_JOURNAL_PAUSE)
                continue
            if finishing and not sealed:
                return

    def _successor(self) -> Successor | None:
        """The generation after this partition's; None for the last one, and for a partition that others write.

        Raises:
            AuditSpanError: its topic is gone, and later ones are there.
        """
        mine, generations = generation_of(self.partition), self.parts.journal.generations
        if mine is None or mine == max(generations):
            return None
        if mine + 1 not in generations:
            raise AuditSpanError(
                f"The log of {self.partition} is not closed, and the partitions of generation {mine + 1} are gone.",
                remedy="Events that were not sealed yet may be lost with that topic: find out who deleted it.",
            )
        return Successor(mine + 1, len(generations[mine + 1]))

    def _mark_end(self) -> int:
        """The offset at which the partition ends, since everything that was acknowledged in it lies before.

        A heartbeat stands there, so that the end can also be reached when everything before it is gone.
        """
        return self.parts.journal.append([(self.partition, heartbeat(self.parts.clock()))]).result()[0] + 1

    def _context(self, store: Store, logs: Logs, epoch: Any) -> LogContext:
        reference = self.parts.references.of(epoch, store)
        opening = logs.of(self.partition)
        return LogContext(
            opening=opening,
            salt_key=self.parts.salt_key,
            epoch=epoch_of(epoch),
            software=software(),
            determine=Determiner(reference).determine,
            earlier=earlier_logs(logs.data, opening),
        )

    def _follow_epoch(self, store: Store, processor: LogProcessor, logs: Logs) -> bool:
        """Judge under the epoch that the control log has sealed last; whether that is so now.

        While it is being loaded, what comes is sealed under the one before: nothing waits.
        """
        body = last_epoch(store, logs.control.log_id)
        context = processor.context
        if body is None or int(body["number"]) <= context.epoch.number:
            return True
        reference = self.parts.references.ready(body, self.parts.store_factory)
        if reference is None:
            return False
        epoch = epoch_of(body)
        processor.context = replace(context, epoch=epoch, determine=Determiner(reference).determine)
        _log.info("%s: reference epoch %d is in force.", self.partition, epoch.number)
        return True

    def _take_over(self, store: Store, context: LogContext, keys: Sequence[Ed25519PublicKey]) -> LogProcessor:
        log_id = context.opening.log_id

        def make() -> LogProcessor:
            return self.processor_of(store, context, on_sealed=partial(self._publish, store, log_id))

        def verify(processor: LogProcessor) -> None:
            signed = last_kept(store, log_id, self.parts.deployment, keys)
            found = StoredTree.after(store, log_id, signed).look()
            if found != processor.tree:
                raise CheckpointDoubtful(
                    f"The nodes that the store keeps of log {log_id} do not belong to its leaves.",
                    remedy="Keep the store as it is, and run `auditspan doctor --full`.",
                )

        return take_over(store, log_id, make, verify)

    def _republish(self, store: Store, processor: LogProcessor) -> None:
        """Tell of the last batch's flagged leaves again: its sealer may have ended before it could."""
        body = last_batch(store, processor.log_id)
        if body is not None:
            self._publish(store, processor.log_id, int(body["first_leaf"]), processor.tree.size)

    def _publish(self, store: Store, log_id: str, begin: int, end: int) -> None:
        if self.parts.publisher is not None:
            publish_flagged(store, self.parts.publisher, log_id, begin, end)
