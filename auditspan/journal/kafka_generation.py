"""The end of a log generation, for those who still append to it: nothing is acknowledged that nobody would seal.

A generation ends when the topic of the next one exists. Whoever appends looks for that topic again and again, and
acknowledges only on the strength of a look that is young enough; whoever closes the logs waits for longer than such a
look is worth before asking where they end. So what was acknowledged lies below that end, also when the collector was
paused meanwhile or a broker does not know yet. Clocks are only asked how much time has passed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from auditspan.journal.contract import JournalUnavailable

__all__ = ["LEASE", "SETTLED", "Fence", "boot_time"]

_log = logging.getLogger(__name__)

LEASE: Final = 15.0
"""Seconds for which a look that found no later generation is good."""
SETTLED: Final = 3 * LEASE
"""Seconds after which nobody acknowledges on the strength of a look from before the next generation existed."""
_EVERY: Final = 2.0
_CLOSE_WITHIN: Final = 5.0


def boot_time() -> float:
    """Seconds that have passed, those in which the machine slept included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Fence:
    """Looks for the next generation in a thread of its own. Safe to ask from several threads.

    Args:
        look: whether the next generation exists; raises when nobody can say.
        what: the topic of the generation that is appended to, for messages.
        current_at: `boot_time` at which there was no later generation.
        lease: seconds that a look is good for.
        every: seconds between two looks.
    """

    def __init__(
        self, look: Callable[[], bool], what: str, current_at: float, lease: float = LEASE, every: float = _EVERY
    ) -> None:
        self._look = look
        self._what = what
        self._lease = lease
        self._every = every
        self._ended = False
        self._current_at = current_at
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="auditspan-kafka-generation", daemon=True)
        self._thread.start()

    def refusal(self) -> JournalUnavailable | None:
        """Why nothing may be acknowledged now; None while it may."""
        if self._ended:
            return JournalUnavailable(
                f"The generation of Kafka topic {self._what} has ended: the topic of the next one exists.",
                remedy="Set journal.partitions to the number of its partitions, see `auditspan kafka check`, and "
                "restart every process.",
            )
        if boot_time() - self._current_at > self._lease:
            return JournalUnavailable(
                f"Whether the generation of Kafka topic {self._what} has ended "
                f"is not known for more than {self._lease:g} s.",
                remedy="See that the brokers of journal.url answer, and that an ACL grants Describe on topics that "
                "begin with kafka.topic.",
            )
        return None

    def guarded(self, append: Future[list[int]]) -> Future[list[int]]:
        """The outcome of ``append``, unless nothing may be acknowledged by then."""
        outcome: Future[list[int]] = Future()
        append.add_done_callback(lambda done: self._settle(done, outcome))
        return outcome

    def close(self) -> None:
        """End the looking."""
        self._closing.set()
        self._thread.join(_CLOSE_WITHIN)

    def _settle(self, done: Future[list[int]], outcome: Future[Any]) -> None:
        error = done.exception() or self.refusal()
        if not outcome.set_running_or_notify_cancel():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(done.result())

    def _watch(self) -> None:
        while not self._closing.wait(self._every):
            # What is found holds for the moment in which it was asked, not for the one of the answer.
            asked_at = boot_time()
            try:
                ended = self._look()
            except Exception as error:  # whatever it is: without this thread nothing would be acknowledged ever again
                _log.warning(
                    "Whether the generation of Kafka topic %s has ended is not known now: %s", self._what, error
                )
                continue
            if ended:
                _log.critical(
                    "The generation of Kafka topic %s has ended: nothing more is accepted into it.", self._what
                )
                self._ended = True
                return
            self._current_at = asked_at
