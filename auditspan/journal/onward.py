"""A partition read to its end, whatever was trimmed of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditspan.journal.contract import Entry, Journal, PositionLost

__all__ = ["read_onward"]


def read_onward(
    journal: Journal, partition: str, offset: int, *, max_entries: int, max_bytes: int
) -> Iterator[Sequence[Entry]]:
    """The entries of ``partition`` from ``offset``, or from the first one after it that is still there, in batches.

    Args:
        journal: read from.
        partition: of it.
        offset: where to begin.
        max_entries: entries of a batch at most.
        max_bytes: bytes of their bodies at most, unless one alone has more.

    Raises:
        PositionLost: nothing after a position can be trusted to be what followed it.
        JournalUnavailable: the journal cannot be read.
    """
    while True:
        try:
            entries = journal.read(partition, offset, max_entries=max_entries, max_bytes=max_bytes)
        except PositionLost as error:
            if error.resumes_at is None or error.resumes_at <= offset:
                raise
            offset = error.resumes_at
            continue
        if not entries:
            return
        yield entries
        offset = entries[-1].offset + 1
