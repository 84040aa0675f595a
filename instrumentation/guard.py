"""A bug in a hook must never break the call it watches: it is counted, told once per place, and the call goes on."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from .recorder import AuditRefused, Recorder, get_recorder

__all__ = ["FAULTS", "guarded", "note_fault", "refuse_after_fault", "refuses"]

P = ParamSpec("P")
T = TypeVar("T")

FAULTS: Final[Counter[str]] = Counter()
"""Faults of hooks since the process began, by place."""

_lock = threading.Lock()
_log = logging.getLogger(__name__)


def note_fault(place: str, error: BaseException) -> None:
    """Count a fault, and log the first of its place.

    The log names the type of the error and where it arose, never its text: that could hold what must not be recorded.
    """
    with _lock:
        FAULTS[place] += 1
        first = FAULTS[place] == 1
    if first:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
        _log.error(
            "The audit hook %s failed (%s%s); the call goes on. Further faults here are counted, not logged.",
            place,
            type(error).__name__,
            where,
        )


def refuses(event_class: str, recorder: Recorder | None = None) -> bool:
    """Whether a class is ``fail_closed``, also when the recorder cannot be had: then the environment says it."""
    try:
        return (recorder or get_recorder()).refuses(event_class)
    except Exception as error:
        note_fault("settings", error)
        named = os.environ.get("AUDITSPAN_FAIL_CLOSED", "").split(",")
        return event_class in {name.strip() for name in named}


def refuse_after_fault(event_class: str, error: Exception, refuses: bool) -> None:
    """After a fault that cost a record: nothing, unless the class is ``fail_closed``.

    Raises:
        AuditRefused: ``refuses`` is true: without its record the action must not happen, whatever the reason.
    """
    if refuses:
        raise AuditRefused(
            f"The action is refused: a fault in the audit hook cost its {event_class} record ({type(error).__name__}).",
            remedy="Look for the fault in the log of this process, and report it.",
        ) from error


def guarded(place: str, default: T, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``function(*args, **kwargs)``, or ``default`` when it fails."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        note_fault(place, error)
        return default
