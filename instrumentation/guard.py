"""A bug in a hook must never break the call it watches: it is counted, told, and the call goes on.

What it may have cost decides the rest. A fault that only makes a record poorer is no more than a fault (``guarded``).
One that may have cost a record is told in an ``audit.gap`` record (``note_loss``), and where it leaves open whether a
call is one to record, a ``fail_closed`` class refuses the call (``recognised``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from .faults import FAULTS, note_fault
from .recorder import AuditRefused, Recorder, get_recorder

__all__ = [
    "FAULTS",
    "closes",
    "guarded",
    "note_fault",
    "note_loss",
    "recognised",
    "refuse_after_fault",
    "refuses",
]

P = ParamSpec("P")
T = TypeVar("T")

_REASON: Final = "hook_fault"
"""``audit.gap.reason`` of what a fault in a hook has cost."""


def note_loss(place: str, error: BaseException, recorder: Recorder | None = None) -> None:
    """Count a fault that may have cost a record, which an ``audit.gap`` record then tells.

    Where no recorder can be had, the count and the log are all there is.
    """
    note_fault(place, error)
    try:
        (recorder or get_recorder()).lose(_REASON)
    except Exception as unreachable:  # whatever keeps the recorder from us has cost the record too
        note_fault("gap", unreachable)


def refuses(event_class: str, recorder: Recorder | None = None) -> bool:
    """Whether a class is ``fail_closed``, also when the recorder cannot be had: then the environment says it."""
    try:
        return (recorder or get_recorder()).refuses(event_class)
    except Exception as error:  # whatever it was, the environment can still say it
        # No record was lost here: whoever asks has counted his.
        note_fault("settings", error)
        named = os.environ.get("AUDITSPAN_FAIL_CLOSED", "").split(",")
        return event_class in {name.strip() for name in named}


def closes(event_class: str, recorder: Recorder | None = None) -> bool:
    """Whether this class is enforced and no decision means no action, also when the recorder cannot be had."""
    try:
        used = recorder or get_recorder()
        return used.enabled and used.settings.enforcement.closes(event_class)
    except Exception as error:  # as in `refuses`
        note_fault("settings", error)
        named = os.environ.get("AUDITSPAN_ENFORCE", "").split(",")
        closed = os.environ.get("AUDITSPAN_ENFORCE_WITHOUT_DECISION", "").strip() == "closed"
        return closed and event_class in {name.strip() for name in named}


def refuse_after_fault(event_class: str, error: Exception, refuses: bool) -> None:
    """After a fault that may have cost a record: nothing, unless the class is ``fail_closed``.

    Raises:
        AuditRefused: ``refuses`` is true: without its record the action must not happen, whatever the reason.
    """
    if refuses:
        raise AuditRefused(
            f"The action is refused: a fault in the audit hook may have cost its {event_class} record "
            f"({type(error).__name__}).",
            remedy="Look for the fault in the log of this process, and report it.",
        ) from error


def guarded(place: str, default: T, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``function(*args, **kwargs)``, or ``default`` when it fails.

    For what enriches a record: with the default it is written all the same, so that a fault here costs none.
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:  # a bug of ours can be of any type, and none is the host's problem
        note_fault(place, error)
        return default


def recognised(
    place: str,
    event_class: str,
    recorder: Recorder | None,
    default: T,
    function: Callable[P, T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """``function(*args, **kwargs)``, which tells whether a call is one to record; ``default`` when it fails.

    Raises:
        AuditRefused: it failed, and the call may be one whose record must be there (``fail_closed``), or that nobody
            has decided on (enforced, and closed without a decision).
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:  # as in `guarded`; but here the record hangs on it
        note_loss(place, error, recorder)
        refuse_after_fault(event_class, error, refuses(event_class, recorder) or closes(event_class, recorder))
        return default
