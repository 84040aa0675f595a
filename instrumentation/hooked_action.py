"""An intent before and an outcome after a call that a hook watches; it never breaks the call, unless it refuses it.

A call of an enforced class is decided first, and one that is refused leaves one record, with the outcome ``denied``.
"""

from __future__ import annotations

import threading
import time

from .. import semconv
from ..semconv import EventClass, Outcome
from .encode import AttributeValue
from .enforcement.enforcer import ExportRefused, permit
from .guard import closes, note_fault, note_loss, refuse_after_fault, refuses
from .recorder import AuditRefused, Recorder, RecordId, get_recorder

__all__ = ["HookedAction", "type_of_error"]


def type_of_error(error: BaseException) -> str:
    """``error.type``: the class of an exception; its text could hold what must not be recorded."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class HookedAction:
    """One action with its two records; ``end`` may come from any thread, and counts once.

    Args:
        event_class: class of both records.
        attributes: attributes of both.
        recorder: the process's when None.
    """

    def __init__(
        self, event_class: EventClass, attributes: dict[str, AttributeValue], *, recorder: Recorder | None = None
    ) -> None:
        self._class = event_class.value
        self.attributes = attributes
        self._recorder = recorder
        self._lock = threading.Lock()
        self._ended = False
        self._intent: RecordId | None = None
        self._started = 0

    def begin(self) -> None:
        """Ask whether it may happen, where its class is enforced, and write the intent.

        Raises:
            ExportRefused: it may not.
            AuditRefused: the class is ``fail_closed`` and the intent cannot be made durable; the action must not be.
        """
        self._permitted()
        self._started = time.time_ns()
        self._intent = self._record({semconv.AUDIT_OUTCOME: Outcome.STARTED.value}, self._started)

    def end(self, outcome: Outcome, more: dict[str, AttributeValue] | None = None) -> None:
        """Write the outcome; never raises, as the action has happened."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        last = {**(more or {}), semconv.AUDIT_OUTCOME: outcome.value, semconv.AUDIT_INTENT_ID: self._intent}
        try:
            self._record(last, self._started)
        except AuditRefused as refusal:
            # Not a loss of its own: whoever refuses has counted it, or has the record in the spool.
            note_fault(f"{self._class}.outcome", refusal)

    def only(self, outcome: Outcome) -> None:
        """As ``begin``, with a single record, of an action that is its own intent.

        Raises:
            AuditRefused: as ``begin``.
        """
        self._permitted()
        self._record({semconv.AUDIT_OUTCOME: outcome.value}, time.time_ns())

    def _permitted(self) -> None:
        try:
            self.attributes |= permit(self._class, self.attributes, self._recorder or get_recorder())
        except ExportRefused as refusal:
            self._refused(refusal)
            raise
        except Exception as error:  # no recorder, or a bug of ours: the caller's problem only where that means no
            note_fault(f"{self._class}.enforcement", error)
            refuse_after_fault(self._class, error, closes(self._class, self._recorder))

    def _refused(self, refusal: ExportRefused) -> None:
        try:
            self._record({**refusal.attributes, semconv.AUDIT_OUTCOME: Outcome.DENIED.value}, time.time_ns())
        except AuditRefused as unrecorded:
            # It is refused all the same; whoever cannot record it has counted that.
            note_fault(f"{self._class}.refusal", unrecorded, "the action is refused")

    def _record(self, more: dict[str, AttributeValue], start: int) -> RecordId | None:
        try:
            recorder = self._recorder or get_recorder()
            return recorder.record(self._class, {**self.attributes, **more}, start_time=start)
        except AuditRefused:
            raise
        except Exception as error:  # a bug of ours is not the caller's, unless the class is fail_closed
            note_loss(f"{self._class}.record", error, self._recorder)
            refuse_after_fault(self._class, error, refuses(self._class, self._recorder))
            return None
