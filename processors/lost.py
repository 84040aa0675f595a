"""Journal entries that are gone before they were sealed: never a silent jump (evidence format, section 9).

Retention was shorter than an outage, or someone trimmed. The log says so itself: a batch of its own consumes the lost
positions and holds one ``audit.gap`` with their bounds. It depends on the journal and the log's state, on no clock.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from auditspan.canonical import JsonValue
from auditspan.journal.contract import Entry
from auditspan.ledger.hashing import leaf_hashes
from auditspan.ledger.header import log_leaf
from auditspan.semconv import EventClass
from auditspan.store.schema import EVENTS

from .batch import Counts, Derived, LogContext, LogState, sealing_month
from .identity import Judgement
from .leaves import log_leaves

__all__ = ["derive_lost"]


def derive_lost(first_kept: Entry, state: LogState, context: LogContext) -> Derived:
    """The batch that says that the entries from ``state.next_offset`` up to ``first_kept`` were lost.

    Args:
        first_kept: the earliest entry that the journal still has; it is not consumed.
        state: the log before this batch; not changed.
        context: identity of the log, epoch.
    """
    begin, end = state.next_offset, first_kept.offset
    # Nothing was seen of what is lost, so the log's clock stands still: no stream's gap becomes due by this batch.
    watermark = state.watermark or context.opening.opened_at

    def leaf(name: str, arrival: int, body: JsonValue) -> bytes:
        return log_leaf(
            log_id=context.opening.log_id,
            class_=name,
            position=None,
            arrival_time=arrival,
            reference_epoch=context.epoch.number,
            body=body,
        )

    own = []
    if state.next_leaf == 0:
        own.append(leaf(EventClass.LOG_OPENED, context.opening.opened_at, context.opening.body()))
    lost: dict[str, JsonValue] = {"journal": {"from": begin, "to": end, "seen_at": str(first_kept.arrival_time)}}
    own.append(leaf(EventClass.GAP, watermark, lost))
    counts = Counts(sealed=len(own), gaps=1)
    own.append(leaf(EventClass.BATCH, watermark, _account(state, context, counts, end, watermark)))
    leaves = _numbered(log_leaves(own), state.next_leaf, sealing_month(watermark))
    return Derived(
        leaves=leaves,
        leaf_hashes=leaf_hashes(leaves["header"]),
        counts=counts,
        first_leaf=state.next_leaf,
        next_offset=end,
        watermark=watermark,
        judgement=Judgement(np.empty(0, np.int8)),
        waiting=dict(state.waiting),
    )


def _account(
    state: LogState, context: LogContext, counts: Counts, next_offset: int, watermark: int
) -> dict[str, JsonValue]:
    return {
        "from": state.next_offset,
        "to": next_offset,
        "first_leaf": state.next_leaf,
        "sealed": counts.sealed,
        "duplicates": 0,
        "conflicts": 0,
        "quarantined": 0,
        "gaps": counts.gaps,
        "suppressed_digest": hashlib.sha256(b"").hexdigest(),
        "watermark": str(watermark),
        "epoch": {"number": context.epoch.number, "digest": context.epoch.digest},
        "software": context.software,
    }


def _numbered(leaves: pa.Table, first_leaf: int, month: int) -> pa.Table:
    rows = len(leaves)
    index = pa.array(np.arange(first_leaf, first_leaf + rows, dtype=np.uint64))
    months = pa.array(np.full(rows, month, np.uint32))
    return leaves.add_column(0, EVENTS.field("leaf_index"), index).add_column(1, EVENTS.field("sealing_month"), months)
