"""Reading a stream's spool in batches, and forgetting only what was acknowledged.

The cursor is written durably after each acknowledged batch. Should it be lost, records are sent again, and the log
suppresses them by their identity; it is never ahead of an acknowledgement.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from opentelemetry.sdk.resources import Resource

from .encode import encode_resource, encode_scope
from .frames import MAGIC, Frame, FrameKind, read_frames, split_header
from .spool import Position, segment_name

__all__ = ["Batch", "Damaged", "Record", "SpoolReader"]

_log = logging.getLogger(__name__)
_CURSOR: Final = "cursor"
_CURSOR_SIZE: Final = 64
_READ_SIZE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the spool: its sequence, its encoded span and the position behind it."""

    sequence: int
    span: bytes
    position: Position


@dataclass(frozen=True, slots=True)
class Damaged:
    """Bytes of the spool that are no whole frame; ``torn`` at the end of a dead stream's last segment."""

    size: int
    torn: bool


@dataclass(slots=True)
class Batch:
    """What to send in one request, and the cursor once it is acknowledged."""

    resource: bytes
    scope: bytes
    records: list[Record] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)
    end: Position = (0, 0)


class SpoolReader:
    """Reads one stream's directory.

    Args:
        directory: the stream's directory.
        live: whether its owner still writes: then an unfinished tail is waited for, else it is cut off and counted.
    """

    def __init__(self, directory: Path, *, live: bool) -> None:
        self.directory = directory
        self.stream = directory.name
        self._live = live
        self._cursor = self._load_cursor()
        self._headers: dict[int, tuple[bytes, bytes]] = {}

    @property
    def acknowledged(self) -> Position:
        """Up to where the collector has acknowledged."""
        return self._cursor

    def segments(self) -> list[int]:
        """Numbers of the segments on disk, ascending."""
        return sorted(int(path.stem) for path in self.directory.glob("*.spool") if path.stem.isdigit())

    def pending(self) -> int:
        """Records that are not acknowledged yet, by reading them."""
        count = 0
        for number in self.segments():
            if number >= self._cursor[0]:
                data = self._read(number, self._start_of(number), None)
                count += sum(isinstance(item, Frame) and item.kind is FrameKind.RECORD for item in read_frames(data))
        return count

    def next_batch(self, max_bytes: int, max_records: int) -> Batch | None:
        """The next records that are not acknowledged, from one segment; None when there are none.

        A record larger than ``max_bytes`` comes alone.
        """
        segments = self.segments()
        for number in segments:
            if number < self._cursor[0]:
                continue
            last = number == segments[-1]
            batch = self._batch(number, max_bytes, max_records, last=last)
            if batch.records or batch.damaged:
                return batch
            if not last:
                self._cursor = (number + 1, 0)
        return None

    def _batch(self, number: int, max_bytes: int, max_records: int, *, last: bool) -> Batch:
        resource, scope = self._header(number)
        start = self._start_of(number)
        batch = Batch(resource, scope, end=(number, start))
        window = _READ_SIZE
        while True:
            data = self._read(number, start, window)
            at_end = len(data) < window
            size = 0
            for item in read_frames(data):
                if isinstance(item, Frame):
                    if item.kind is FrameKind.RECORD:
                        size += len(item.body) + 16
                        if batch.records and (size > max_bytes or len(batch.records) >= max_records):
                            return batch
                        batch.records.append(Record(item.number, item.body, (number, start + item.end)))
                    batch.end = (number, start + item.end)
                elif not item.tail:
                    batch.damaged.append(Damaged(item.end - item.start, torn=False))
                    batch.end = (number, start + item.end)
                elif at_end and not (last and self._live):
                    batch.damaged.append(Damaged(item.end - item.start, torn=last))
                    batch.end = (number, start + item.end)
            if batch.records or batch.damaged or at_end:
                return batch
            window *= 2

    def advance(self, end: Position) -> None:
        """Everything up to ``end`` is acknowledged or kept elsewhere: write the cursor, delete what it has passed.

        A cursor that cannot be written only means that records are sent again: on a full disk deleting must go on.
        """
        self._cursor = end
        try:
            self._write_cursor(end)
        except OSError as error:
            _log.warning("The cursor of spool stream %s cannot be written (%s).", self.stream, error.strerror)
        for number in self.segments():
            if number < end[0]:
                (self.directory / segment_name(number)).unlink(missing_ok=True)

    def _write_cursor(self, end: Position) -> None:
        # One length, written in place: a full disk has room for it once it is there, and a torn one reads as none.
        text = json.dumps({"segment": end[0], "offset": end[1]}).ljust(_CURSOR_SIZE).encode()
        descriptor = os.open(self.directory / _CURSOR, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, text, 0)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _load_cursor(self) -> Position:
        try:
            value = json.loads((self.directory / _CURSOR).read_bytes())
            return (int(value["segment"]), int(value["offset"]))
        except FileNotFoundError:
            return (0, 0)
        except (OSError, ValueError, KeyError, TypeError):
            _log.warning("The cursor of spool stream %s cannot be read; its records are sent again.", self.stream)
            return (0, 0)

    def _start_of(self, number: int) -> int:
        return max(self._cursor[1] if number == self._cursor[0] else 0, len(MAGIC))

    def _read(self, number: int, start: int, size: int | None) -> bytes:
        try:
            with (self.directory / segment_name(number)).open("rb", buffering=0) as file:
                file.seek(start)
                return file.read(-1 if size is None else size)
        except FileNotFoundError:
            return b""

    def _header(self, number: int) -> tuple[bytes, bytes]:
        """Resource and scope: of this segment, else of any other of the stream, which has the same, else made up."""
        if number not in self._headers:
            for candidate in [number, *self.segments()]:
                header = self._header_of(candidate)
                if header is not None:
                    self._headers = {number: header}
                    break
            else:
                return encode_resource(Resource({}), self.stream), encode_scope()
        return self._headers[number]

    def _header_of(self, number: int) -> tuple[bytes, bytes] | None:
        return next(_headers(self._read(number, len(MAGIC), _READ_SIZE)), None)


def _headers(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for item in read_frames(data):
        if isinstance(item, Frame) and item.kind is FrameKind.HEADER:
            try:
                yield split_header(item.body)
            except ValueError:
                continue
        return
