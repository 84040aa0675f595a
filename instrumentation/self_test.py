"""The start-up self-test: can this process record at all?

It does what recording does (create, write, sync, read back), since permissions and free space tell only half of it.
"""

from __future__ import annotations

import os
import secrets
import stat

from .frames import MAGIC, Frame, FrameKind, encode_frame, read_frames
from .settings import InstrumentationSettings
from .spool import spool_usage, sync_directory

__all__ = ["self_test"]

_LEAST_FREE = 64 * 1024**2


def self_test(settings: InstrumentationSettings) -> list[str]:
    """What is wrong with the spool, one sentence each, with what to do; empty when records can be written."""
    spool = settings.spool_directory
    try:
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = spool.stat().st_mode
        # A name that no shipper takes for a stream.
        path = spool / f".self-test-{secrets.token_hex(8)}"
        frame = encode_frame(FrameKind.RECORD, 1, b"self-test")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, MAGIC + frame)
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
            sync_directory(spool)
            back = list(read_frames(path.read_bytes(), len(MAGIC)))
        finally:
            path.unlink(missing_ok=True)
        disk = os.statvfs(spool)
    except OSError as error:
        return [
            f"The audit spool {spool} cannot be written ({error.strerror}). "
            "Set AUDITSPAN_SPOOL_DIRECTORY to a directory on a local disk that this process may write."
        ]
    problems = []
    if not (len(back) == 1 and isinstance(back[0], Frame) and back[0].body == b"self-test"):
        problems.append(f"The audit spool {spool} does not give back what was written. Use a local disk.")
    if mode & stat.S_IWOTH:
        problems.append(f"Anybody may write the audit spool {spool}. Remove that permission: chmod o-w.")
    if disk.f_bavail * disk.f_frsize < _LEAST_FREE:
        problems.append(f"The disk of the audit spool {spool} has less than 64 MiB free. Free space.")
    if spool_usage(spool) >= settings.spool_limit:
        problems.append(
            f"The audit spool {spool} has reached its limit. "
            "Run `auditspan spool ship`, or raise AUDITSPAN_SPOOL_LIMIT_BYTES."
        )
    return problems
