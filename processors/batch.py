"""From journal entries to sealed leaves: the pure function ``derive`` (design: deterministic leaves).

A leaf depends on the entry and its position, on the log's earlier state, on the reference epoch and on the salt key;
on no clock. Where a batch ends is an input. So a replay calls `derive` with the boundaries that the ``audit.batch``
leaves name, and gets the same leaves.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.canonical import JsonValue
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import Entry, EntryKind
from auditspan.ledger.hashing import Digests, leaf_hashes
from auditspan.ledger.header import header_text, log_leaf
from auditspan.otlp.classify import Classified, classify, dictionary, fault_lists
from auditspan.semconv import EventClass, class_is_determined
from auditspan.store.schema import EVENTS

from . import payloads as bytes_of
from .gaps import Waiting, closed_gaps, declare
from .identity import (
    Identities,
    IdentityRows,
    Judgement,
    SealedPayloads,
    Verdict,
    identity_json,
)
from .leaves import EntryColumns, Judged, event_leaves, log_leaves

__all__ = [
    "Counts",
    "Derived",
    "Epoch",
    "LeafMaker",
    "LogContext",
    "LogState",
    "Opening",
    "batch_body",
    "derive",
    "numbered",
    "watermarks",
]

Determine = Callable[[pa.Table], pa.Table]
"""`auditspan.processors.determine.Determiner.determine`."""

_LARGEST_TIME: Final = 2**63 - 1
_FINDING: Final = f'"class":"{EventClass.EXPORT_FINDING}"'.encode()
"""In a leaf of the control log: it flags an event of another log."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The reference epoch that a batch names; number 0 is none."""

    number: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Opening:
    """What leaf 0 of a log says; ``opened_at`` (ns) is the arrival time of the control entry that opened it."""

    deployment: str
    journal: str
    partition: str
    log_id: str
    opened_at: int
    generation: int = 1

    def body(self) -> dict[str, JsonValue]:
        """Body of ``audit.log.opened``."""
        return {
            "deployment": header_text(self.deployment),
            "journal": header_text(self.journal),
            "log_id": self.log_id,
            "partition": self.partition,
            "generation": self.generation,
        }


@dataclass(frozen=True, slots=True)
class LogContext:
    """What does not change while a log is processed under one epoch.

    ``software`` names product and version. ``earlier`` are the ids of the logs of earlier generations, whose leaves
    count as leaves before this log's own (section 7).
    """

    opening: Opening
    salt_key: bytes = field(repr=False)
    epoch: Epoch
    software: str
    determine: Determine | None = None
    earlier: tuple[str, ...] = ()


@dataclass(slots=True)
class LogState:
    """What a log's earlier leaves amount to. ``watermark`` (ns) is that of the last batch."""

    next_leaf: int = 0
    next_offset: int = 0
    watermark: int = 0
    identities: Identities = field(default_factory=Identities)
    waiting: Waiting = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a batch holds, as its ``audit.batch`` leaf says; ``flagged`` and ``gaps_closed`` for whoever watches."""

    sealed: int = 0
    duplicates: int = 0
    conflicts: int = 0
    quarantined: int = 0
    gaps: int = 0
    gaps_closed: int = 0
    flagged: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """A batch ready to be sealed, and what the state becomes once it is in the store."""

    leaves: pa.Table
    leaf_hashes: Digests
    counts: Counts
    first_leaf: int
    next_offset: int
    watermark: int
    judgement: Judgement
    waiting: Waiting

    def apply(self, state: LogState) -> None:
        """Roll ``state`` forward. Call it after the batch was read back."""
        state.identities.apply(self.judgement)
        state.waiting = self.waiting
        state.next_leaf = self.first_leaf + len(self.leaves)
        state.next_offset = self.next_offset
        state.watermark = self.watermark


def sealing_month(watermark: int) -> int:
    """``YYYYMM`` in UTC of a time in nanoseconds."""
    moment = datetime.fromtimestamp(watermark // 10**9, UTC)
    return moment.year * 100 + moment.month


def watermarks(entries: Sequence[Entry], before: int) -> npt.NDArray[np.int64]:
    """The arrival watermark at each entry (ns), ``before`` being that of the entries before."""
    times = np.fromiter((min(entry.arrival_time, _LARGEST_TIME) for entry in entries), np.int64, len(entries))
    return np.maximum(np.maximum.accumulate(times), before) if len(times) else times


def derive(
    entries: Sequence[Entry], spans: pa.Table, state: LogState, context: LogContext, sealed: SealedPayloads
) -> Derived:
    """The leaves of one batch.

    Args:
        entries: journal entries from ``state.next_offset`` on, at least one; all watermarks in one calendar month.
        spans: their spans in the schema `auditspan.otlp.columns.SPANS`, with ``entry`` an index into ``entries``.
        state: the log before this batch; not changed.
        context: identity of the log, salt key, epoch.
        sealed: asked for payloads sealed under identities that repeat.

    Raises:
        AuditSpanError: the entries do not follow the state, or a control entry is none.
    """
    if not entries or entries[0].offset != state.next_offset:
        raise AuditSpanError(
            f"A batch of {context.opening.partition} must begin at journal offset {state.next_offset}.",
            remedy="Restart the processor: it resumes where the store says.",
        )
    marks = watermarks(entries, state.watermark)
    watermark = int(marks[-1])
    events = _events(entries, spans, marks, state, context, sealed)
    judgement = events.judgement
    gaps, waiting = declare(state.identities.streams, judgement.streams, state.waiting, watermark)
    closed = closed_gaps(judgement.closed)
    make = LeafMaker(context)
    pieces = [events.leaves] if len(events.leaves) else []
    own = [
        (index, make.entry(entry))
        for index, entry in enumerate(entries)
        if entry.kind in (EntryKind.HEARTBEAT, EntryKind.CONTROL)
    ]
    if own:
        pieces = _interleave(events.leaves, events.entry, own)
    if state.next_leaf == 0:
        pieces.insert(0, log_leaves([make.opened()]))
    tail = [make.tail(EventClass.GAP, gap.body(), watermark) for gap in gaps]
    tail += [make.tail(EventClass.GAP_CLOSED, gap.body(), watermark) for gap in closed]
    before = sum(map(len, pieces)) + len(tail)
    counts = replace(
        events.counts,
        sealed=before,
        gaps=len(gaps),
        gaps_closed=len(closed),
        flagged=events.counts.flagged + sum(_FINDING in leaf for _, leaf in own),
    )
    next_offset = entries[-1].offset + 1
    body = batch_body(state, context, counts, next_offset, watermark, events.suppressed_digest)
    tail.append(make.tail(EventClass.BATCH, body, watermark))
    leaves = numbered(pa.concat_tables([*pieces, log_leaves(tail)]), state.next_leaf, watermark)
    return Derived(
        leaves=leaves,
        leaf_hashes=leaf_hashes(leaves["header"]),
        counts=counts,
        first_leaf=state.next_leaf,
        next_offset=next_offset,
        watermark=watermark,
        judgement=judgement,
        waiting=waiting,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Events:
    """Event leaves in order, the entry of each, and what became of the others."""

    leaves: pa.Table
    entry: npt.NDArray[np.int64]
    counts: Counts
    suppressed_digest: str
    judgement: Judgement


def _events(
    entries: Sequence[Entry],
    spans: pa.Table,
    marks: npt.NDArray[np.int64],
    state: LogState,
    context: LogContext,
    sealed: SealedPayloads,
) -> _Events:
    log_id = context.opening.log_id
    if not len(spans):
        nothing = Judgement(np.empty(0, np.int8))
        return _Events(log_leaves([]), np.empty(0, np.int64), Counts(), hashlib.sha256(b"").hexdigest(), nothing)
    entry = spans["entry"].to_numpy().astype(np.int64)
    columns = _entry_columns(entries, entry, spans)
    classified = classify(spans, columns.arrival, log_id, columns.offset)
    payloads = bytes_of.payloads(spans)
    rows = IdentityRows(
        in_stream=classified.in_stream,
        foreign=~classified.in_stream & ~classified.quarantined,
        emitter=columns.emitter,
        stream=classified.stream,
        sequence=classified.sequence,
        trace_id=spans["trace_id"].combine_chunks(),
        span_id=spans["span_id"].combine_chunks(),
        payload=payloads,
        arrival=columns.arrival,
        watermark=marks[entry],
    )
    judgement = state.identities.judge(rows, log_id, sealed)
    verdicts = judgement.verdicts
    suppressed = np.flatnonzero(verdicts == Verdict.SUPPRESSED)
    digest = hashlib.sha256()
    for row in suppressed.tolist():
        identity = hashlib.sha256(identity_json(rows, row)).digest()
        digest.update(struct.pack(">QI", columns.offset[row], columns.ordinal[row]) + identity)
    if len(suppressed):
        kept = np.flatnonzero(verdicts != Verdict.SUPPRESSED)
        choice = pa.array(kept)
        spans, payloads, entry, verdicts = spans.take(choice), payloads.take(choice), entry[kept], verdicts[kept]
        columns, classified = _take(columns, kept, choice), _take(classified, kept, choice)
    salts = bytes_of.salts(context.salt_key, log_id, columns.offset, columns.ordinal)
    judged = _judge(spans, columns, classified, context.determine)
    leaves = event_leaves(
        spans, columns, classified, verdicts, judged, payloads, salts, log_id=log_id, epoch=context.epoch.number
    )
    counts = Counts(
        duplicates=len(suppressed),
        conflicts=int((verdicts == Verdict.CONFLICT).sum()),
        quarantined=int(classified.quarantined.sum()),
        flagged=judged.flagged.true_count,
        events=len(leaves),
    )
    return _Events(leaves, entry, counts, digest.hexdigest(), judgement)


def _entry_columns(entries: Sequence[Entry], entry: npt.NDArray[np.int64], spans: pa.Table) -> EntryColumns:
    chosen = pa.array(entry)

    def column(values: list[str]) -> pa.DictionaryArray:
        return pa.array(values).dictionary_encode().take(chosen)

    return EntryColumns(
        offset=np.fromiter((e.offset for e in entries), np.int64, len(entries))[entry],
        ordinal=spans["ordinal"].to_numpy(),
        arrival=np.fromiter((min(e.arrival_time, _LARGEST_TIME) for e in entries), np.int64, len(entries))[entry],
        emitter=column([e.emitter for e in entries]),
        authentication=column([e.authentication for e in entries]),
        encoding=column([e.encoding for e in entries]),
    )


def _take(columns: Any, kept: npt.NDArray[np.int64], choice: pa.Array) -> Any:
    """A dataclass of columns with the rows ``kept`` alone."""
    taken = {}
    for name in columns.__slots__:
        values = getattr(columns, name)
        taken[name] = values[kept] if isinstance(values, np.ndarray) else values.take(choice)
    return type(columns)(**taken)


def _judge(spans: pa.Table, columns: EntryColumns, classified: Classified, determine: Determine | None) -> Judged:
    rows = len(spans)
    determined = np.array([class_is_determined(name) for name in classified.claimed.dictionary.to_pylist()], np.bool_)
    mask = determined[classified.claimed.indices.to_numpy(zero_copy_only=False)]
    if determine is None or not mask.any():
        return _undetermined(rows)
    whole = bool(mask.all())
    choice = pa.array(np.flatnonzero(mask))
    extra = {
        "class": classified.claimed,
        "event_time": pa.array(np.minimum(classified.event_time, np.uint64(_LARGEST_TIME)).astype(np.int64)),
        "arrival_time": pa.array(columns.arrival),
        "time_basis": classified.time_basis,
        "faults": fault_lists(classified.faults).dictionary_decode(),
    }
    asked = spans
    for name, values in extra.items():
        asked = asked.append_column(name, values)
    found = determine(asked if whole else asked.take(choice))
    place = np.cumsum(mask) - 1
    back = None if whole else pa.array(place, mask=~mask)

    def column(name: str) -> pa.Array:
        values = found[name].unify_dictionaries().combine_chunks()
        values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
        return values if back is None else values.take(back)

    return Judged(
        facts=column("facts"),
        governing=column("governing"),
        flagged=column("flagged"),
        destination=column("destination"),
        eccn=column("eccn"),
        rule_ids=column("rule_ids"),
        citations=pc.binary_join(column("citations"), "; ").dictionary_encode(),
        why=column("why"),
        missing_facts=column("missing_facts"),
    )


def _undetermined(rows: int) -> Judged:
    text = dictionary(pa.chunked_array([pa.nulls(rows, pa.string())]))
    return Judged(
        facts=pa.nulls(rows, pa.binary()).dictionary_encode(),
        governing=text,
        flagged=pa.nulls(rows, pa.bool_()),
        destination=text,
        eccn=text,
        rule_ids=pa.nulls(rows, pa.list_(pa.string())),
        citations=text,
        why=text,
        missing_facts=pa.nulls(rows, pa.list_(pa.string())),
    )


class LeafMaker:
    """The leaves that the log itself originates (evidence format, section 9)."""

    def __init__(self, context: LogContext) -> None:
        self._context = context

    def _leaf(self, name: str, position: tuple[int, int] | None, arrival: int, body: JsonValue) -> bytes:
        return log_leaf(
            log_id=self._context.opening.log_id,
            class_=name,
            position=position,
            arrival_time=arrival,
            reference_epoch=self._context.epoch.number,
            body=body,
        )

    def opened(self) -> bytes:
        """Leaf 0."""
        opening = self._context.opening
        return self._leaf(EventClass.LOG_OPENED, None, opening.opened_at, opening.body())

    def tail(self, name: str, body: JsonValue, watermark: int) -> bytes:
        """A leaf at the end of a batch, at its watermark (ns)."""
        return self._leaf(name, None, watermark, body)

    def entry(self, entry: Entry) -> bytes:
        """The leaf of a heartbeat or a control entry.

        Raises:
            AuditSpanError: a control entry is none.
        """
        position = (entry.offset, 0)
        if entry.kind is EntryKind.HEARTBEAT:
            return self._leaf(EventClass.HEARTBEAT, position, entry.arrival_time, {})
        try:
            said = json.loads(entry.body)
            name, body = said["class"], {"actor": said["actor"], "body": said["body"]}
        except (ValueError, KeyError, TypeError) as error:
            raise AuditSpanError(
                f"Control entry {entry.offset} is not {{class, actor, body}}.",
                remedy="Only this deployment's own processes may write the control partition: find out who did.",
            ) from error
        return self._leaf(name, position, entry.arrival_time, body)


def _interleave(events: pa.Table, entry_of: npt.NDArray[np.int64], own: Sequence[tuple[int, bytes]]) -> list[pa.Table]:
    """Events and the log's own leaves in order of their entries."""
    pieces: list[pa.Table] = []
    pending: list[bytes] = []
    done = 0
    for index, leaf in own:
        until = int(np.searchsorted(entry_of, index))
        if until > done:
            if pending:
                pieces.append(log_leaves(pending))
                pending = []
            pieces.append(events.slice(done, until - done))
            done = until
        pending.append(leaf)
    pieces.append(log_leaves(pending))
    if done < len(events):
        pieces.append(events.slice(done))
    return pieces


def batch_body(
    state: LogState, context: LogContext, counts: Counts, next_offset: int, watermark: int, suppressed_digest: str
) -> dict[str, JsonValue]:
    """Body of ``audit.batch`` (section 10) for the batch that follows ``state``."""
    return {
        "from": state.next_offset,
        "to": next_offset,
        "first_leaf": state.next_leaf,
        "sealed": counts.sealed,
        "duplicates": counts.duplicates,
        "conflicts": counts.conflicts,
        "quarantined": counts.quarantined,
        "gaps": counts.gaps,
        "suppressed_digest": suppressed_digest,
        "watermark": str(watermark),
        "epoch": {"number": context.epoch.number, "digest": context.epoch.digest},
        "software": context.software,
    }


def numbered(leaves: pa.Table, first_leaf: int, watermark: int) -> pa.Table:
    """The leaves with the two columns that a batch's place gives them: index, and the month of ``watermark`` (ns)."""
    rows = len(leaves)
    index = pa.array(np.arange(first_leaf, first_leaf + rows, dtype=np.uint64))
    months = pa.array(np.full(rows, sealing_month(watermark), np.uint32))
    leaves = leaves.add_column(0, EVENTS.field("leaf_index"), index)
    return leaves.add_column(1, EVENTS.field("sealing_month"), months)
