"""The spool on disk: one directory per stream, appended to by the one process that holds its lock.

::

    <spool>/<stream id>/lock               flock(2) held by the owner while it lives
    <spool>/<stream id>/00000001.spool     segments of frames
    <spool>/<stream id>/cursor             how far the collector has acknowledged
    <spool>/refused/<stream id>.spool      records that the collector refused, kept

A record is one ``write(2)``: when it returns, the kernel has it and no kill can take it back. This module writes;
``spool_reader`` reads. Nothing here takes a lock of its own: the stream serialises its calls.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from .fork import close_tracked, open_tracked
from .frames import MAGIC, FrameKind, encode_frame

__all__ = [
    "LOCK_NAME",
    "REFUSED_DIRECTORY",
    "Position",
    "SpoolFull",
    "SpoolWriter",
    "StreamLock",
    "segment_name",
    "spool_usage",
    "sync_directory",
]

Position = tuple[int, int]
"""Segment number and the offset just behind a record. Positions of one stream are ordered."""

LOCK_NAME: Final = "lock"
REFUSED_DIRECTORY: Final = "refused"
_NEW_PREFIX: Final = ".new-"
_MOVE_ON: Final = frozenset({errno.EFBIG, errno.EIO})
"""Errors of one file, where the next file may be well; a full disk is not among them."""


class SpoolFull(OSError):
    """The spool directory has reached its limit."""

    def __init__(self) -> None:
        super().__init__(errno.EDQUOT, "the spool directory has reached its limit")


def segment_name(number: int) -> str:
    """File name of a segment; names sort like numbers."""
    return f"{number:08d}.spool"


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        OSError: the disk would not.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def spool_usage(spool: Path) -> int:
    """Bytes in the spool directory; files that vanish meanwhile count nothing."""
    total = 0
    try:
        entries = list(os.scandir(spool))
    except OSError:
        return 0
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                total += sum(item.stat(follow_symlinks=False).st_size for item in os.scandir(entry.path))
        except OSError:
            continue
    return total


class StreamLock:
    """The ``flock`` that says that a stream's owner lives. Dropped by the kernel with its holder."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, *, create: bool = False) -> StreamLock | None:
        """Lock the file, or None when somebody else holds it or it is gone.

        Raises:
            OSError: the file cannot be opened for another reason.
        """
        try:
            descriptor = open_tracked(path, os.O_RDWR | (os.O_CREAT if create else 0))
        except (FileNotFoundError, NotADirectoryError):
            if create:
                raise
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another may have shipped and deleted the stream between open and flock.
            if os.fstat(descriptor).st_nlink > 0:
                return cls(descriptor)
        except BlockingIOError:
            pass
        except BaseException:  # nobody else knows the descriptor yet
            close_tracked(descriptor)
            raise
        close_tracked(descriptor)
        return None

    def release(self) -> None:
        """Give the lock up."""
        close_tracked(self._descriptor)


class SpoolWriter:
    """Appends the frames of one stream.

    Args:
        spool: the spool directory; created with mode 0700 where it does not exist.
        stream: id of the stream.
        header: body of the header frame that begins every segment.
        segment_size: bytes after which a new segment begins.

    Raises:
        OSError: the stream's directory or first segment cannot be created; nothing is left behind.
    """

    def __init__(self, spool: Path, stream: str, header: bytes, segment_size: int) -> None:
        self.directory = spool / stream
        self._header = header
        self._segment_size = segment_size
        self._segment = 0
        self._length = 0
        self._descriptor = -1
        self._abandon = False
        self._retired: list[int] = []
        self._names_dirty = True
        self.appended_bytes = 0
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The lock is held before the directory has its name, so nobody can take a newborn stream for a dead one.
        newborn = spool / f"{_NEW_PREFIX}{stream}"
        newborn.mkdir(mode=0o700)
        lock = None
        try:
            lock = StreamLock.take(newborn / LOCK_NAME, create=True)
            if lock is None:
                raise OSError(errno.EBUSY, "a newborn stream is locked by somebody else")
            self.lock = lock
            newborn.rename(self.directory)
        except BaseException:  # an interrupted start leaves nothing behind either
            if lock is not None:
                lock.release()
            _remove_newborn(newborn)
            raise
        try:
            self._rotate()
        except BaseException:  # or the lock would keep a stream from adoption that nobody writes
            self.discard()
            raise

    @property
    def position(self) -> Position:
        """Behind the last record."""
        return (self._segment, self._length)

    def append(self, sequence: int, body: bytes) -> Position:
        """Hand one record to the kernel with one ``write(2)``; its position.

        Raises:
            OSError: the record is not in the spool; what was written of it has been cut off.
        """
        frame = encode_frame(FrameKind.RECORD, sequence, body)
        if self._abandon or (self._length + len(frame) > self._segment_size and self._length > self._first):
            self._rotate()
        self._write(self._descriptor, frame)
        return (self._segment, self._length)

    def append_nested(self, sequence: int, body: bytes) -> None:
        """Append while the same thread is inside ``append``: one durable write that leaves the writer's state alone.

        A signal handler or a finalizer may record at any instruction of the interrupted thread.

        Raises:
            OSError: as for ``append``.
        """
        frame = encode_frame(FrameKind.RECORD, sequence, body)
        if os.write(self._descriptor, frame) != len(frame):
            raise OSError(errno.ENOSPC, "a record was cut short")
        os.fdatasync(self._descriptor)

    def after_nested(self) -> None:
        """Learn the length again after ``append_nested``."""
        self._length = os.fstat(self._descriptor).st_size

    def _write(self, descriptor: int, data: bytes) -> None:
        try:
            written = os.write(descriptor, data)
        except OSError as error:
            self._abandon = error.errno in _MOVE_ON
            raise
        if written != len(data):
            self._abandon = True
            if os.fstat(descriptor).st_size == self._length + written:
                os.ftruncate(descriptor, self._length)
                self._abandon = False
            raise OSError(errno.ENOSPC, "the disk took a part of a record")
        self._length += written
        self.appended_bytes += written

    def _rotate(self) -> None:
        """Begin the next segment. The old descriptor waits for ``sync`` to close it."""
        number = self._segment + 1
        path = self.directory / segment_name(number)
        descriptor = open_tracked(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC)
        start = MAGIC + encode_frame(FrameKind.HEADER, number, self._header)
        try:
            if os.write(descriptor, start) != len(start):
                raise OSError(errno.ENOSPC, "the disk took a part of a segment's header")
        except OSError:
            close_tracked(descriptor)
            path.unlink(missing_ok=True)
            raise
        if self._descriptor >= 0:
            self._retired.append(self._descriptor)
        self._descriptor, self._segment = descriptor, number
        self._first = self._length = len(start)
        self.appended_bytes += len(start)
        self._abandon = False
        self._names_dirty = True

    def snapshot(self) -> tuple[Position, int, list[int], bool]:
        """What to make durable: position, descriptor, retired descriptors, whether names changed. Under the lock."""
        retired, self._retired = self._retired, []
        names, self._names_dirty = self._names_dirty, False
        return self.position, self._descriptor, retired, names

    def sync(self, snapshot: tuple[Position, int, list[int], bool]) -> None:
        """``fdatasync`` what a snapshot names, and close its retired descriptors. Called without the lock.

        Raises:
            OSError: the disk would not; the segment is abandoned, since a later success would prove nothing.
        """
        _, descriptor, retired, names = snapshot
        try:
            for old in retired:
                os.fdatasync(old)
            os.fdatasync(descriptor)
            if names:
                sync_directory(self.directory)
                sync_directory(self.directory.parent)
        except OSError:
            self._abandon = True
            self._names_dirty = self._names_dirty or names
            raise
        finally:
            for old in retired:
                close_tracked(old)

    def close(self) -> None:
        """Close the files and give the lock up; what is not acknowledged stays for a shipper to adopt."""
        for descriptor in [*self._retired, self._descriptor]:
            if descriptor >= 0:
                close_tracked(descriptor)
        self._retired, self._descriptor = [], -1
        self.lock.release()

    def discard(self) -> None:
        """Remove the whole stream. Only when the collector has acknowledged all of it, or nothing is in it."""
        remove_stream(self.directory)
        self.close()


def remove_stream(directory: Path) -> None:
    """Delete a stream's files, the lock last: whoever waits for it then finds it gone."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name == LOCK_NAME):
        path.unlink(missing_ok=True)
    directory.rmdir()


def _remove_newborn(directory: Path) -> None:
    try:
        remove_stream(directory)
    except OSError:
        return
