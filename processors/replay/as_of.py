"""The store as it was before a leaf was sealed: what a processor knew when it sealed that leaf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from auditspan.store.contract import Store

__all__ = ["StoreAsOf"]

_LAST_BATCH = (
    "SELECT header FROM auditspan.events WHERE log_id = {log_id:String} AND leaf_index = {last:UInt64} LIMIT 1"
)
# As `ClickHouseStore.stream_state`: a second leaf of a sequence always says so in its faults.
_STREAMS = (
    "SELECT emitter, stream, assumeNotNull(max(sequence)) AS highest, "
    "toInt64(countIf(NOT hasAny(faults, ['duplicate_suspect', 'identity.conflict']))) AS count "
    "FROM auditspan.events WHERE log_id = {log_id:String} AND leaf_index < {before:UInt64} AND sequence IS NOT NULL "
    "GROUP BY emitter, stream ORDER BY emitter, stream"
)


class StoreAsOf:
    """The part of the `Store` contract that identity and its restoring ask for, without leaves of ``log_id`` to come.

    Those are the leaves from ``before`` on: set it to the first leaf of the batch that is derived next. Logs of earlier
    generations are given whole, since they were closed before ``log_id`` had a leaf.
    """

    def __init__(self, store: Store, log_id: str, before: int = 0) -> None:
        self._store = store
        self._log_id = log_id
        self.before = before

    def next_leaf(self, log_id: str) -> int:
        """How many leaves there were."""
        return self.before if log_id == self._log_id else self._store.next_leaf(log_id)

    def last_batch(self, log_id: str) -> bytes | None:
        """The header of the last leaf, which ends a batch when ``before`` begins one."""
        if log_id != self._log_id:
            return self._store.last_batch(log_id)
        if not self.before:
            return None
        found = self._store.query(_LAST_BATCH, {"log_id": log_id, "last": self.before - 1})
        return bytes(found["header"][0].as_py()) if found.num_rows else None

    def stream_state(self, log_id: str) -> pa.Table:
        """See `Store.stream_state`."""
        if log_id != self._log_id:
            return self._store.stream_state(log_id)
        return self._store.query(_STREAMS, {"log_id": log_id, "before": self.before})

    def sequences(self, log_id: str, emitter: str, stream: str) -> pa.Table:
        """See `Store.sequences`."""
        return self._earlier(log_id, self._store.sequences(log_id, emitter, stream))

    def payloads_of_sequences(self, log_id: str, keys: Sequence[tuple[str, str, int]]) -> pa.Table:
        """See `Store.payloads_of_sequences`."""
        return self._earlier(log_id, self._store.payloads_of_sequences(log_id, keys))

    def payloads_of_spans(self, log_id: str, keys: Sequence[tuple[str, bytes, bytes]]) -> pa.Table:
        """See `Store.payloads_of_spans`."""
        return self._earlier(log_id, self._store.payloads_of_spans(log_id, keys))

    def foreign_identities(self, log_id: str, since: int) -> Iterator[pa.RecordBatch]:
        """See `Store.foreign_identities`."""
        for block in self._store.foreign_identities(log_id, since):
            yield self._earlier(log_id, block)

    def _earlier(self, log_id: str, rows: pa.Table | pa.RecordBatch) -> pa.Table | pa.RecordBatch:
        if log_id != self._log_id:
            return rows
        return rows.filter(pc.less(rows.column("leaf_index"), pa.scalar(self.before, pa.uint64())))
