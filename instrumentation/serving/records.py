"""Writing the records of one access: the start where there is one, and the outcome, each at most once."""

from __future__ import annotations

import time

from ...semconv import EventClass, Outcome
from ..encode import AttributeValue
from ..guard import guarded, note_fault, note_loss, refuse_after_fault
from ..recorder import AuditRefused, Recorder, RecordId
from ..settings import Mode
from .access import Access

__all__ = ["AccessRecords"]

_CLASS = EventClass.MODEL_ACCESS.value


class AccessRecords:
    """The records of one access.

    In mode ``local`` a record is a write to the kernel and is made in line; any other mode awaits the disk or the
    collector off the event loop.
    """

    def __init__(self, recorder: Recorder, access: Access) -> None:
        self._recorder = recorder
        self._access = access
        self._in_line = recorder.settings.mode_for(_CLASS) is Mode.LOCAL
        self._start_id: RecordId | None = None
        self.started = False
        self.ended = False

    async def start(self) -> None:
        """Record that the access has begun.

        Raises:
            AuditRefused: the class is ``fail_closed`` and the record cannot be made durable.
        """
        if not self.started:
            self.started = True
            self._start_id = await self._write(Outcome.STARTED)

    async def end(self, outcome: Outcome) -> None:
        """Record how the access ended; later calls do nothing.

        Raises:
            AuditRefused: as ``start``, and only when nothing of the response was handed on. Once it was, the start
                record says that the access happened, and an end that cannot be recorded is "outcome unknown".
        """
        if self.ended:
            return
        self.ended = True
        try:
            await self._write(outcome)
        except AuditRefused as refusal:
            self._refused_at_end(refusal)

    def end_now(self, outcome: Outcome) -> None:
        """As ``end``, for a task that is being torn down and must not await: the record is in the kernel."""
        if self.ended:
            return
        self.ended = True
        try:
            self._write_now(outcome, Mode.LOCAL)
        except AuditRefused as refusal:
            self._refused_at_end(refusal)

    def _refused_at_end(self, refusal: AuditRefused) -> None:
        if not self.started:
            raise refusal
        # Not a loss of its own: whoever refuses has counted it, or has the record in the spool.
        note_fault("serving.outcome", refusal)

    async def _write(self, outcome: Outcome) -> RecordId | None:
        if self._in_line:
            return self._write_now(outcome, None)
        access = self._access
        try:
            return await self._recorder.record_async(
                _CLASS,
                self._attributes(outcome),
                start_time=access.started,
                end_time=time.time_ns(),
                parent=access.parent,
            )
        except AuditRefused:
            raise
        except Exception as error:  # a bug of ours is not the request's, unless its class is fail_closed
            note_loss("serving.record", error, self._recorder)
            refuse_after_fault(_CLASS, error, self._recorder.refuses(_CLASS))
            return None

    def _write_now(self, outcome: Outcome, mode: Mode | None) -> RecordId | None:
        access = self._access
        try:
            return self._recorder.record(
                _CLASS,
                self._attributes(outcome),
                start_time=access.started,
                end_time=time.time_ns(),
                mode=mode,
                parent=access.parent,
            )
        except AuditRefused:
            raise
        except Exception as error:  # a bug of ours is not the request's, unless its class is fail_closed
            note_loss("serving.record", error, self._recorder)
            refuse_after_fault(_CLASS, error, self._recorder.refuses(_CLASS))
            return None

    def _attributes(self, outcome: Outcome) -> dict[str, AttributeValue]:
        access = self._access
        least = access.least_attributes(outcome)
        return guarded("serving.attributes", least, access.attributes, outcome, self._start_id)
