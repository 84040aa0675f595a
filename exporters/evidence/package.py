"""Reading a package that may be hostile: nothing outside its folder, no links, regular files only."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from .layout import path_is_allowed

__all__ = ["Package", "PathRefused"]

_CHUNK: Final = 1 << 20
_DEEPEST: Final = 8
_MOST_ENTRIES: Final = 200_000


class PathRefused(Exception):
    """A path of the package is a link, no regular file, or not allowed."""


class Package:
    """An open package. Every file is opened step by step from the folder, and a link at any step is refused.

    Raises:
        OSError: the folder cannot be opened.
    """

    malformed: str | None = None
    """Why nothing of it can be read, where its container is at fault."""

    def __init__(self, folder: Path) -> None:
        # Where the person points to may be a link; what lies in the folder may not.
        self._open_at(folder, os.O_DIRECTORY)

    def _open_at(self, place: Path, flags: int) -> None:
        self.folder = place
        self._root = os.open(place, os.O_RDONLY | os.O_CLOEXEC | flags)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._root)

    def open(self, path: str) -> BinaryIO:
        """A file of the package, to be read.

        Raises:
            FileNotFoundError: it is not there.
            PathRefused: it may not be read.
        """
        if not path_is_allowed(path):
            raise PathRefused("a relative path of A-Z a-z 0-9 . _ - without a leading dot")
        *folders, name = path.split("/")
        descriptor = os.dup(self._root)
        try:
            for folder in folders:
                descriptor = _step(descriptor, folder, os.O_DIRECTORY)
            # Without O_NONBLOCK, opening a named pipe would wait for ever.
            descriptor = _step(descriptor, name, os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise PathRefused("it is no regular file")
        except BaseException:  # nobody else knows the descriptor yet
            os.close(descriptor)
            raise
        return os.fdopen(descriptor, "rb")

    def digest(self, path: str) -> str:
        """SHA-256 of a file, in hexadecimal. Raises as `open`."""
        state = hashlib.sha256()
        buffer = bytearray(_CHUNK)
        with self.open(path) as file:
            while count := file.readinto(buffer):  # type: ignore[attr-defined]
                state.update(memoryview(buffer)[:count])
        return state.hexdigest()

    def entries(self) -> Iterator[tuple[str, bool]]:
        """``(path, whether it is a regular file)`` of what is no folder in the package, in a bounded number."""
        remaining = _MOST_ENTRIES
        waiting = [("", 0)]
        while waiting:
            folder, depth = waiting.pop()
            for name, kind in self._listing(folder, remaining):
                remaining -= 1
                path = f"{folder}/{name}" if folder else name
                if kind == "folder" and depth < _DEEPEST:
                    waiting.append((path, depth + 1))
                else:
                    yield path, kind == "file"

    def _listing(self, folder: str, most: int) -> list[tuple[str, str]]:
        descriptor = os.dup(self._root)
        try:
            for part in folder.split("/") if folder else ():
                descriptor = _step(descriptor, part, os.O_DIRECTORY)
            with os.scandir(descriptor) as found:
                return [(entry.name, _kind(entry)) for entry in islice(found, most)]
        finally:
            os.close(descriptor)


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _step(parent: int, name: str, flags: int) -> int:
    """Open ``name`` in the folder ``parent``, which is closed."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PathRefused(f"it is a link or cannot be opened: {error.strerror}") from error
    os.close(parent)
    return descriptor
