"""What the next batch is made of: entries read from the journal, decoded, and cut where a batch must end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.config import Processor
from auditspan.journal.contract import Entry, EntryKind, Journal, PositionLost
from auditspan.otlp.columns import SPANS, decode

from .batch import sealing_month, watermarks

__all__ = ["LARGEST_BATCH_BYTES", "LARGEST_BATCH_PAYLOADS", "LARGEST_BATCH_ROWS", "Intake", "Portion", "decode_entries"]

_SETTINGS: Final = Processor()
LARGEST_BATCH_ROWS: Final = _SETTINGS.batch_rows
LARGEST_BATCH_BYTES: Final = _SETTINGS.batch_bytes
LARGEST_BATCH_PAYLOADS: Final = 28 << 20
"""Bytes of payloads: each repeats its resource and scope, which stand once in an entry. Memory follows them: a batch
takes ten times as much. So small spans fill a batch by their number, and large ones by their payloads."""
_SMALLEST_READ: Final = 1 << 20

Decode = Callable[[Sequence[Entry]], pa.Table]


def decode_entries(entries: Sequence[Entry], decode: Decode = decode) -> pa.Table:
    """The spans of a batch in the schema `SPANS`, with ``entry`` an index into ``entries`` of all kinds."""
    given = [i for i, entry in enumerate(entries) if entry.kind in (EntryKind.OTLP, EntryKind.UNDECODABLE)]
    if not given:
        return SPANS.empty_table()
    spans = decode([entries[i] for i in given])
    index = np.array(given, np.int32)[spans["entry"].to_numpy()]
    return spans.set_column(0, SPANS.field("entry"), pa.array(index))


@dataclass(frozen=True, slots=True, eq=False)
class Portion:
    """Entries and their spans, ``entry`` being an index into the entries. ``full``: more would not have fitted."""

    entries: Sequence[Entry]
    spans: pa.Table
    full: bool


class Intake:
    """Reads one partition from an offset on. What `take` gives it gives again until it is `consumed`.

    Args:
        journal: where from.
        partition: which one.
        offset: of the next entry.
        rows: spans that a batch may have; a single entry may have more.
        size: bytes of entries that a batch may have.
        payloads: bytes of payloads that a batch may have; a single entry may have more.
    """

    def __init__(
        self,
        journal: Journal,
        partition: str,
        offset: int,
        *,
        rows: int = LARGEST_BATCH_ROWS,
        size: int = LARGEST_BATCH_BYTES,
        payloads: int = LARGEST_BATCH_PAYLOADS,
        decode: Decode = decode,
    ) -> None:
        self._journal = journal
        self._partition = partition
        self._next = offset
        self._rows = rows
        self._size = size
        self._payloads = payloads
        self._decode = decode
        self._entries: list[Entry] = []
        self._spans = SPANS.empty_table()
        self._spans_of: list[int] = []
        self._payloads_of: list[int] = []
        self._bytes_per_span = 1024.0
        self._bytes_per_entry = 0.0

    def take(self, watermark: int) -> Portion | None:
        """The next batch's entries, or None when the journal has none; ``watermark`` (ns) is the log's so far.

        Raises:
            PositionLost: the journal no longer has the next entry.
        """
        self._fill()
        if not self._entries:
            return None
        cut = self._cut(watermark)
        spans = self._spans.slice(0, sum(self._spans_of[:cut]))
        # Every read brought dictionaries of its own.
        return Portion(self._entries[:cut], spans.unify_dictionaries(), full=cut < len(self._entries))

    def consumed(self, entries: int) -> None:
        """Forget the first ``entries``: they are in the store."""
        left = self._spans.slice(sum(self._spans_of[:entries]))
        del self._entries[:entries], self._spans_of[:entries], self._payloads_of[:entries]
        self._spans = _shifted(left, -entries)

    def _fill(self) -> None:
        """Read until a batch is full, or holds what the journal had when this began.

        A journal that goes on growing must not hold back what was read: somebody waits to see it flagged.
        """
        end = self._journal.high_water_mark(self._partition)
        while (rows := self._rows - len(self._spans)) > 0 and (size := self._size - self._held()) > 0:
            # An entry more than it takes: one too few would cost another read, and each has a price of its own.
            most = min(max(int(rows * self._bytes_per_span + 2 * self._bytes_per_entry), _SMALLEST_READ), size)
            try:
                read = self._journal.read(self._partition, self._next, max_entries=self._rows, max_bytes=most)
            except PositionLost:
                if self._entries:  # what was read before is not lost: it makes a batch first
                    return
                raise
            if not read:
                return
            spans = decode_entries(read, self._decode)
            counts = np.bincount(spans["entry"].to_numpy(), minlength=len(read))
            if len(spans):
                read_bytes = sum(len(entry.body) for entry in read)
                self._bytes_per_span = max(read_bytes / len(spans), 1.0)
                self._bytes_per_entry = read_bytes / len(read)
            self._spans = pa.concat_tables([self._spans, _shifted(spans, len(self._entries))])
            self._entries += read
            self._spans_of += counts.tolist()
            self._payloads_of += _payload_bytes(spans, len(read))
            self._next = read[-1].offset + 1
            if self._next >= end:
                return

    def _held(self) -> int:
        return sum(len(entry.body) for entry in self._entries)

    def _cut(self, watermark: int) -> int:
        """How many entries the batch takes: at least one, and none of a later month."""
        spans = np.cumsum(self._spans_of)
        size = np.cumsum([len(entry.body) for entry in self._entries])
        # An entry that seals no span still seals a leaf, so entries count against the rows too.
        most = min(
            int(np.searchsorted(spans, self._rows, side="right")),
            int(np.searchsorted(size, self._size, side="right")),
            int(np.searchsorted(np.cumsum(self._payloads_of), self._payloads, side="right")),
            self._rows,
        )
        most = max(most, 1)
        marks = watermarks(self._entries[:most], watermark)
        month = sealing_month(int(marks[0]))
        if sealing_month(int(marks[-1])) == month:
            return most
        return next(i for i, mark in enumerate(marks.tolist()) if sealing_month(mark) != month)


def _payload_bytes(spans: pa.Table, entries: int) -> list[int]:
    """Bytes that the payloads of each entry's spans have together (evidence format, section 3)."""
    if not len(spans):
        return [0] * entries
    sizes = pc.binary_length(spans["span"]).to_numpy().astype(np.int64) + 12
    for name in ("resource", "scope"):
        # The lengths of distinct values alone: decoding the column would be the expansion that is bounded here.
        for column, begin in _chunks(spans[name]):
            lengths = pc.binary_length(column.dictionary).to_numpy()
            sizes[begin : begin + len(column)] += lengths[column.indices.to_numpy()]
    ends = np.concatenate(([0], np.cumsum(sizes)))
    bounds = np.searchsorted(spans["entry"].to_numpy(), np.arange(entries + 1))
    found: list[int] = np.diff(ends[bounds]).tolist()
    return found


def _chunks(column: pa.ChunkedArray) -> Iterator[tuple[pa.DictionaryArray, int]]:
    begin = 0
    for chunk in column.chunks:
        yield chunk, begin
        begin += len(chunk)


def _shifted(spans: pa.Table, by: int) -> pa.Table:
    if not by or not len(spans):
        return spans
    return spans.set_column(0, SPANS.field("entry"), pa.array(spans["entry"].to_numpy() + np.int32(by)))
