"""How a process that seals or verifies keeps its memory: batch after batch asks for the same large buffers.

Given back to the system after every batch and taken again, they were a third of the CPU time of sealing and a tenth of
that of verifying, spent on clearing pages.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

import pyarrow as pa

__all__ = ["keep_buffers"]

# Parameters of mallopt(3), from malloc.h of glibc.
_TRIM_THRESHOLD: Final = -1
_MMAP_MAX: Final = -4
_ARENA_MAX: Final = -8

_KEPT: Final = 512 << 20
"""Free bytes at the end of the heap that stay with the process."""


def keep_buffers() -> None:
    """Let the allocator keep what a batch took for the next one. Call it once, when the process starts.

    It sets limits of the whole process: Arrow takes its buffers from the C library, and that keeps up to 512 MB, from
    one arena, because what one thread has freed is of no use to another's. Without glibc nothing changes.
    """
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names or not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith(
        "glibc"
    ):
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    for parameter, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT)):
        mallopt(parameter, value)
    pa.set_memory_pool(pa.system_memory_pool())
