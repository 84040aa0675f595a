"""From the spool to the collector: send, and forget only what was acknowledged.

Trouble that passes is waited out where it happened, with back-off and jitter. When a collector refuses spans without
saying which, the batch is halved until single spans tell; those refused are moved to a file of their own and told in
an ``audit.gap`` record.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from .. import semconv
from ..semconv import EventClass
from .delivery import Answer, Client, Verdict, build_request
from .frames import MAGIC, FrameKind, encode_frame, join_header
from .settings import InstrumentationSettings
from .spool import REFUSED_DIRECTORY, sync_directory
from .spool_reader import Batch, Record, SpoolReader

__all__ = ["CollectorUnavailable", "GapSink", "Shipper", "ShippingInterrupted", "ShippingStopped"]

_log = logging.getLogger(__name__)
_CONTROL_CLASSES: Final = frozenset(
    {EventClass.GAP, EventClass.STREAM_OPENED, EventClass.STREAM_HEARTBEAT, EventClass.STREAM_CLOSED}
)
_LOG_EVERY_SECONDS: Final = 60.0


class ShippingInterrupted(Exception):
    """Shipping ends here, in order; nothing was forgotten."""


class ShippingStopped(ShippingInterrupted):
    """Asked to stop before the collector answered; nothing was forgotten."""


class CollectorUnavailable(ShippingInterrupted):
    """The collector does not acknowledge now, and the caller would not wait; nothing was forgotten."""


class GapSink(Protocol):
    """Takes note of records that will not reach the log as they are."""

    def __call__(self, reason: str, count: int, stream: str, first: int | None, last: int | None) -> None:
        """Record a gap durably; OSError when that is not possible now."""


@dataclass(frozen=True, slots=True)
class _Refused:
    record: Record
    reason: str


class Shipper:
    """Ships streams over one connection; for one thread.

    Args:
        settings: endpoint, token, limits.
        gaps: where refused and damaged records are told.
        wait: sleeps up to so many seconds, exactly when the collector has named the time; says whether to stop.

    Attributes:
        patient: whether trouble that passes is waited out; ``CollectorUnavailable`` is raised otherwise.
    """

    def __init__(self, settings: InstrumentationSettings, gaps: GapSink, wait: Callable[[float, bool], bool]) -> None:
        self._settings = settings
        self._gaps = gaps
        self._wait = wait
        self._next_log = 0.0
        self.patient = True
        self.client = Client(settings)
        self.failures = 0
        """Requests in a row that brought no acknowledgement."""
        self.acknowledged_records = 0
        self.refused_records = 0
        self.damaged = 0

    def ship(self, reader: SpoolReader, on_progress: Callable[[Batch, list[Record]], None] | None = None) -> None:
        """Send everything the reader has, advancing it batch by batch.

        Raises:
            ShippingStopped: asked to stop.
            CollectorUnavailable: the shipper is not patient.
            OSError: a refusal cannot be kept or told, so nothing can be forgotten.
        """
        while (batch := reader.next_batch(self._settings.batch_bytes, self._settings.batch_records)) is not None:
            refused = self._deliver(batch.resource, batch.scope, batch.records)
            if refused:
                self._keep_refused(reader.stream, batch, refused)
            for damage in batch.damaged:
                self.damaged += 1
                self._gaps("torn_tail" if damage.torn else "damaged", 1, reader.stream, None, None)
            reader.advance(batch.end)
            self.acknowledged_records += len(batch.records) - len(refused)
            self.refused_records += len(refused)
            if on_progress is not None:
                on_progress(batch, [item.record for item in refused])

    def _deliver(self, resource: bytes, scope: bytes, records: list[Record]) -> list[_Refused]:
        """Send records until each is acknowledged or refused by itself; those refused."""
        refused: list[_Refused] = []
        pending = [records] if records else []
        while pending:
            part = pending.pop()
            verdict = self._post(build_request(resource, scope, part)).verdict
            if verdict is Verdict.ACKNOWLEDGED:
                continue
            if len(part) > 1:
                middle = len(part) // 2
                pending += [part[middle:], part[:middle]]
            else:
                refused.append(_Refused(part[0], "oversize" if verdict is Verdict.TOO_LARGE else "rejected"))
        return refused

    def _post(self, body: bytes) -> Answer:
        """Post until there is an answer that lasts."""
        while True:
            answer = self.client.post(body)
            if answer.verdict is not Verdict.RETRY:
                self.failures = 0
                return answer
            self.failures += 1
            self._say(answer)
            if not self.patient:
                raise CollectorUnavailable
            ceiling = min(
                self._settings.backoff_initial * 2 ** min(self.failures - 1, 20), self._settings.backoff_limit
            )
            pause = random.uniform(ceiling / 2, ceiling)
            firm = answer.retry_after is not None
            if self._wait(pause if answer.retry_after is None else answer.retry_after, firm):
                raise ShippingStopped

    def _say(self, answer: Answer) -> None:
        now = time.monotonic()
        if self.failures >= 3 and now >= self._next_log:
            self._next_log = now + _LOG_EVERY_SECONDS
            _log.warning(
                "The audit collector at %s does not acknowledge (%s); records stay in the spool and are sent again.",
                self._settings.endpoint,
                answer.detail,
            )

    def _keep_refused(self, stream: str, batch: Batch, refused: list[_Refused]) -> None:
        """Move refused records into their own file, durably, then tell the gap; only then may the cursor pass them."""
        directory = self._settings.spool_directory / REFUSED_DIRECTORY
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / f"{stream}.spool"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            data = b"".join(encode_frame(FrameKind.RECORD, item.record.sequence, item.record.span) for item in refused)
            if os.fstat(descriptor).st_size == 0:
                data = MAGIC + encode_frame(FrameKind.HEADER, 1, join_header(batch.resource, batch.scope)) + data
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(directory)
        _log.error("The audit collector refused %d records; they are kept in %s.", len(refused), path)
        for reason in ("oversize", "rejected"):
            # A refused gap record gets no gap record of its own, or a collector that refuses all would never let it
            # end.
            lost = [item.record.sequence for item in refused if item.reason == reason and not _is_control(item.record)]
            if lost:
                self._gaps(reason, len(lost), stream, min(lost), max(lost))


def _is_control(record: Record) -> bool:
    try:
        attributes = Span.FromString(record.span).attributes
    except DecodeError:
        return False
    return any(
        pair.key == semconv.AUDIT_EVENT_CLASS and pair.value.string_value in _CONTROL_CLASSES for pair in attributes
    )
