"""The journal: what an acknowledgement rests on.

Few verbs (append, read, earliest and high-water mark, trim) that SQLite and Kafka both can keep. A partition is an
append-only sequence of entries with offsets 0, 1, 2 … without holes; one partition feeds one log
(``docs/evidence-format.md`` section 2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

from auditspan.errors import AuditSpanError

__all__ = [
    "CONTROL_PARTITION",
    "MOST_PARTITIONS",
    "Assignment",
    "Entry",
    "EntryKind",
    "Journal",
    "JournalFull",
    "JournalUnavailable",
    "NewEntry",
    "PositionLost",
    "SupportsProbe",
    "data_partition",
    "generation_of",
]

CONTROL_PARTITION: Final = "control"
"""The partition of what processors and officers originate."""

MOST_PARTITIONS: Final = 96
"""Data partitions of a deployment, all generations and those that others write together.

One ``audit.checkpoint`` leaf lists every log, which takes up to 650 bytes each of the 64 KiB that a leaf may have.
"""


_DATA_PARTITION: Final = re.compile(r"events(?:\.([1-9][0-9]*))?-[0-9]+")


def data_partition(index: int, generation: int = 1) -> str:
    """Name of the data partition ``index`` (from 0) of a generation (from 1)."""
    return f"events-{index}" if generation == 1 else f"events.{generation}-{index}"


def generation_of(partition: str) -> int | None:
    """The generation of one of the journal's own data partitions; None for any other partition."""
    found = _DATA_PARTITION.fullmatch(partition)
    return None if found is None else int(found[1] or 1)


class EntryKind(StrEnum):
    """What an entry holds."""

    OTLP = "otlp"
    UNDECODABLE = "undecodable"
    HEARTBEAT = "heartbeat"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to append. Field meanings: evidence format, section 2."""

    kind: EntryKind
    emitter: str
    authentication: str
    arrival_time: int
    encoding: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as read back, with its partition and offset."""

    partition: str
    offset: int
    kind: EntryKind
    emitter: str
    authentication: str
    arrival_time: int
    encoding: str
    body: bytes


class JournalUnavailable(AuditSpanError):
    """The journal cannot make anything durable now; the caller answers 503/UNAVAILABLE and the sender retries."""


class JournalFull(JournalUnavailable):
    """The disk watermark was reached, or the disk refused a write."""


class PositionLost(AuditSpanError):
    """What was asked for is not in the journal any more, and reading cannot go on there. Never a silent jump.

    Args:
        message: as in `AuditSpanError`.
        remedy: as in `AuditSpanError`.
        resumes_at: the next offset that the journal still has; None where nothing after the position can be trusted to
            be what followed it (a journal that was cut off at its end, or made anew).
    """

    def __init__(self, message: str, *, remedy: str = "", resumes_at: int | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.resumes_at = resumes_at


class Journal(Protocol):
    """The contract. Implementations are safe to call from several threads."""

    @property
    def identity(self) -> str:
        """Stable name of this journal, bound into leaf 0 of every log (such as ``sqlite:<random id>``)."""

    @property
    def partitions(self) -> Sequence[str]:
        """The data partitions, in order. ``control`` is not among them, and always exists."""

    @property
    def own_partitions(self) -> Sequence[str]:
        """Those of `partitions` that are ours to append to, in order: the last of `generations`."""

    @property
    def generations(self) -> Mapping[int, Sequence[str]]:
        """Our own data partitions by generation, those that are still there, in order.

        What senders send goes to the last one alone. Partitions that others write are in none.
        """

    def settled(self, partition: str) -> bool:
        """Whether nothing more can be acknowledged to a sender in a partition of an earlier generation.

        False while that is not certain, and for a partition that still grows.
        """

    @property
    def largest_body(self) -> int | None:
        """Most bytes that the body of an entry may have; None: no limit of the journal's own."""

    def append(self, entries: Sequence[tuple[str, NewEntry]]) -> Future[list[int]]:
        """Append ``(partition, entry)`` pairs, all or none; the future gives their offsets once they are durable.

        The future fails with `JournalUnavailable` or `JournalFull` when nothing was made durable.
        """

    def read(self, partition: str, offset: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Entries from ``offset`` on, in order, at least one if there is one, within both bounds otherwise.

        Raises:
            PositionLost: ``offset`` was trimmed, or an entry at or after it is gone.
        """

    def earliest(self, partition: str) -> int:
        """The earliest offset of ``partition`` that `read` still gives; the high-water mark when it gives none."""

    def high_water_mark(self, partition: str) -> int:
        """Offset that the next entry of ``partition`` will get."""

    def wait(self, partition: str, offset: int, timeout: float) -> bool:
        """Block until the high-water mark is beyond ``offset`` or ``timeout`` seconds passed; whether it is beyond.

        Also true where `read` would raise, so that the caller comes to know why.
        """

    def trim(self, partition: str, before: int) -> None:
        """Forget entries below ``before``. The caller vouches that a signed checkpoint covers them."""

    def close(self) -> None:
        """Finish what was submitted and let go of files and threads."""


@runtime_checkable
class SupportsProbe(Protocol):
    """A journal that can say whether an append would succeed."""

    def probe(self) -> Future[None]:
        """Try what an append needs, and leave no entry; fails with `JournalUnavailable`."""


class Assignment(Protocol):
    """Which partitions this process owns now.

    A journal of one process owns all of its own for ever; Kafka's come from a consumer group. Safe to call from several
    threads.
    """

    def poll(self, timeout: float) -> frozenset[str]:
        """The partitions owned now; returns early when they have changed since the last call.

        It keeps the membership alive: who does not call it for longer than the session timeout loses everything.
        """

    def released(self, partition: str) -> None:
        """The caller has stopped processing ``partition``, which `poll` no longer gave: it may go to another."""

    def confirm(self, partition: str, offset: int) -> None:
        """Everything below ``offset`` is in the store: for tools that show the lag. Progress never rests on it."""

    def close(self) -> None:
        """Give up all partitions, at once."""
