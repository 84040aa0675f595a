"""The store: where sealed leaves live and are read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from auditspan.errors import AuditSpanError

__all__ = [
    "Fenced",
    "Overtaken",
    "SchemaTooNew",
    "SchemaTooOld",
    "SealedBatch",
    "Store",
    "StoreUnavailable",
    "StoredAnchor",
    "StoredCheckpoint",
]


class StoreUnavailable(AuditSpanError):
    """The store cannot be reached or refused for a reason that may pass; trying again is safe."""


class Overtaken(StoreUnavailable):
    """A conditional insert was refused, as its rows do not follow the log's last one: they are there, or others are."""


class Fenced(AuditSpanError):
    """Another processor's batch stands where this one belongs: this processor no longer owns the log and must stop."""


class SchemaTooNew(AuditSpanError):
    """A newer version wrote this store; an older one must not touch it."""


class SchemaTooOld(AuditSpanError):
    """The store must be migrated first, and this client may not do it."""


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed checkpoint as the store keeps it. ``root`` is base64, ``signed_at`` nanoseconds since 1970."""

    log_id: str
    size: int
    root: str
    note: str
    signed_at: int


@dataclass(frozen=True, slots=True)
class StoredAnchor:
    """What somebody independent said of a log's checkpoint of ``size`` leaves.

    ``kind`` is ``timestamp`` (``content`` is an RFC 3161 token in base64) or ``cosignature`` (a signature line of a
    note); ``name`` is the authority's or the witness's, ``anchored_at`` the time it states, nanoseconds since 1970.
    """

    log_id: str
    size: int
    kind: str
    name: str
    content: str
    anchored_at: int


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

    def next_leaf(self, log_id: str, known: int = 0) -> int:
        """Index that the next leaf of the log gets: the number of leaves sealed.

        ``known``: how many leaves the caller believes it to have, which makes the answer cheap where it is so.
        """

    def leaves(self, log_id: str, begin: int, end: int) -> Iterator[pa.RecordBatch]:
        """``leaf_index`` and ``header`` of leaves ``[begin, end)`` in order, in batches of bounded size."""

    def leaf_hashes(self, log_id: str, begin: int, end: int) -> Iterator[pa.RecordBatch]:
        """``leaf_index`` and ``leaf_hash`` (32 bytes) of leaves ``[begin, end)`` in order.

        The store computes the RFC 6962 hash from the header that it keeps: as good as the header to compare with, and a
        twentieth of its bytes.
        """

    def columns(self, log_id: str, begin: int, end: int, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """These columns of leaves ``[begin, end)`` in order, in batches of bounded size.

        Also through an endpoint that bounds its results: it is asked for page after page.
        """

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Rows of a SELECT with ``{name:Type}`` parameters, which are never formatted into the text."""

    def stream(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[pa.RecordBatch]:
        """The same, in batches of bounded size and in constant memory."""

    def pages(self, sql: str, parameters: Mapping[str, Any], begin: int, end: int) -> Iterator[pa.RecordBatch]:
        """Rows of a SELECT over the leaves from ``{begin:UInt64}`` to ``{end:UInt64}``, in batches of bounded size.

        Also through an endpoint that bounds its results: it is asked for page after page. Close or exhaust it before
        the next call.
        """

    def last_batch(self, log_id: str) -> bytes | None:
        """The header of the log's last ``audit.batch`` leaf: where its processor resumes."""

    def append_nodes(self, log_id: str, nodes: pa.Table) -> None:
        """Keep roots of perfect subtrees: columns ``level`` (uint8), ``node_index`` (uint64), ``hash`` (binary, 32).

        A node never changes, so keeping one again does no harm.
        """

    def nodes(self, log_id: str, level: int, begin: int, end: int) -> pa.Table:
        """``node_index`` and ``hash`` (binary) of the nodes ``[begin, end)`` of a level, in order, each once."""

    def append_suppressed(self, log_id: str, first_leaf: int, suppressed: pa.Table) -> None:
        """Keep how many records of each stream a batch suppressed: ``emitter``, ``stream``, ``records`` (uint64).

        Keeping those of one batch again does no harm.
        """

    def keep_request_records(self, records: pa.Table) -> None:
        """Keep records of export requests, as `auditspan.requests.reading.RECORDS` says; durable when it returns.

        They are derived from sealed leaves: keeping one again does no harm.
        """

    def append_checkpoints(self, checkpoints: Sequence[StoredCheckpoint]) -> None:
        """Keep signed checkpoints; durable when it returns. Keeping one again does no harm."""

    def last_checkpoint(self, log_id: str) -> StoredCheckpoint | None:
        """The checkpoint of the greatest size."""

    def append_anchors(self, anchors: Sequence[StoredAnchor]) -> None:
        """Keep what others said of checkpoints; durable when it returns. Keeping one again does no harm."""

    def newest_anchors(self, log_id: str) -> list[StoredAnchor]:
        """Of each kind and name the anchor of the greatest size, by kind and name; none in an older schema."""

    def keep_artifacts(self, artifacts: Sequence[bytes]) -> None:
        """Keep parts of a reference under their SHA-256, so that every processor can get them; durable."""

    def artifact(self, sha256: str) -> bytes | None:
        """What is kept under this digest (hexadecimal); the caller hashes it. None when nothing is."""

    def log_leaves(self, log_id: str, classes: Sequence[str]) -> pa.Table:
        """``leaf_index``, ``class`` and ``header`` of the leaves of these classes that the log itself originated."""

    def stream_state(self, log_id: str) -> pa.Table:
        """``emitter``, ``stream``, ``highest`` and ``count`` (int64) of every stream.

        ``highest`` is the greatest sequence sealed, ``count`` how many distinct ones were. A stream without holes has
        ``count = highest + 1``.
        """

    def sequences(self, log_id: str, emitter: str, stream: str) -> pa.Table:
        """``sequence``, ``leaf_index`` and ``arrival_time`` (int64 ns) of a stream's leaves, by sequence and leaf."""

    def payloads_of_sequences(self, log_id: str, keys: Sequence[tuple[str, str, int]]) -> pa.Table:
        """The leaves sealed under these stream identities.

        Columns ``emitter``, ``stream``, ``sequence``, ``leaf_index``, ``payload``, in order of leaves; ``keys``
        are ``(emitter, stream, sequence)``.
        """

    def payloads_of_spans(self, log_id: str, keys: Sequence[tuple[str, bytes, bytes]]) -> pa.Table:
        """The leaves sealed under these foreign identities.

        Columns ``emitter``, ``trace_id``, ``span_id`` (raw), ``leaf_index``, ``payload``, in order of leaves; ``keys``
        are ``(emitter, trace id, span id)`` with raw ids.
        """

    def foreign_identities(self, log_id: str, since: int) -> Iterator[pa.RecordBatch]:
        """The identities of leaves sealed without a stream, in order of leaves.

        Columns ``leaf_index``, ``emitter``, ``trace_id``, ``span_id`` (raw), ``arrival_time`` (int64 ns), from the
        first leaf on whose arrival time is ``since`` (nanoseconds) or later.
        """

    def close(self) -> None:
        """Let go of the connection."""
