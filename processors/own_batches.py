"""Batches that consume no entry, in which a log speaks of itself: what was lost, and that it ends.

Both depend on the journal and on the log's state, on no clock (``docs/evidence-format.md`` section 9).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from auditspan.canonical import JsonValue
from auditspan.journal.contract import Entry
from auditspan.ledger.hashing import leaf_hashes
from auditspan.semconv import EventClass

from .batch import Counts, Derived, LeafMaker, LogContext, LogState, batch_body, numbered
from .gaps import declare
from .identity import Judgement
from .leaves import log_leaves

__all__ = ["Successor", "derive_closing", "derive_lost"]

_EVER: Final = 2**63 - 1
_NOTHING_SUPPRESSED: Final = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Successor:
    """The generation of logs that goes on, and how many logs it has."""

    generation: int
    partitions: int

    def body(self) -> dict[str, JsonValue]:
        """Body of ``audit.log.closed``."""
        return {"successor": {"generation": self.generation, "partitions": self.partitions}}


def derive_lost(first_kept: Entry, state: LogState, context: LogContext) -> Derived:
    """The batch that says that the entries from ``state.next_offset`` up to ``first_kept`` were lost.

    Retention was shorter than an outage, or someone trimmed: never a silent jump.

    Args:
        first_kept: the earliest entry that the journal still has; it is not consumed.
        state: the log before this batch; not changed.
        context: identity of the log, epoch.
    """
    end = first_kept.offset
    lost: dict[str, JsonValue] = {
        "journal": {"from": state.next_offset, "to": end, "seen_at": str(first_kept.arrival_time)}
    }
    return _derived([(EventClass.GAP, lost)], Judgement(np.empty(0, np.int8)), state, context, end)


def derive_closing(successor: Successor, state: LogState, context: LogContext) -> Derived:
    """The batch with which a log ends: every hole in a stream is declared, however young, and nothing waits.

    Args:
        successor: what goes on.
        state: the log before this batch, all of its partition consumed; not changed.
        context: identity of the log, epoch.
    """
    judgement = Judgement(np.empty(0, np.int8))
    gaps, _ = declare(state.identities.streams, judgement.streams, state.waiting, _EVER)
    said: list[tuple[str, JsonValue]] = [(EventClass.GAP, gap.body()) for gap in gaps]
    said.append((EventClass.LOG_CLOSED, successor.body()))
    return _derived(said, judgement, state, context, state.next_offset)


def _derived(
    said: Sequence[tuple[str, JsonValue]], judgement: Judgement, state: LogState, context: LogContext, end: int
) -> Derived:
    # Nothing came, so the log's clock stands still: no stream's gap becomes due by this batch.
    watermark = state.watermark or context.opening.opened_at

    make = LeafMaker(context)
    own = [make.opened()] if state.next_leaf == 0 else []
    own += [make.tail(name, body, watermark) for name, body in said]
    counts = Counts(sealed=len(own), gaps=sum(name == EventClass.GAP for name, _ in said))
    account = batch_body(state, context, counts, end, watermark, _NOTHING_SUPPRESSED)
    own.append(make.tail(EventClass.BATCH, account, watermark))
    leaves = numbered(log_leaves(own), state.next_leaf, watermark)
    return Derived(
        leaves=leaves,
        leaf_hashes=leaf_hashes(leaves["header"]),
        counts=counts,
        first_leaf=state.next_leaf,
        next_offset=end,
        watermark=watermark,
        judgement=judgement,
        waiting={key: since for key, since in state.waiting.items() if key not in judgement.streams},
    )
