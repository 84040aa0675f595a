"""The background thread that ships the process's own stream, then those of dead processes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from opentelemetry.instrumentation.utils import suppress_instrumentation

from .adoption import adopt
from .settings import InstrumentationSettings
from .shipper import GapSink, Shipper, ShippingStopped
from .spool import Position
from .spool_reader import Batch, Record, SpoolReader
from .stream import Stream

__all__ = ["RecordRefused", "ShippingThread"]

_log = logging.getLogger(__name__)
_TROUBLE_SECONDS = 1.0


class RecordRefused(Exception):
    """The collector refused this record for good."""


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
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._receipts: list[tuple[Position, Future[None]]] = []
        self._acknowledged: Position = (0, 0)
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
        if not self._work.is_set():
            self._work.set()

    def receipt(self, position: Position) -> Future[None]:
        """A future that ends when the record ending at ``position`` is acknowledged, or with ``RecordRefused``."""
        future: Future[None] = Future()
        with self._lock:
            if self._acknowledged >= position:
                future.set_result(None)
                return future
            self._receipts.append((position, future))
        self._work.set()
        self._hurry.set()
        return future

    def stop(self) -> None:
        """Ask the thread to end and wait for the request that is on its way, no longer than its timeout."""
        self._stopping = True
        self._hurry.set()
        self._work.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=self._settings.exit_timeout + 0.5)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def forget(self) -> None:
        """In a forked child: drop the inherited connection; the thread itself stayed in the parent."""
        self.shipper.client.forget()

    def _pause(self, seconds: float) -> bool:
        """Back off; somebody who waits for a receipt cuts it short once."""
        if self._hurry.wait(seconds):
            self._hurry.clear()
        return self._stopping

    def _run(self) -> None:
        with suppress_instrumentation():
            next_adoption = 0.0
            reader: SpoolReader | None = None
            while not self._stopping:
                self._work.clear()
                try:
                    stream = self._stream()
                    if stream is not None and stream.opened:
                        if reader is None or reader.stream != stream.id:
                            reader = SpoolReader(stream.directory, live=True)
                        self.shipper.ship(reader, self._progress)
                    if time.monotonic() >= next_adoption:
                        adopt(self._settings.spool_directory, self.shipper, self._own_id)
                        next_adoption = time.monotonic() + self._settings.adoption_interval
                except ShippingStopped:
                    break
                except OSError as error:
                    _log.error("The audit spool cannot be shipped now (%s); trying again.", error)
                    self._work.clear()
                    self._work.wait(_TROUBLE_SECONDS)
                    continue
                self._work.wait(max(next_adoption - time.monotonic(), 0.0))
            self.shipper.client.close()

    def _own_id(self) -> str | None:
        stream = self._stream()
        return None if stream is None else stream.id

    def _progress(self, batch: Batch, refused: list[Record]) -> None:
        bad = {record.position for record in refused}
        with self._lock:
            self._acknowledged = batch.end
            done = [item for item in self._receipts if item[0] <= batch.end]
            self._receipts = [item for item in self._receipts if item[0] > batch.end]
        for position, future in done:
            if future.set_running_or_notify_cancel():
                if position in bad:
                    future.set_exception(RecordRefused())
                else:
                    future.set_result(None)
