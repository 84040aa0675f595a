"""Which leaves a query by arrival time covers: intervals cut at batches (evidence format, section 14)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import pyarrow as pa

from auditspan.ledger.subtrees import Subtrees
from auditspan.store.contract import StoredCheckpoint

__all__ = ["Reader", "choose_interval", "encoded", "epochs_named", "subtrees_of"]

_BATCH_AT: Final = (
    "FROM auditspan.events WHERE log_id = {log_id:String} AND class = 'audit.batch' AND payload = '' "
    "AND leaf_index < {size:UInt64} AND arrival_time"
)


class Reader(Protocol):
    """What an export reads of the store (`auditspan.store.contract.Store`)."""

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> pa.Table:
        """All rows of a SELECT."""

    def columns(self, log_id: str, begin: int, end: int, names: Sequence[str]) -> Iterable[pa.RecordBatch]:
        """These columns of leaves in order, in pieces."""

    def leaves(self, log_id: str, begin: int, end: int) -> Iterable[pa.RecordBatch]:
        """Headers of leaves in order."""

    def nodes(self, log_id: str, level: int, begin: int, end: int) -> pa.Table:
        """Kept nodes of the tree."""

    def last_checkpoint(self, log_id: str) -> StoredCheckpoint | None:
        """The checkpoint of the greatest size."""

    def log_leaves(self, log_id: str, classes: list[str]) -> pa.Table:
        """Leaves that the log itself originated."""


def choose_interval(store: Reader, log_id: str, size: int, time_from: int, time_to: int) -> tuple[int, int]:
    """``[a, b)`` for arrival times in ``[time_from, time_to)``, below the ``size`` that a checkpoint covers.

    The typed arrival time of an ``audit.batch`` leaf is its watermark (section 9); the verifier checks both ends on the
    leaves themselves.
    """
    bounds = {"log_id": log_id, "size": size, "from": min(time_from, 2**63 - 1), "to": min(time_to, 2**63 - 1)}
    begin = store.query(
        f"SELECT max(leaf_index) AS found {_BATCH_AT} < fromUnixTimestamp64Nano({{from:Int64}}, 'UTC')",
        bounds,
    )
    end = store.query(
        f"SELECT min(leaf_index) AS found, count() AS batches {_BATCH_AT} "
        ">= fromUnixTimestamp64Nano({to:Int64}, 'UTC')",
        bounds,
    ).to_pylist()[0]
    # Aggregates over no row are 0 in ClickHouse, which is what `a` must be then.
    return int(begin["found"][0].as_py()), int(end["found"]) + 1 if end["batches"] else size


def epochs_named(store: Reader, log_id: str, begin: int, end: int) -> set[int]:
    """Reference epochs that leaves of the interval name."""
    rows = store.query(
        "SELECT DISTINCT reference_epoch FROM auditspan.events WHERE log_id = {log_id:String} "
        "AND leaf_index >= {begin:UInt64} AND leaf_index < {end:UInt64}",
        {"log_id": log_id, "begin": begin, "end": end},
    )
    return {int(number) for number in rows["reference_epoch"].to_pylist()} - {0}


def subtrees_of(store: Reader, log_id: str) -> Subtrees:
    """Hashes of subtrees of a log, from the nodes that the store keeps and its leaves."""

    def nodes(level: int, begin: int, end: int) -> Iterable[tuple[int, bytes]]:
        found = store.nodes(log_id, level, begin, end)
        return zip(found["node_index"].to_pylist(), found["hash"].to_pylist(), strict=True)

    def leaves(begin: int, end: int) -> Iterable[bytes]:
        for batch in store.leaves(log_id, begin, end):
            yield from batch["header"].to_pylist()

    return Subtrees(nodes, leaves)


def encoded(hashes: Iterable[bytes]) -> list[str]:
    """Hashes as a manifest holds them."""
    return [base64.b64encode(digest).decode() for digest in hashes]
