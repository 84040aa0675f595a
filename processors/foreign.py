"""Which foreign identities (emitter, trace id, span id) were sealed within the last seven days of the watermark.

Kept as keyed 64-bit hashes in sorted runs, the larger ones in memory-mapped files: 16 bytes an identity, and no Python
object for any. A hash only nominates; the store's bytes decide (`auditspan.processors.identity`).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["WINDOW", "ForeignIdentities", "Hashes", "fixed_width"]

Hashes = npt.NDArray[np.uint64]
Times = npt.NDArray[np.int64]
_Number = TypeVar("_Number", bound=np.generic)

WINDOW: Final = 7 * 86_400 * 10**9
"""Nanoseconds after its arrival, by the watermark, for which a foreign identity counts as seen (format, section 7)."""

NEVER: Final = -(2**62)
"""Arrival time of an identity that was not seen."""

_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_FINAL_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_FINAL_2: Final = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Sorted distinct hashes, and the latest arrival time of what was sealed under each."""

    hashes: Hashes
    arrivals: Times
    newest: int


class ForeignIdentities:
    """The identities seen, in runs of growing size like a log-structured merge tree.

    Args:
        in_memory: identities a run may have before it goes to a file; 16 bytes each.
        largest: identities beyond which runs are no longer merged.
    """

    def __init__(self, in_memory: int = 1 << 20, largest: int = 1 << 24) -> None:
        self._runs: list[_Run] = []
        self._in_memory = in_memory
        self._largest = largest
        # Keyed, so that no sender can aim at another's hashes: that would cost a look into the store for each.
        self._key = np.frombuffer(os.urandom(32), np.uint64)
        self._emitters: dict[str, int] = {}

    def __len__(self) -> int:
        """How many hashes are held."""
        return sum(len(run.hashes) for run in self._runs)

    def emitter_hash(self, emitter: str) -> int:
        """A 64-bit hash of an emitter's name."""
        if emitter not in self._emitters:
            digest = hashlib.sha256(self._key.tobytes() + emitter.encode()).digest()
            self._emitters[emitter] = int.from_bytes(digest[:8], "little")
        return self._emitters[emitter]

    def hash(self, emitters: Hashes, trace_ids: Hashes, span_ids: Hashes) -> Hashes:
        """Hashes of identities; ``trace_ids`` has two words a row, ``emitters`` are values of `emitter_hash`."""
        mixed = _mix(trace_ids[:, 0] ^ self._key[0])
        mixed = _mix(mixed + (trace_ids[:, 1] ^ self._key[1]) * _MULTIPLIER)
        mixed = _mix(mixed + (span_ids ^ self._key[2]) * _MULTIPLIER)
        return _mix(mixed + (emitters ^ self._key[3]))

    def last_seen(self, hashes: Hashes) -> Times:
        """The latest arrival time of what was sealed under each hash, `NEVER` for those that were not."""
        latest = np.full(len(hashes), NEVER, np.int64)
        if not len(hashes):
            return latest
        order = np.argsort(hashes)
        asked = hashes[order]
        for run in self._runs:
            place = np.searchsorted(run.hashes, asked)
            place[place == len(run.hashes)] = 0
            hit = np.flatnonzero(run.hashes[place] == asked)
            if len(hit):
                rows = order[hit]
                latest[rows] = np.maximum(latest[rows], run.arrivals[place[hit]])
        return latest

    def add(self, hashes: Hashes, arrivals: Times, *, forget: bool = True) -> None:
        """Remember what was sealed, with its arrival times, and forget runs that ended more than a window before.

        Not to ``forget``: these are times by another log's clock, which says nothing of this one's window.
        """
        if not len(hashes):
            return
        made = _sorted_run(hashes, arrivals)
        oldest = made.newest - WINDOW
        kept = [run for run in self._runs if not forget or run.newest >= oldest]
        while kept and len(kept[-1].hashes) <= 2 * len(made.hashes) and self._mergeable(kept[-1], made):
            last = kept.pop()
            made = _sorted_run(
                np.concatenate((last.hashes, made.hashes)), np.concatenate((last.arrivals, made.arrivals))
            )
        if len(made.hashes) > self._in_memory:
            made = _Run(_mapped(made.hashes), _mapped(made.arrivals), made.newest)
        self._runs = [*kept, made]

    def _mergeable(self, left: _Run, right: _Run) -> bool:
        return len(left.hashes) + len(right.hashes) <= self._largest


def fixed_width(values: pa.Array, words: int) -> Hashes:
    """The bytes of a binary array without nulls, all of ``8 * words`` bytes, as one row of 64-bit words each."""
    if not len(values):
        return np.empty((0, words), np.uint64)
    fixed = values.cast(pa.binary(8 * words))
    start = fixed.offset * 8 * words
    flat = np.frombuffer(fixed.buffers()[1], np.uint8)[start : start + len(fixed) * 8 * words]
    return flat.copy().view(np.uint64).reshape(-1, words)


def _mix(values: Hashes) -> Hashes:
    """The finaliser of splitmix64: every bit of the input moves every bit of the result."""
    values = (values ^ (values >> np.uint64(30))) * _FINAL_1
    values = (values ^ (values >> np.uint64(27))) * _FINAL_2
    return values ^ (values >> np.uint64(31))


def _sorted_run(hashes: Hashes, arrivals: Times) -> _Run:
    order = np.lexsort((arrivals, hashes))
    hashes, arrivals = hashes[order], arrivals[order]
    # Of equal hashes the last one has the latest arrival.
    last = np.append(hashes[1:] != hashes[:-1], True)
    return _Run(hashes[last], arrivals[last], int(arrivals.max()))


def _mapped(values: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """The same values in an unlinked file, whose pages the kernel may drop and read again."""
    with tempfile.TemporaryFile() as file:
        mapped: npt.NDArray[_Number] = np.memmap(file, dtype=values.dtype, mode="w+", shape=values.shape)
    mapped[:] = values
    return mapped
