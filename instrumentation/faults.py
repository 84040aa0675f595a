"""Faults of our own: counted by place and told in the log, once a minute at most for each place."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Final

__all__ = ["FAULTS", "note_fault"]

FAULTS: Final[Counter[str]] = Counter()
"""Faults since the process began, by place: of hooks, and of the threads that serve the recorder."""

_LOG_EVERY_SECONDS: Final = 60.0

# Re-entrant, since a signal handler's hook may fail as well.
_lock = threading.RLock()
_next_log: dict[str, float] = {}
_log = logging.getLogger(__name__)


def note_fault(place: str, error: BaseException, and_then: str = "the call goes on") -> None:
    """Count a fault that cost no record, or none that is not counted elsewhere; ``and_then`` tells people what follows.

    The log names the type of the error and where it arose, never its text: that could hold what must not be recorded.
    """
    now = time.monotonic()
    with _lock:
        FAULTS[place] += 1
        count = FAULTS[place]
        due = now >= _next_log.get(place, 0.0)
        if due:
            _next_log[place] = now + _LOG_EVERY_SECONDS
    if due:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
        _log.error(
            "A fault of AuditSpan in %s (%s%s; %d so far); %s.", place, type(error).__name__, where, count, and_then
        )
