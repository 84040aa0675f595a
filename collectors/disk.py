"""Refuse before the disk is full: what is already acknowledged must stay able to be sealed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

__all__ = ["DiskWatermark"]


class DiskWatermark:
    """Whether the file system of ``path`` has room.

    Args:
        path: any file or directory on the file system that is watched.
        min_free_bytes: least bytes that must be free to an ordinary user.
        min_free_fraction: least share of the file system that must be free.
        interval: seconds for which an answer is kept.
        statvfs: how free space is asked for.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        min_free_bytes: int,
        min_free_fraction: float,
        *,
        interval: float = 1.0,
        statvfs: Callable[[str | os.PathLike[str]], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._path = path
        self._min_free_bytes = min_free_bytes
        self._min_free_fraction = min_free_fraction
        self._interval = interval
        self._statvfs = statvfs
        self._guard = threading.Lock()
        self._asked = float("-inf")
        self._refusal: str | None = None

    def refusal(self) -> str | None:
        """Why nothing may be written now, or None. A file system that cannot be asked counts as full."""
        now = time.monotonic()
        with self._guard:
            if now - self._asked >= self._interval:
                self._refusal = self._ask()
                self._asked = now
            return self._refusal

    def _ask(self) -> str | None:
        try:
            status = self._statvfs(self._path)
        except OSError as error:
            return f"the disk cannot be asked for free space: {error.strerror}"
        free = status.f_bavail * status.f_frsize
        least = max(self._min_free_bytes, int(self._min_free_fraction * status.f_blocks * status.f_frsize))
        return None if free >= least else f"the disk has {free} bytes free, below the watermark of {least}"
