"""What a process does for one partition that it owns, in a thread of its own that can be told to end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import Journal, JournalUnavailable
from auditspan.store.contract import Store, StoreUnavailable

from .batch import LogContext
from .flagged import FlaggedPublisher
from .metrics import ProcessorMetrics
from .processor import BatchLimits, LogProcessor
from .references import References

__all__ = ["Parts", "Role", "Stopping"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


class Stopping(BaseException):
    """Unwinds a role that waits while it is told to end. No error: nothing may swallow it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What all roles of a process share. ``store_factory`` makes a store with a client of its own.

    ``keys`` are those whose signatures count, this process's own first.
    """

    journal: Journal
    store_factory: Callable[[], Store]
    salt_key: bytes
    deployment: str
    keys: Sequence[Ed25519PublicKey]
    references: References
    metrics: ProcessorMetrics
    limits: BatchLimits
    publisher: FlaggedPublisher | None
    clock: Callable[[], int]

    def __repr__(self) -> str:
        return f"Parts(deployment={self.deployment!r})"


class Role:
    """One partition's thread. Subclasses say what it does in `run`.

    It ends when it is told to `finish` and has done what the journal holds, when it is told to `stop` and has ended or
    abandoned its batch, or by an error, which is then `failure`.
    """

    def __init__(self, partition: str, parts: Parts) -> None:
        self.partition = partition
        self.parts = parts
        self.failure: BaseException | None = None
        self.processor: LogProcessor | None = None
        self._waits_for = "it has not begun"
        self._running = threading.Event()
        self._finishing = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name=f"auditspan-{partition}", daemon=True)

    def run(self, store: Store) -> None:
        """The work, until it is told to end. ``store`` is this thread's own."""
        raise AssertionError("a role says what it does")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """End once the journal holds nothing more for it."""
        self._finishing.set()

    def stop(self) -> None:
        """End after the batch at hand; abandon it where it waits, which loses nothing."""
        self._stop.set()

    def join(self, timeout: float) -> bool:
        """Wait for the end; whether it came."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the thread is still there."""
        return self._thread.is_alive()

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop: it ends, and does not begin again."""
        return self._stop.is_set()

    @property
    def running(self) -> bool:
        """Whether it has taken over its partition and works."""
        return self._running.is_set() and self.failure is None

    @property
    def trouble(self) -> str:
        """Why it does not get on; empty while it does."""
        if self.failure is not None:
            return f"{self.partition} stopped: {self.failure}"
        if not self._running.is_set():
            return f"{self.partition} is not taken over yet: {self._waits_for}"
        processor = self.processor
        if processor is not None and processor.trouble:
            return f"{self.partition} waits: {processor.trouble}"
        if processor is not None and processor.lost_from is not None:
            return (
                f"{self.partition}: the journal lost entries from {processor.lost_from} on that were not sealed, see "
                "audit.gap in the log. Restart this process to acknowledge it."
            )
        return ""

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            Stopping: it is told to stop.
        """
        if self._stop.wait(seconds):
            raise Stopping

    def insist(self, act: Callable[[], _Result]) -> _Result:
        """``act`` until journal and store are there."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return act()
            except (StoreUnavailable, JournalUnavailable) as error:
                self._waits_for = str(error)
                _log.warning("%s: %s Trying again in %.1f s.", self.partition, error, pause)
                self.pause(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def wait_for(self, act: Callable[[], _Result | None], what: str) -> _Result:
        """What ``act`` gives once it is not None."""
        while True:
            result = self.insist(act)
            if result is not None:
                return result
            self._waits_for = what
            self.pause(_FIRST_PAUSE)

    def processor_of(self, store: Store, context: LogContext, **options: Any) -> LogProcessor:
        """A processor of this partition's log, restored from the store."""
        return LogProcessor(
            self.parts.journal,
            store,
            context,
            self.parts.metrics.of(self.partition),
            sleep=self.pause,
            limits=self.parts.limits,
            **options,
        )

    def _guarded(self) -> None:
        store: Store | None = None
        try:
            store = self.insist(self.parts.store_factory)
            self.run(store)
        except Stopping:
            _log.info("%s stopped while it waited.", self.partition)
        except BaseException as error:  # whatever ends a role ends the process, or it would look healthy
            self.failure = error
            _log.critical("%s stopped: %s", self.partition, error, exc_info=not isinstance(error, AuditSpanError))
        finally:
            if store is not None:
                store.close()
