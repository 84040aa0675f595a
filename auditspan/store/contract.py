"""The store: where sealed leaves live and are read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from auditspan.errors import AuditSpanError

__all__ = ["Fenced", "SealedBatch", "Store", "StoreUnavailable"]


class StoreUnavailable(AuditSpanError):
    """The store cannot be reached or refused for a reason that may pass; trying again is safe."""


class Fenced(AuditSpanError):
    """Another processor's batch stands where this one belongs: this processor no longer owns the log and must stop."""


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """Leaves ``[first_leaf, first_leaf + len(leaves))`` of one log, in order, the last one ``audit.batch``.

    ``leaves`` has the schema `auditspan.store.schema.EVENTS`, and one value of ``log_id`` and ``sealing_month``.
    """

    log_id: str
    first_leaf: int
    leaves: pa.Table


class Store(Protocol):
    """The contract. One object per role and thread: a client runs one call at a time."""

    def migrate(self) -> None:
        """Bring the schema to this version; refuse one that is newer."""

    def append_batch(self, batch: SealedBatch) -> None:
        """Insert a batch if, and only if, the log's next leaf is ``batch.first_leaf``; durable when it returns.

        Trying the same batch again after `StoreUnavailable` is safe: one that did get in is recognised by reading it
        back.

        Raises:
            Fenced: other leaves stand there.
            StoreUnavailable: it is not known whether it got in.
        """

    def next_leaf(self, log_id: str) -> int:
        """Index that the next leaf of the log gets: the number of leaves sealed."""

    def leaves(self, log_id: str, begin: int, end: int) -> Iterator[pa.RecordBatch]:
        """``leaf_index`` and ``header`` of leaves ``[begin, end)`` in order, in batches of bounded size."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Rows of a SELECT with ``{name:Type}`` parameters, which are never formatted into the text."""

    def stream(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[pa.RecordBatch]:
        """The same, in batches of bounded size and in constant memory."""

    def close(self) -> None:
        """Let go of the connection."""
