"""The processors of a deployment in one process: a thread for each data log, one for checkpoints and control."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from auditspan.canonical import JsonValue
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import CONTROL_PARTITION, Journal, JournalUnavailable, PositionLost
from auditspan.ledger.signer import Signer
from auditspan.policy.reference import Reference, software
from auditspan.semconv import EventClass
from auditspan.store.contract import Store, StoreUnavailable

from .batch import Epoch, LogContext, Opening
from .checkpointer import ACTOR, Checkpointer, check_against_signer
from .control import ControlLog, heartbeat, open_logs
from .determine import Determiner
from .epochs import activate, epoch_of, keep_artifacts, last_epoch
from .metrics import ProcessorMetrics
from .processor import LogProcessor
from .trimming import Trimmer

__all__ = ["LogStatus", "Pipeline"]

_log = logging.getLogger(__name__)

_POLL: Final = 0.25
"""Seconds that a worker waits for an entry before it looks whether it should stop."""
_JOURNAL_PAUSE: Final = 1.0
_TRIM_EVERY: Final = 60.0
_LONGEST_BODY: Final = 1


class _Stopping(BaseException):
    """Unwinds a worker that waits for the store while the pipeline stops. No error: nothing may swallow it."""


@dataclass(frozen=True, slots=True)
class LogStatus:
    """Where one log stands. ``lag_seconds`` is the age of the oldest entry that is not sealed; times are ns."""

    partition: str
    log_id: str
    journal_end: int
    sealed_to: int
    lag_entries: int
    lag_seconds: float
    leaves: int
    watermark: int
    checkpoint_size: int
    checkpoint_signed_at: int | None
    signed_to: int


class Pipeline:
    """Seals, determines, signs. `start` and `stop` once each; the rest from any thread.

    Args:
        journal: what collectors append to.
        store_factory: makes a store with a client of its own; called once a thread.
        signer: the deployment's signer.
        salt_key: 32 bytes.
        public_key: base64 of the signing key's public half, for the control log.
        deployment: the deployment's name.
        artifacts: packs, tables, registry by name: what `auditspan.policy.reference.Reference` is made of.
        reference_folder: where every epoch's artifacts are kept.
        registry: where the metrics go.
        checkpoint_seconds: at most this long after a leaf was sealed, a checkpoint over it is signed.
        heartbeat_seconds: a partition to which nothing came for this long gets a heartbeat.
        keep_days: how long the journal keeps an entry that a signed checkpoint covers; 0: for ever.
        trim_seconds: time between two rounds of forgetting.
        clock: now, in nanoseconds since 1970.
    """

    def __init__(
        self,
        journal: Journal,
        store_factory: Callable[[], Store],
        signer: Signer,
        *,
        salt_key: bytes,
        public_key: str,
        deployment: str,
        artifacts: Mapping[str, bytes],
        reference_folder: Path,
        registry: CollectorRegistry,
        checkpoint_seconds: float = 1.0,
        heartbeat_seconds: float = 15.0,
        keep_days: float = 0.0,
        trim_seconds: float = _TRIM_EVERY,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._journal = journal
        self._store_factory = store_factory
        self._signer = signer
        self._salt_key = salt_key
        self._public_key = public_key
        self._deployment = deployment
        self._artifacts = dict(artifacts)
        self._reference_folder = reference_folder
        self._metrics = ProcessorMetrics(registry)
        self._checkpoint_seconds = checkpoint_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._clock = clock
        self._draining = threading.Event()
        self._stop = threading.Event()
        self._failures: dict[str, BaseException] = {}
        self._stores: list[Store] = []
        self._processors: list[LogProcessor] = []
        self._threads: list[threading.Thread] = []
        self._beats: dict[str, tuple[int, float]] = {}
        self._control_log = ControlLog(journal, clock)
        self._control: LogProcessor | None = None
        self._checkpointer: Checkpointer | None = None
        self._checkpoint_thread: threading.Thread | None = None
        self._trimmer = Trimmer(journal, self.status, keep_days, self._draining.is_set, clock)
        self._trim_seconds = trim_seconds
        self._trim_thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the logs, restore their state, activate the reference, and begin.

        Raises:
            AuditSpanError: journal, store, signer state or reference do not fit; nothing was begun.
        """
        try:
            self._begin()
        except BaseException:
            self._close_stores()
            raise

    def _begin(self) -> None:
        store = self._open_store()
        store.migrate()
        first = [(str(EventClass.KEY_ADDED), _key(self._public_key))]
        logs = open_logs(self._journal, store, self._deployment, actor=ACTOR, first_entries=first, clock=self._clock)
        control = self._control = self._processor(
            store, logs.control, None, epoch_of(last_epoch(store, logs.control.log_id))
        )
        reference = self._reference(store, control)
        self._processors = [
            self._processor(self._open_store(), opening, reference, control.context.epoch) for opening in logs.data
        ]
        for processor in self._processors:
            check_against_signer(store, self._signer, processor.log_id, processor.tree)
        self._checkpointer = Checkpointer(
            store, self._signer, self._control_log, control, self._processors, self._clock
        )
        self._beat(at_once=True)
        for processor in self._processors:
            self._threads.append(self._thread(processor.partition, partial(self._seal, processor)))
        self._checkpoint_thread = self._thread("checkpoints", self._sign)
        self._trim_thread = self._thread("trimming", self._trim)
        for thread in (*self._threads, self._checkpoint_thread, self._trim_thread):
            thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Seal and sign what the journal holds, then end. Stop what appends to the journal first.

        After ``timeout`` seconds the rest is left to the next start: nothing is lost by that.
        """
        deadline = time.monotonic() + timeout
        self._draining.set()
        for thread in (*self._threads, self._checkpoint_thread, self._trim_thread):
            if thread is not None and thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        self._stop.set()
        for thread in (*self._threads, self._checkpoint_thread, self._trim_thread):
            if thread is not None and thread.ident is not None:
                thread.join(5.0)
        self._close_stores()

    def healthy(self) -> tuple[bool, str]:
        """Whether everything runs; otherwise why not."""
        for name, error in list(self._failures.items()):
            return False, f"{name} stopped: {error}"
        if self._checkpoint_thread is None:
            return False, "not started"
        if self._draining.is_set():
            return False, "stopping"
        return True, ""

    def status(self) -> list[LogStatus]:
        """Where every log stands, the control log last."""
        known = [*self._processors, *([self._control] if self._control is not None else [])]
        return [self._log_status(processor) for processor in known]

    def append_control(self, name: str, actor: str, body: JsonValue) -> int:
        """Journal a control entry of class ``name`` by ``actor``; its offset. See `ControlLog.append`."""
        return self._control_log.append(name, actor, body)

    def _close_stores(self) -> None:
        for store in self._stores:
            store.close()
        self._stores = []

    def _open_store(self) -> Store:
        store = self._store_factory()
        self._stores.append(store)
        return store

    def _processor(self, store: Store, opening: Opening, reference: Reference | None, epoch: Epoch) -> LogProcessor:
        context = LogContext(
            opening=opening,
            salt_key=self._salt_key,
            epoch=epoch,
            software=software(),
            determine=Determiner(reference).determine if reference is not None else None,
        )
        control = opening.partition == CONTROL_PARTITION
        return LogProcessor(
            self._journal,
            store,
            context,
            self._metrics.of(opening.partition),
            sleep=self._pause,
            # The control log's rounds are apart already.
            minimum_interval=0.0 if control else 0.2,
        )

    def _reference(self, store: Store, control: LogProcessor) -> Reference:
        """Seal what the control journal holds, then the epoch of these artifacts if it is a new one."""
        check_against_signer(store, self._signer, control.log_id, control.tree)
        _drain(control)
        last = last_epoch(store, control.log_id)
        keep_artifacts(self._reference_folder, self._artifacts)
        control.context = _under(control.context, epoch_of(last))
        reference = activate(last, self._artifacts, lambda name, body: self._control_log.append(name, ACTOR, body))
        _drain(control)
        control.context = _under(control.context, epoch_of(reference.to_control_body()))
        return reference

    def _thread(self, name: str, run: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                run()
            except _Stopping:
                _log.info("%s stopped while it waited.", name)
            except BaseException as error:  # whatever ends a worker makes the pipeline unhealthy
                self._failures[name] = error
                _log.critical("%s stopped: %s", name, error, exc_info=not isinstance(error, AuditSpanError))

        return threading.Thread(target=guarded, name=f"auditspan-{name}", daemon=True)

    def _seal(self, processor: LogProcessor) -> None:
        while not self._stop.is_set():
            draining = self._draining.is_set()
            try:
                sealed = processor.run_once(0 if draining else _POLL)
            except JournalUnavailable as error:
                _log.warning("%s: %s", processor.partition, error)
                self._pause(_JOURNAL_PAUSE)
                continue
            if draining and not sealed:
                return

    def _sign(self) -> None:
        assert self._checkpointer is not None
        while not self._stop.is_set():
            started = time.monotonic()
            last_round = self._draining.is_set() and not any(thread.is_alive() for thread in self._threads)
            try:
                self._beat()
                self._checkpointer.run_once()
            except (StoreUnavailable, JournalUnavailable) as error:
                _log.warning("This round of checkpoints is put off: %s", error)
            self._measure()
            if last_round:
                return
            left = self._checkpoint_seconds - (time.monotonic() - started)
            # A short wait while draining, so that the last round follows the last batch closely.
            (self._stop if self._draining.is_set() else self._draining).wait(
                0.05 if self._draining.is_set() else max(left, 0.0)
            )

    def _trim(self) -> None:
        # A thread of its own: giving back the space of a long arrears must not hold up a checkpoint.
        while not self._draining.wait(self._trim_seconds):
            try:
                self._trimmer.run_once()
            except JournalUnavailable as error:
                _log.warning("The journal is trimmed later: %s", error)

    def _beat(self, *, at_once: bool = False) -> None:
        """Journal a heartbeat for each partition to which nothing came for a while."""
        if self._draining.is_set():
            return
        now = time.monotonic()
        for partition in (*self._journal.own_partitions, CONTROL_PARTITION):
            end = self._journal.high_water_mark(partition)
            before, since = self._beats.get(partition, (end, now))
            if end != before:
                since = now
            if now - since >= self._heartbeat_seconds or (at_once and partition != CONTROL_PARTITION):
                end = self._journal.append([(partition, heartbeat(self._clock()))]).result()[0] + 1
                since = now
            self._beats[partition] = (end, since)

    def _measure(self) -> None:
        for status in self.status():
            metrics = self._metrics.of(status.partition)
            metrics.lag_entries.set(status.lag_entries)
            metrics.checkpoint_size.set(status.checkpoint_size)

    def _log_status(self, processor: LogProcessor) -> LogStatus:
        tree = processor.tree
        end = self._journal.high_water_mark(processor.partition)
        signed = self._checkpointer.last(processor.log_id) if self._checkpointer is not None else None
        try:
            waiting = self._journal.read(processor.partition, tree.sealed_to, max_entries=1, max_bytes=_LONGEST_BODY)
        except PositionLost:  # sealed, signed and trimmed since we looked at the tree
            waiting = []
        age = (self._clock() - waiting[0].arrival_time) / 1e9 if waiting else 0.0
        return LogStatus(
            partition=processor.partition,
            log_id=processor.log_id,
            journal_end=end,
            sealed_to=tree.sealed_to,
            lag_entries=max(end - tree.sealed_to, 0),
            lag_seconds=max(age, 0.0),
            leaves=tree.size,
            watermark=processor.watermark,
            checkpoint_size=signed[0].size if signed is not None else 0,
            checkpoint_signed_at=signed[1] if signed is not None else None,
            signed_to=signed[0].sealed_to if signed is not None else 0,
        )

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopping


def _drain(processor: LogProcessor) -> None:
    while processor.run_once(0):
        pass


def _under(context: LogContext, epoch: Epoch) -> LogContext:
    return LogContext(context.opening, context.salt_key, epoch, context.software, context.determine)


def _key(public_key: str) -> dict[str, JsonValue]:
    return {"algorithm": "Ed25519", "public_key": public_key}
