"""How fast this machine is while something is measured, by what every figure of sealing and proving rests on: SHA-256.

The targets of this folder that are rates were set on a machine that makes 1.57 million SHA-256 digests of 572 bytes in
a CPU-second. Shared machines give half of that and less, and not always the same. So a rate is also judged at the
pace of the run: `docs/decisions/0007-pace-of-the-machine.md`.
"""

from __future__ import annotations

import hashlib
import time
from typing import Final

__all__ = ["REFERENCE", "Pace", "hash_rate"]

REFERENCE: Final = 1_570_000
"""Digests a CPU-second of the machine on which the targets were set."""
_HASHED: Final = 572
_SECONDS: Final = 0.5


def hash_rate() -> float:
    """SHA-256 digests of 572 bytes that this machine makes in a CPU-second, one by one.

    By the clock of this thread: others of the process may be at work.
    """
    value = b"\x5a" * _HASHED
    done, begin = 0, time.thread_time()
    while (spent := time.thread_time() - begin) < _SECONDS:
        for _ in range(10_000):
            hashlib.sha256(value).digest()
        done += 10_000
    return done / spent


class Pace:
    """Looked at before a run, between its parts and after it: a shared machine is not as fast at its end as before."""

    def __init__(self) -> None:
        self._rates = [hash_rate()]

    def look(self) -> float:
        """Measure once more; the CPU-seconds that it took."""
        begin = time.thread_time()
        self._rates.append(hash_rate())
        return time.thread_time() - begin

    @property
    def value(self) -> float:
        """The mean by the reference; never more than 1: a faster machine must reach the targets as they are."""
        return min(1.0, sum(self._rates) / len(self._rates) / REFERENCE)
