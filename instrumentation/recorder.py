"""The recorder: one call, one audit record in the spool, as durable as its class demands, before the call returns."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import NewType

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from ..errors import AuditSpanError
from . import fork
from .durability import DurabilityThread
from .encode import Attributes, Parent, encode_span, new_record_id
from .faults import note_fault
from .settings import InstrumentationSettings, Mode
from .shipping_thread import RecordRefused, ShippingThread
from .spool import Position
from .stream import RecordDeferred, RecordLost, Stream

__all__ = ["AuditRefused", "RecordId", "Recorder", "get_recorder", "set_recorder"]

_log = logging.getLogger(__name__)

RecordId = NewType("RecordId", str)
"""``audit.record.id`` of a record: a UUID."""


class AuditRefused(AuditSpanError):
    """The action must not happen: its record cannot be made as durable as its class demands."""


class _Incarnation:
    """What belongs to one process and must never cross a fork: a stream and the threads that serve it."""

    def __init__(self, settings: InstrumentationSettings, resource: Resource) -> None:
        self.pid = os.getpid()
        self.stream = Stream(settings, resource)
        self.durability = DurabilityThread(self.stream, settings.sync_interval, settings.heartbeat_interval)
        self.shipping = ShippingThread(settings, lambda: self.stream, self._tell_gap)

    def _tell_gap(self, reason: str, count: int, stream: str, first: int | None, last: int | None) -> None:
        self.stream.report_gap(reason, count, stream, first, last)
        self.durability.touch()

    def start(self) -> None:
        self.durability.start()
        self.shipping.start()


class Recorder:
    """Records audit events of this process.

    Thread-safe, signal-safe and fork-safe: a forked child opens a stream of its own with its first record. Creating a
    recorder touches nothing; the first record, or ``start``, does.

    Args:
        settings: where and how; from the environment when None.
        resource: resource of the records; the SDK's (``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``) when None.
    """

    def __init__(self, settings: InstrumentationSettings | None = None, *, resource: Resource | None = None) -> None:
        self.settings = settings or InstrumentationSettings.from_environment()
        self._resource = resource
        self._held: list[threading.RLock] = []
        self._incarnation: _Incarnation | None = None
        self._locks: dict[int, threading.RLock] = {}
        self._next_log = 0.0
        self._threadless_pid = 0
        self._detecting = False
        fork.register(self)
        _exit_with(self)

    @property
    def enabled(self) -> bool:
        """False under the kill switch: nothing is recorded."""
        return not self.settings.disabled

    @property
    def stream_id(self) -> str | None:
        """Id of this process's stream; None before its first record."""
        current = self._incarnation
        return current.stream.id if current is not None and current.pid == os.getpid() else None

    @property
    def lost(self) -> int:
        """Records lost and not told in a gap record yet."""
        current = self._incarnation
        return current.stream.lost if current is not None else 0

    @property
    def losing(self) -> bool:
        """Whether records are being lost because the spool cannot be written, so that the next would be as well."""
        current = self._incarnation
        return current is not None and current.stream.losing

    def lose(self, reason: str) -> None:
        """Count a record that was lost on its way here; an ``audit.gap`` record tells it as soon as writing works.

        Args:
            reason: ``audit.gap.reason``.
        """
        if self.enabled:
            current = self._current()
            current.stream.lose(reason)
            current.durability.touch()

    def refuses(self, event_class: str) -> bool:
        """Whether actions of this class are refused when their record cannot be made durable (``fail_closed``)."""
        return self.enabled and event_class in self.settings.fail_closed

    @property
    def resource(self) -> Resource:
        """Resource of the records."""
        return self._process_resource()

    def prepare(self) -> None:
        """Detect the resource now, so that a forked child need not: a fork may break an import of a detector."""
        self._process_resource()

    def _process_resource(self) -> Resource:
        if self._resource is None:
            if self._detecting:
                # A signal handler has interrupted the detection, whose executor holds locks.
                return _resource_of_environment()
            self._detecting = True
            try:
                self._resource = _default_resource()
            finally:
                self._detecting = False
        if "process.pid" in self._resource.attributes:
            return self._resource.merge(Resource({"process.pid": os.getpid(), "process.parent_pid": os.getppid()}))
        return self._resource

    def start(self) -> None:
        """Begin to ship what dead processes left, before the first record of this one."""
        if self.enabled:
            self._current()

    def record(
        self,
        event_class: str,
        attributes: Attributes,
        *,
        start_time: int | None = None,
        end_time: int | None = None,
        mode: Mode | str | None = None,
        parent: Parent = None,
    ) -> RecordId:
        """Record one event; when this returns, the record is as durable as its mode says.

        Args:
            event_class: ``audit.event.class``, of ``auditspan.semconv.EventClass``.
            attributes: names of ``auditspan.semconv`` to values; ``None`` values are left out.
            start_time: nanoseconds since 1970; now when None.
            end_time: nanoseconds since 1970; now when None.
            mode: durability of this record; that of its class in the settings when None.
            parent: OpenTelemetry context to join, sampled or not; the current one when None.

        Raises:
            AuditRefused: the class is ``fail_closed`` and the record cannot be made durable. Any other class goes on,
                and the loss is told in an ``audit.gap`` record.
        """
        record_id, wait = self._begin(event_class, attributes, start_time, end_time, mode, parent)
        if wait is not None:
            future, timeout = wait
            try:
                future.result(timeout)
            except (OSError, RecordRefused, FutureTimeoutError) as error:
                self._not_durable(event_class, error)
        return record_id

    async def record_async(
        self,
        event_class: str,
        attributes: Attributes,
        *,
        start_time: int | None = None,
        end_time: int | None = None,
        mode: Mode | str | None = None,
        parent: Parent = None,
    ) -> RecordId:
        """As ``record``, awaiting the disk or the collector without holding the event loop."""
        record_id, wait = self._begin(event_class, attributes, start_time, end_time, mode, parent)
        if wait is not None:
            future, timeout = wait
            try:
                # Shielded: a caller that is cancelled does not take the record back.
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), timeout)
            except (OSError, RecordRefused, TimeoutError) as error:
                self._not_durable(event_class, error)
        return record_id

    def _begin(
        self,
        event_class: str,
        attributes: Attributes,
        start_time: int | None,
        end_time: int | None,
        mode: Mode | str | None,
        parent: Parent,
    ) -> tuple[RecordId, tuple[Future[None], float] | None]:
        """Encode and append; what to wait for, if anything."""
        now = time.time_ns()
        record_id = new_record_id(now)
        settings = self.settings
        if settings.disabled:
            return RecordId(record_id), None
        event_class = str(event_class)
        chosen = settings.mode_for(event_class, mode)
        current = self._current()
        try:
            span = encode_span(
                event_class,
                attributes,
                record_id=record_id,
                start_time=now if start_time is None else start_time,
                end_time=max(now, start_time or 0) if end_time is None else end_time,
                parent=parent,
            )
        except Exception as error:
            # Whatever a mapping of the host's does when it is read: counted, and never the host's problem.
            self.lose("unencodable")
            self._not_recorded(event_class, RecordLost("unencodable", type(error).__name__))
            return RecordId(record_id), None
        try:
            position = current.stream.append(span)
        except RecordLost as error:
            current.durability.touch()
            self._not_recorded(event_class, error)
            return RecordId(record_id), None
        except RecordDeferred as error:
            self._not_durable(event_class, error)
            return RecordId(record_id), None
        current.durability.touch()
        current.shipping.touch()
        if position is None:
            # Durable already, but the call that it interrupted holds the lock: nobody can wait here for the collector.
            if chosen is Mode.RECEIPT:
                self._not_durable(event_class, RecordDeferred())
            return RecordId(record_id), None
        return RecordId(record_id), self._await(current, chosen, position)

    def _await(self, current: _Incarnation, mode: Mode, position: Position) -> tuple[Future[None], float] | None:
        if mode is Mode.LOCAL:
            return None
        if mode is Mode.LOCAL_SYNC:
            return current.durability.durable(position), self.settings.sync_timeout
        return current.shipping.receipt(position), self.settings.receipt_timeout

    def _not_recorded(self, event_class: str, error: RecordLost) -> None:
        if self.refuses(event_class):
            raise AuditRefused(
                f"The action is refused: its audit record cannot be written ({error.reason}).",
                remedy="Free space in, or repair, the audit spool directory, then try again.",
            ) from error
        now = time.monotonic()
        if now >= self._next_log:
            # Once a minute: logs may lie on the same full disk.
            self._next_log = now + 60.0
            _log.error(
                "An audit record of class %s is lost (%s); the gap is recorded as soon as the spool can be written.",
                event_class,
                error.reason,
            )

    def _not_durable(self, event_class: str, error: BaseException) -> None:
        """The record is kept, but not as durable as its mode demands."""
        why = "refused by the collector" if isinstance(error, RecordRefused) else "not confirmed in time"
        why = "the disk would not" if isinstance(error, OSError) and not isinstance(error, TimeoutError) else why
        why = "the call that it interrupts has to end first" if isinstance(error, RecordDeferred) else why
        if self.refuses(event_class):
            raise AuditRefused(
                f"The action is refused: its audit record is not durable ({why}).",
                remedy="Check the audit spool's disk and the collector, then try again.",
            ) from error
        _log.error("An audit record of class %s is kept but not as durable as asked (%s).", event_class, why)

    def _current(self) -> _Incarnation:
        current = self._incarnation
        # getpid on every write: a fork that went around Python's hooks must not write into the parent's stream.
        if current is not None and current.pid == os.getpid() and not current.stream.closed:
            return current
        return self._renew()

    def _renew(self) -> _Incarnation:
        pid = os.getpid()
        # One lock per process id: an inherited one may be held by a thread that does not exist here.
        with self._locks.setdefault(pid, threading.RLock()):
            current = self._incarnation
            if current is not None and current.pid != pid:
                fork.forget_inherited()
                self._incarnation = current = None
                # The fork went around Python's hooks, and with them around Python's repair of locks and threads: a
                # thread started here may hang. Records go to the spool all the same, and another process ships them.
                self._threadless_pid = pid
            if current is None or current.stream.closed:
                fresh = _Incarnation(self.settings, self._process_resource())
                if self._incarnation is current:
                    self._incarnation = fresh
                    if pid != self._threadless_pid:
                        fresh.start()
                # Otherwise a signal handler has interrupted these lines and made one already.
                return self._incarnation or fresh
            return current

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until the collector has acknowledged everything recorded so far by this process.

        Returns:
            True only when it has; False when ``timeout`` seconds passed first, or it refused records meanwhile. False
            loses nothing: the spool keeps what is not acknowledged, and what is refused.
        """
        current = self._incarnation
        if current is None or current.pid != os.getpid() or not current.stream.opened:
            return True
        shipper = current.shipping.shipper
        refused = shipper.refused_records
        try:
            current.shipping.receipt(current.stream.position).result(timeout)
        except (FutureTimeoutError, RecordRefused, OSError):
            return False
        return shipper.refused_records == refused

    def close(self) -> None:
        """End the stream in order: write ``audit.stream.closed``, make it durable, and ship for a short while.

        What the collector has not acknowledged by then stays in the spool, for any later process or ``auditspan spool
        ship``. A record after this opens another stream.
        """
        current = self._incarnation
        if current is None or current.pid != os.getpid():
            return
        self._incarnation = None
        try:
            current.stream.close()
        except Exception as error:  # the rest must come to its end, or the lock keeps the stream from adoption
            note_fault("close", error, "the stream ends without its last record, as that of a killed process does")
        current.durability.stop()
        delivered = self._ship_last(current)
        current.shipping.stop()
        # A shipper still inside a request may write the cursor: then the stream's files stay.
        current.stream.release(delivered=delivered and not current.shipping.alive)

    def _ship_last(self, current: _Incarnation) -> bool:
        """Ship until all is acknowledged, the time is over, or the collector has shown twice that it is not there."""
        if not current.stream.opened:
            return False
        receipt = current.shipping.receipt(current.stream.position)
        deadline = time.monotonic() + self.settings.exit_timeout
        failures = current.shipping.shipper.failures
        while current.shipping.alive and time.monotonic() < deadline:
            with contextlib.suppress(FutureTimeoutError, RecordRefused, OSError):
                receipt.result(0.02)
            if receipt.done() or current.shipping.shipper.failures >= failures + 2:
                break
        return current.shipping.acknowledged >= current.stream.position

    def before_fork(self, timeout: float) -> bool:
        """Hold renewals and appends still, so that the child inherits a consistent picture to forget."""
        renewal = self._locks.setdefault(os.getpid(), threading.RLock())
        if not renewal.acquire(timeout=timeout):
            return False
        current = self._incarnation
        if current is not None and not current.stream.lock.acquire(timeout=timeout):
            renewal.release()
            return False
        self._held = [renewal] if current is None else [current.stream.lock, renewal]
        return True

    def after_fork_in_parent(self) -> None:
        """Let appends go on."""
        held, self._held = self._held, []
        for lock in held:
            lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's stream, threads, locks and connection."""
        current, self._incarnation = self._incarnation, None
        self._locks = {}
        self._held = []
        if current is not None:
            current.shipping.forget()


def _default_resource() -> Resource:
    """The resource that the SDK would give its own spans, detectors of the environment included."""
    try:
        return Resource.create()
    except RuntimeError:
        # At interpreter exit the SDK can no longer run its detectors; a late record still needs a stream.
        return _resource_of_environment()


def _resource_of_environment() -> Resource:
    """What ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME`` say, read without threads."""
    return Resource({"service.name": "unknown_service"}).merge(OTELResourceDetector().detect())


def _exit_with(recorder: Recorder) -> None:
    reference = weakref.ref(recorder)

    def close() -> None:
        alive = reference()
        if alive is not None:
            alive.close()

    atexit.register(close)


_recorder: Recorder | None = None
_recorder_lock = threading.RLock()


def get_recorder() -> Recorder:
    """The process's recorder, made from the environment at the first call.

    Raises:
        SettingsError: a variable of the environment cannot be used.
    """
    global _recorder  # noqa: PLW0603
    if _recorder is None:
        with _recorder_lock:
            if _recorder is None:
                made = Recorder()
                # A signal handler may have made one meanwhile.
                _recorder = _recorder or made
    return _recorder


def set_recorder(recorder: Recorder | None) -> None:
    """Replace the process's recorder, for applications that configure in code and for tests."""
    global _recorder  # noqa: PLW0603
    _recorder = recorder
