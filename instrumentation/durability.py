"""The background thread that makes a stream durable, tells gaps that are due, and keeps its heartbeat.

One ``fdatasync`` serves every record appended before it (group commit): alone it allows some thousand records a
second, in groups some hundred thousand.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from .faults import note_fault
from .spool import Position
from .stream import Stream

__all__ = ["DurabilityThread"]

_log = logging.getLogger(__name__)
_RETRY_GAPS_SECONDS = 0.25
_TROUBLE_SECONDS = 1.0


class DurabilityThread:
    """Group commit for one stream.

    Args:
        stream: the stream.
        interval: longest time in seconds between an append and its ``fdatasync`` when nobody waits for it.
        heartbeat: seconds between heartbeats; 0 for none.
    """

    def __init__(self, stream: Stream, interval: float, heartbeat: float) -> None:
        self._stream = stream
        self._interval = interval
        self._heartbeat = heartbeat
        self._dirty = False
        # A SimpleQueue, since its put may interrupt itself: signal handlers and finalizers record too, and the locks of
        # an Event would stop them for ever.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._stopping = False
        self._waiters: deque[tuple[Position, Future[None]]] = deque()
        self._sync_lock = threading.RLock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; at interpreter exit, where no thread can start, callers that wait sync for themselves."""
        thread = threading.Thread(target=self._run, name="auditspan-durability", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return
        self._thread = thread

    def touch(self) -> None:
        """Something was appended."""
        if not self._dirty:
            self._dirty = True
            self._wake.put(None)

    def durable(self, position: Position) -> Future[None]:
        """A future that ends when ``position`` is on the disk, with OSError when the disk would not."""
        future: Future[None] = Future()
        self._waiters.append((position, future))
        self._dirty = True
        self._wake.put(None)
        if self._thread is None or not self._thread.is_alive():
            self._sync()
        return future

    def stop(self) -> None:
        """Sync once more and end the thread."""
        self._stopping = True
        self._wake.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        self._sync()

    def _wait(self, seconds: float) -> None:
        """Until somebody wakes the thread, or so many seconds."""
        with contextlib.suppress(Empty):
            self._wake.get(timeout=None if seconds == float("inf") else max(seconds, 0.0))
            while True:
                self._wake.get_nowait()

    def _run(self) -> None:
        next_heartbeat = time.monotonic() + self._heartbeat if self._heartbeat else float("inf")
        while not self._stopping:
            try:
                pause = 0.0 if self._dirty else next_heartbeat - time.monotonic()
                self._wait(min(pause, _RETRY_GAPS_SECONDS) if self._stream.lost else pause)
                if self._stream.lost and self._stream.tell_gaps():
                    self._dirty = True
                if time.monotonic() >= next_heartbeat:
                    self._stream.heartbeat()
                    self._dirty = True
                    next_heartbeat = time.monotonic() + self._heartbeat
                self._sync_when_due()
            except Exception as error:  # without this thread nothing is durable, whatever else it cannot do
                note_fault("durability", error, "it is tried again")
                self._only_sync(_TROUBLE_SECONDS)

    def _only_sync(self, seconds: float) -> None:
        """Leave gaps and heartbeats alone for so many seconds; what is appended becomes durable as ever."""
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            self._sync_when_due()
            self._wait(until - time.monotonic())

    def _sync_when_due(self) -> None:
        if self._dirty:
            until = time.monotonic() + self._interval
            while not self._waiters and not self._stopping and time.monotonic() < until:
                self._wait(until - time.monotonic())
            self._sync()

    def _sync(self) -> None:
        """Sync, and tell those who wait; never raises."""
        with self._sync_lock:
            self._dirty = False
            waiting: list[tuple[Position, Future[None]]] = []
            with contextlib.suppress(IndexError):
                while True:
                    position, future = self._waiters.popleft()
                    if future.set_running_or_notify_cancel():
                        waiting.append((position, future))
            try:
                reached = self._stream.sync()
            except OSError as error:
                _log.error("The audit spool cannot be made durable (%s); check the disk.", error.strerror)
                for _, future in waiting:
                    future.set_exception(error)
                return
            except Exception as error:  # whoever waits must hear of it, in the one way that he looks for
                note_fault("durability", error, "what waits for it is not durable")
                for _, future in waiting:
                    future.set_exception(OSError(f"a fault of AuditSpan ({type(error).__name__})"))
                return
            for position, future in waiting:
                if position <= reached:
                    future.set_result(None)
                else:
                    future.set_exception(OSError(f"the spool reached {reached}, not {position}"))
