"""One stream: the records of one incarnation of one process, numbered without holes and bounded by records of its own.

``audit.stream.opened`` is number 0, heartbeats say the last number, ``audit.stream.closed`` is the last. A number
whose record could not be written is never given again: the log sees the hole, and an ``audit.gap`` record says why as
soon as writing works.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from opentelemetry.sdk.resources import Resource

from .. import semconv
from ..semconv import EventClass, Outcome
from .encode import Attributes, encode_resource, encode_scope, encode_sequence, encode_span, new_record_id
from .frames import FRAME_OVERHEAD, join_header
from .settings import InstrumentationSettings
from .spool import Position, SpoolFull, SpoolWriter, spool_usage

__all__ = ["RecordDeferred", "RecordLost", "Stream"]

_CHECK_USAGE_SECONDS: Final = 1.0
_WRITING: Final = frozenset({"spool_full", "disk_full", "write_failed"})
"""Reasons of gaps that say that the spool cannot be written."""


class RecordLost(OSError):
    """A record is not in the spool. ``reason`` is the value of ``audit.gap.reason``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class RecordDeferred(Exception):
    """A record waits for the call that it interrupted, on the same thread: it cannot be as durable as asked by then."""


@dataclass(slots=True)
class _Gap:
    """Records lost for one reason since the last gap record."""

    count: int
    first: int
    last: int


def _reason(error: OSError) -> str:
    if isinstance(error, SpoolFull):
        return "spool_full"
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return "disk_full" if error.errno in full else "write_failed"


class Stream:
    """Numbers records and appends them to the spool; safe for threads, signal handlers and finalizers.

    Args:
        settings: where and how.
        resource: the process's resource; with the stream's id it is constant for the stream.
    """

    def __init__(self, settings: InstrumentationSettings, resource: Resource) -> None:
        self.id = secrets.token_hex(16)
        self.pid = os.getpid()
        self.directory = settings.spool_directory / self.id
        self.lock = threading.RLock()
        self.closed = False
        self.opened_once = False
        self._settings = settings
        self._header = join_header(encode_resource(resource, self.id), encode_scope())
        self._sequence = itertools.count(1)
        self._unused: list[int] = []
        self._last = 0
        self._writer: SpoolWriter | None = None
        self._nested = False
        self._deferred: deque[bytes] = deque()
        self._gaps: dict[str, _Gap] = {}
        self._usage = 0
        self._usage_until = 0.0
        self._appended_at_usage = 0

    @property
    def opened(self) -> bool:
        """Whether the stream exists on disk."""
        return self._writer is not None

    @property
    def position(self) -> Position:
        """Behind the last record; (0, 0) before the first."""
        return self._writer.position if self._writer is not None else (0, 0)

    @property
    def lost(self) -> int:
        """Records lost and not yet told in a gap record."""
        return sum(gap.count for gap in list(self._gaps.values()))

    @property
    def losing(self) -> bool:
        """Whether records were lost because the spool cannot be written, and it still cannot."""
        return not _WRITING.isdisjoint(list(self._gaps))

    def append(self, span: bytes, *, counted: bool = True) -> Position | None:
        """Number an encoded span and hand it to the kernel; its position, None when it is durable already.

        Raises:
            RecordLost: the record is not in the spool. When ``counted``, it has used its number up and will be told in
                a gap record; the stream's own records are not, they are only late.
            RecordDeferred: it interrupts the opening of the stream, and is appended when that is done.
        """
        if self._is_interrupting():
            self._append_nested(span)
            return None
        try:
            with self.lock:
                return self._append(span, limited=counted)
        except RecordLost as lost:
            if counted:
                self.lose(lost.reason)
            raise
        finally:
            if self._deferred:
                self._append_deferred()

    def _is_interrupting(self) -> bool:
        """Whether this thread is inside the critical section already: a signal handler or finalizer interrupted it."""
        return bool(self.lock._is_owned())  # type: ignore[attr-defined]

    def _append(self, span: bytes, *, limited: bool) -> Position:
        try:
            writer = self._ready()
            size = len(span) + FRAME_OVERHEAD
            if size > self._settings.record_limit:
                raise RecordLost("oversize", f"a record of {size} bytes is above the limit")
            if limited:
                # Before gaps are told: at the limit every loss would otherwise cost a gap record of its own.
                self._check_usage(writer, size)
            if self._gaps:
                self._tell_gaps(writer)
            return self._write(writer, span)
        except RecordLost:
            raise
        except OSError as error:
            raise RecordLost(_reason(error), f"the spool cannot be written: {error.strerror}") from error

    def _write(self, writer: SpoolWriter, span: bytes) -> Position:
        sequence = self._take_number()
        try:
            position = writer.append(sequence, span + encode_sequence(sequence))
        except OSError:
            self._unused.append(sequence)
            raise
        self._last = max(self._last, sequence)
        return position

    def _take_number(self) -> int:
        # Both steps are single operations of the interpreter, so an interruption cannot give a number out twice.
        try:
            return self._unused.pop()
        except IndexError:
            return next(self._sequence)

    def _append_nested(self, span: bytes) -> None:
        writer = self._writer
        if writer is None:
            # The interrupted call is opening the stream, and appends this when it has.
            self._deferred.append(span)
            raise RecordDeferred
        sequence = self._take_number()
        self._nested = True
        try:
            writer.append_nested(sequence, span + encode_sequence(sequence))
        except OSError as error:
            self._note_gap(_reason(error), sequence)
            raise RecordLost(_reason(error), f"the spool cannot be written: {error.strerror}") from error

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """The critical section, for all but ``append``: what interrupted it and had to wait is appended after it."""
        try:
            with self.lock:
                yield
        finally:
            if self._deferred and not self._is_interrupting():
                self._append_deferred()

    def _append_deferred(self) -> None:
        while self._deferred:
            try:
                span = self._deferred.popleft()
            except IndexError:  # another thread has taken the last one
                return
            try:
                self.append(span)
            except RecordLost:  # counted there
                continue
            except BaseException as error:  # nobody else knows of this record, whatever keeps it from the spool
                self.lose("write_failed")
                if not isinstance(error, Exception):
                    raise

    def _ready(self) -> SpoolWriter:
        """The writer, opened, with its length known."""
        writer = self._writer or self._open()
        if self._nested:
            self._nested = False
            writer.after_nested()
        return writer

    def _open(self) -> SpoolWriter:
        """Create the stream on disk with its record 0."""
        writer = SpoolWriter(self._settings.spool_directory, self.id, self._header, self._settings.segment_size)
        try:
            opened = _own_span(EventClass.STREAM_OPENED, {semconv.AUDIT_ACTION: "open"}, self.id)
            writer.append(0, opened + encode_sequence(0))
        except OSError:
            writer.discard()
            raise
        self._writer = writer
        self.opened_once = True
        return writer

    def _check_usage(self, writer: SpoolWriter, size: int) -> None:
        now = time.monotonic()
        if now >= self._usage_until:
            self._usage = spool_usage(self._settings.spool_directory)
            self._appended_at_usage = writer.appended_bytes
            self._usage_until = now + _CHECK_USAGE_SECONDS
        if self._usage + writer.appended_bytes - self._appended_at_usage + size > self._settings.spool_limit:
            # What the shipper has deleted since must count before a record is lost for it.
            self._usage_until = 0.0
            usage = spool_usage(self._settings.spool_directory)
            if usage + size > self._settings.spool_limit:
                raise SpoolFull

    def lose(self, reason: str) -> None:
        """Count a record that is lost before it could be written."""
        with self.lock:
            self._note_gap(reason, self._take_number())

    def _note_gap(self, reason: str, sequence: int) -> None:
        gap = self._gaps.setdefault(reason, _Gap(0, sequence, sequence))
        gap.count += 1
        gap.last = sequence

    def _tell_gaps(self, writer: SpoolWriter) -> None:
        for reason, gap in list(self._gaps.items()):
            self._write(writer, gap_span(reason, gap.count, self.id, gap.first, gap.last))
            del self._gaps[reason]

    def tell_gaps(self) -> bool:
        """Write the gap records that are due; whether none is left."""
        with self._held():
            if self._gaps:
                try:
                    writer = self._ready()
                    self._check_usage(writer, 0)
                    self._tell_gaps(writer)
                except OSError:
                    return False
            return not self._gaps

    def report_gap(self, reason: str, count: int, stream: str, first: int | None, last: int | None) -> None:
        """Record that ``count`` records of a stream, this or another, are lost or refused.

        Raises:
            RecordLost: the gap record itself could not be written; the caller tells it again later.
        """
        self.append(gap_span(reason, count, stream, first, last), counted=False)

    def heartbeat(self) -> None:
        """Say that the stream lives, and its last number; nothing when it never began."""
        self._tell_last(EventClass.STREAM_HEARTBEAT, "heartbeat")

    def close(self) -> None:
        """Write ``audit.stream.closed``, the last record; later ones belong to another stream."""
        with self._held():
            if not self.closed:
                # A stream that has nothing but losses is opened for them.
                self.tell_gaps()
                self._tell_last(EventClass.STREAM_CLOSED, "close")
                self.closed = True

    def _tell_last(self, event_class: EventClass, action: str) -> None:
        with self._held():
            if self.opened and not self.closed:
                attributes: Attributes = {
                    semconv.AUDIT_ACTION: action,
                    semconv.AUDIT_STREAM_LAST_SEQUENCE: self._last,
                }
                try:
                    self._append(_own_span(event_class, attributes, self.id), limited=False)
                except RecordLost:
                    return

    def sync(self) -> Position:
        """Make everything appended so far durable; the position up to which it is.

        Raises:
            OSError: the disk would not.
        """
        with self.lock:
            writer = self._writer
            if writer is None:
                return (0, 0)
            snapshot = writer.snapshot()
        writer.sync(snapshot)
        return snapshot[0]

    def release(self, *, delivered: bool) -> None:
        """Let go of the files: delete them when everything is delivered, else leave them to be adopted."""
        with self.lock:
            writer, self._writer = self._writer, None
            self.closed = True
        if writer is not None:
            if delivered:
                writer.discard()
            else:
                writer.close()


def _own_span(event_class: EventClass, attributes: Attributes, stream: str) -> bytes:
    now = time.time_ns()
    own: Attributes = {
        semconv.AUDIT_OUTCOME: Outcome.SUCCESS.value,
        semconv.AUDIT_ACTOR_ID: f"stream:{stream}",
        semconv.AUDIT_ACTOR_TYPE: "service",
        semconv.AUDIT_TARGET_ID: f"stream:{stream}",
        semconv.AUDIT_TARGET_TYPE: "audit.stream",
        **attributes,
    }
    return encode_span(event_class.value, own, record_id=new_record_id(now), start_time=now, end_time=now)


def gap_span(reason: str, count: int, stream: str, first: int | None, last: int | None) -> bytes:
    """An ``audit.gap`` record: how many, why, and which numbers of which stream as far as known."""
    numbers = "" if first is None else f"/{first}" if last in (None, first) else f"/{first}-{last}"
    attributes: Attributes = {
        semconv.AUDIT_ACTION: "record",
        semconv.AUDIT_OUTCOME: Outcome.FAILURE.value,
        semconv.AUDIT_TARGET_ID: f"stream:{stream}{numbers}",
        semconv.AUDIT_GAP_REASON: reason,
        semconv.AUDIT_GAP_COUNT: count,
    }
    return _own_span(EventClass.GAP, attributes, stream)
