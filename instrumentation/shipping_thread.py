"""The background thread that ships the process's own stream, then those of dead processes."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from opentelemetry.instrumentation.utils import suppress_instrumentation

from .adoption import adopt
from .faults import note_fault
from .settings import InstrumentationSettings
from .shipper import CollectorUnavailable, GapSink, Shipper, ShippingInterrupted, ShippingStopped
from .spool import Position
from .spool_reader import Batch, Record, SpoolReader
from .stream import Stream

__all__ = ["RecordRefused", "ShippingThread"]

_log = logging.getLogger(__name__)
_TROUBLE_SECONDS = 1.0
_REFUSALS_REMEMBERED = 10_000
"""A receipt may be asked for after its record was refused, but not long after."""


class RecordRefused(Exception):
    """The collector refused this record for good."""


class _OwnFirst(ShippingInterrupted):
    """The own stream has records: they go before those of the dead."""


class ShippingThread:
    """Ships for one process.

    Args:
        settings: endpoint, limits, intervals.
        stream: gives the process's own stream, None while it has none.
        gaps: where refused and damaged records are told.
    """

    def __init__(
        self,
        settings: InstrumentationSettings,
        stream: Callable[[], Stream | None],
        gaps: GapSink,
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._has_work = False
        # A SimpleQueue, since its put may interrupt itself: signal handlers and finalizers record too.
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._receipts: deque[tuple[Position, Future[None]]] = deque()
        self._acknowledged: Position = (0, 0)
        self._refused: deque[Position] = deque(maxlen=_REFUSALS_REMEMBERED)
        self.shipper = Shipper(settings, gaps, self._pause)

    @property
    def acknowledged(self) -> Position:
        """Up to where the own stream is acknowledged."""
        return self._acknowledged

    def start(self) -> None:
        """Begin; at interpreter exit, where no thread can start, records stay in the spool to be adopted."""
        thread = threading.Thread(target=self._run, name="auditspan-shipper", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return
        self._thread = thread

    def touch(self) -> None:
        """Something was appended to the own stream."""
        if not self._has_work:
            self._has_work = True
            self._wake.put(False)

    def receipt(self, position: Position) -> Future[None]:
        """A future that ends when the record ending at ``position`` is acknowledged, or with ``RecordRefused``.

        It ends with OSError at once when nobody ships any more.
        """
        future: Future[None] = Future()
        self._receipts.append((position, future))
        self._wake.put(True)
        if not self.alive:
            self._settle(OSError("the process ends and ships no more"))
        return future

    def stop(self) -> None:
        """Ask the thread to end and wait for the request that is on its way, no longer than its timeout."""
        self._stopping = True
        self._wake.put(True)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=self._settings.exit_timeout + 0.5)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def forget(self) -> None:
        """In a forked child: drop the inherited connection; the thread itself stayed in the parent."""
        self.shipper.client.forget()

    def _wait(self, seconds: float) -> bool:
        """Until somebody wakes the thread, or so many seconds; whether somebody waits for a receipt."""
        hurry = False
        with contextlib.suppress(Empty):
            hurry = self._wake.get(timeout=max(seconds, 0.0))
            while True:
                hurry = self._wake.get_nowait() or hurry
        return hurry

    def _pause(self, seconds: float, firm: bool) -> bool:
        """Back off. Unless the collector named the time, somebody who waits for a receipt cuts it short once."""
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            if self._wait(until - time.monotonic()) and not firm:
                break
        return self._stopping

    def _run(self) -> None:
        with suppress_instrumentation():
            next_adoption = 0.0
            reader: SpoolReader | None = None
            while not self._stopping:
                self._has_work = False
                try:
                    stream = self._stream()
                    if stream is not None and stream.opened:
                        if reader is None or reader.stream != stream.id:
                            reader = SpoolReader(stream.directory, live=True)
                        self.shipper.ship(reader, self._progress)
                    self._settle()
                    if time.monotonic() >= next_adoption and self._adopt():
                        next_adoption = time.monotonic() + self._settings.adoption_interval
                except ShippingStopped:
                    break
                except OSError as error:
                    _log.error("The audit spool cannot be shipped now (%s); trying again.", error)
                    self._pause(_TROUBLE_SECONDS, firm=True)
                    continue
                except Exception as error:  # while this process lives, nobody else ships what is in its spool
                    note_fault("shipping", error, "the records stay in the spool, and are tried again")
                    # Where the fault struck is not known: read the cursor anew.
                    reader = None
                    self._pause(_TROUBLE_SECONDS, firm=True)
                    continue
                if not self._has_work:
                    self._wait(next_adoption - time.monotonic())
            self.shipper.client.close()

    def _adopt(self) -> bool:
        """Ship what the dead have left, while the own stream has nothing; whether it is done for now."""
        # A dead stream is held only while it moves: another process may reach the collector when this one cannot.
        self.shipper.patient = False
        try:
            adopt(self._settings.spool_directory, self.shipper, self._own_id, self._own_first)
        except CollectorUnavailable:
            return True
        except _OwnFirst:
            return False
        finally:
            self.shipper.patient = True
        return True

    def _own_first(self, batch: Batch, refused: list[Record]) -> None:
        if self._stopping:
            raise ShippingStopped
        if self._has_work or self._receipts:
            raise _OwnFirst

    def _own_id(self) -> str | None:
        stream = self._stream()
        return None if stream is None else stream.id

    def _progress(self, batch: Batch, refused: list[Record]) -> None:
        self._refused.extend(record.position for record in refused)
        self._acknowledged = batch.end
        self._settle()

    def _settle(self, otherwise: OSError | None = None) -> None:
        """End the receipts that are decided; the others wait, or end with ``otherwise``."""
        for _ in range(len(self._receipts)):
            try:
                position, future = self._receipts.popleft()
            except IndexError:
                return
            if position > self._acknowledged and otherwise is None:
                self._receipts.append((position, future))
            elif future.set_running_or_notify_cancel():
                if position > self._acknowledged:
                    future.set_exception(otherwise)
                elif position in self._refused:
                    future.set_exception(RecordRefused())
                else:
                    future.set_result(None)
