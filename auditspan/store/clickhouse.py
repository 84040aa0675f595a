"""The sealed event stream in ClickHouse (`auditspan.store.contract.Store`)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.store.connection import Connection, EmbeddedConnection
from auditspan.store.contract import Fenced, Overtaken, SealedBatch, StoredAnchor, StoredCheckpoint, StoreUnavailable
from auditspan.store.http_connection import HttpConnection
from auditspan.store.migrate import apply_migrations
from auditspan.store.raw import RawReader
from auditspan.store.raw_writer import RawWriter
from auditspan.store.schema import EVENTS

__all__ = ["ClickHouseStore"]

_RAW_IDS: Final = {"trace_id": "trace_id_raw", "span_id": "span_id_raw"}
"""Ids are stored as bytes; the columns of these names show them in hexadecimal."""

_BINARY: Final = frozenset({"header", "payload", "salt", "facts", "trace_id_raw", "span_id_raw"})
"""Columns whose bytes need not be UTF-8; ClickHouse calls them String like any other."""

_KEYS_PER_QUERY: Final = 5_000

_NARROW: Final = frozenset({"leaf_index", "leaf_hash"})
"""Columns of a few bytes."""

_LOCKS: dict[Path, threading.Lock] = {}
"""Per directory, who may insert: an embedded engine belongs to one process, so a lock in it is enough."""
_LOCKS_GUARD: Final = threading.Lock()


def _writer_lock(path: Path) -> threading.Lock:
    with _LOCKS_GUARD:
        return _LOCKS.setdefault(path, threading.Lock())


class ClickHouseStore:
    """A store on one client. Open one per role and thread: `reader` gives another on the same data."""

    def __init__(self, connect: Callable[[], Connection], lock: threading.Lock, path: Path | None = None) -> None:
        self._connect = connect
        self._lock = lock
        self._path = path
        self._connection = connect()

    @classmethod
    def embedded(cls, path: Path, settings: Mapping[str, Any] | None = None) -> Self:
        """ClickHouse in this process on the directory ``path``, which no other process may have open.

        ``settings`` are ClickHouse settings of this client and its readers.

        Raises:
            StoreUnavailable: the directory cannot be opened.
        """
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        resolved = path.resolve()
        return cls(lambda: EmbeddedConnection(resolved, settings), _writer_lock(resolved), resolved)

    @classmethod
    def http(cls, **options: Any) -> Self:
        """A ClickHouse server, or `auditspan store serve`; ``options`` are those of `HttpConnection`.

        Raises:
            StoreUnavailable: the server cannot be reached.
        """
        return cls(lambda: HttpConnection(**options), threading.Lock())

    def reader(self) -> Self:
        """Another store on the same data with a client of its own: a long query on it delays nobody."""
        return type(self)(self._connect, self._lock, self._path)

    def raw_reader(self, settings: Mapping[str, str]) -> RawReader:
        """A read-only client that keeps ``settings`` and gives results in ClickHouse's own formats, embedded only.

        Raises:
            StatementFailed: it cannot be opened, or a setting is not one.
        """
        if self._path is None:
            raise ValueError("a ClickHouse server answers its own HTTP protocol")
        return RawReader(self._path, settings)

    def raw_writer(self) -> RawWriter:
        """A client that inserts what came over HTTP, in turn with this store's own inserts, embedded only.

        Raises:
            StatementFailed: it cannot be opened.
        """
        if self._path is None:
            raise ValueError("a ClickHouse server answers its own HTTP protocol")
        return RawWriter(self._path, self._lock)

    def migrate(self) -> None:
        """Bring the schema to this version.

        Raises:
            SchemaTooNew: a newer version wrote the store.
            SchemaTooOld: it must be brought to this version first, by somebody who may.
        """
        apply_migrations(self._connection.command)

    def close(self) -> None:
        """Let go of the client."""
        self._connection.close()

    # Leaves

    def append_batch(self, batch: SealedBatch) -> None:
        """Insert a batch if, and only if, the log's next leaf is ``batch.first_leaf``; durable when it returns.

        Raises:
            Fenced: other leaves stand there, or earlier ones are missing.
            StoreUnavailable: it is not known whether it got in; trying again is safe.
        """
        rows = _table_rows(batch)
        end = batch.first_leaf + rows.num_rows
        with self._lock:
            following = self.next_leaf(batch.log_id, batch.first_leaf)
            if following == batch.first_leaf:
                appended = self._append(batch, rows)
                following = self.next_leaf(batch.log_id, batch.first_leaf)
                if appended and following == batch.first_leaf:
                    # The client reports rows as written that the engine dropped as a repetition.
                    raise StoreUnavailable(
                        f"ClickHouse took the batch at leaf {following} of log {batch.log_id} and does not show it.",
                        remedy="Something removed leaves from the store: run `auditspan doctor`.",
                    )
                if appended and following == end and self._ours(batch, end - 1):
                    return
        self._prove(batch, following, end)

    def _append(self, batch: SealedBatch, rows: pa.Table) -> bool:
        """Whether the insert was taken: another writer may have come between the look and it."""
        try:
            self._connection.append(
                "auditspan.events", rows, log_id=batch.log_id, column="leaf_index", first=batch.first_leaf
            )
        except Overtaken:
            return False
        return True

    def _ours(self, batch: SealedBatch, last: int) -> bool:
        """Whether the batch that came in is this one: of two that race for a place, a server drops one in silence."""
        if self._path is not None:
            return True  # the lock kept the other one out
        found = pa.Table.from_batches(self.leaves(batch.log_id, last, last + 1))
        return bool(found["header"].equals(batch.leaves["header"].slice(batch.leaves.num_rows - 1)))

    def _prove(self, batch: SealedBatch, following: int, end: int) -> None:
        """Read the leaves back: the acknowledgement of an insert does not say which rows stand there."""
        if following >= end:
            stored = pa.Table.from_batches(self.leaves(batch.log_id, batch.first_leaf, end))
            if stored["header"].equals(batch.leaves["header"]):
                return
        raise Fenced(
            f"Log {batch.log_id} has {following} leaves in the store, and those from {batch.first_leaf} are not the "
            "ones that this processor sealed.",
            remedy="Another processor owns the log, or the store was restored: let only one run, then start it again.",
        )

    def next_leaf(self, log_id: str, known: int = 0) -> int:
        """Index that the next leaf of the log gets: the number of leaves sealed; see the contract for ``known``."""
        sql = (
            "SELECT leaf_index FROM auditspan.events WHERE log_id = {log_id:String} AND leaf_index >= {last:UInt64} "
            "ORDER BY leaf_index DESC LIMIT 1"
        )
        # With a bound the engine opens the part that holds the last leaves, and none of the others.
        for last in sorted({max(known - 1, 0), 0}, reverse=True):
            found = self._connection.query(sql, {"log_id": log_id, "last": last})
            if found.num_rows:
                return int(found["leaf_index"][0].as_py()) + 1
        return 0

    def leaves(self, log_id: str, begin: int, end: int) -> Iterator[pa.RecordBatch]:
        """``leaf_index`` and ``header`` of leaves ``[begin, end)`` in order, in batches of bounded size."""
        return self.columns(log_id, begin, end, ("leaf_index", "header"))

    def leaf_hashes(self, log_id: str, begin: int, end: int) -> Iterator[pa.RecordBatch]:
        """``leaf_index`` and ``leaf_hash`` of leaves ``[begin, end)`` in order, hashed by the engine."""
        return self.columns(log_id, begin, end, ("leaf_index", "leaf_hash"))

    def columns(self, log_id: str, begin: int, end: int, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """These columns of leaves ``[begin, end)`` in order, in batches of bounded size."""
        if not all(name.isidentifier() for name in names):
            raise ValueError("columns are named as in the table auditspan.events")
        chosen = ", ".join(f"events.{name} AS {name}" for name in names)
        sql = (
            f"SELECT {chosen} FROM auditspan.events WHERE log_id = {{log_id:String}} "  # noqa: S608  names, as checked
            "AND leaf_index >= {begin:UInt64} AND leaf_index < {end:UInt64} ORDER BY leaf_index"
        )
        for block in self._connection.pages(sql, {"log_id": log_id}, begin, end, narrow=_NARROW.issuperset(names)):
            yield _verbatim(block)

    def command(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Run a statement; its only value, if it has one."""
        return self._connection.command(sql, parameters)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Rows of a SELECT with ``{name:Type}`` parameters, which are never formatted into the text."""
        return _verbatim(self._connection.query(sql, parameters))

    def stream(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[pa.RecordBatch]:
        """The same, in batches of bounded size and in constant memory. Close or exhaust it before the next call."""
        for block in self._connection.stream(sql, parameters):
            yield _verbatim(block)

    def pages(self, sql: str, parameters: Mapping[str, Any], begin: int, end: int) -> Iterator[pa.RecordBatch]:
        """Rows of a SELECT over the leaves from ``{begin:UInt64}`` to ``{end:UInt64}``, in batches of bounded size."""
        for block in self._connection.pages(sql, parameters, begin, end):
            yield _verbatim(block)

    def last_batch(self, log_id: str) -> bytes | None:
        """The header of the log's last ``audit.batch`` leaf: where its processor resumes."""
        found = self.query(
            "SELECT header FROM auditspan.events WHERE log_id = {log_id:String} AND class = 'audit.batch' "
            "AND payload = '' ORDER BY leaf_index DESC LIMIT 1",
            {"log_id": log_id},
        )
        return bytes(found["header"][0].as_py()) if found.num_rows else None

    def log_leaves(self, log_id: str, classes: Sequence[str]) -> pa.Table:
        """``leaf_index``, ``class`` and ``header`` of the leaves of these classes that the log itself originated."""
        # An emitter may send audit.gap as well; only what it sent has a payload.
        return self.query(
            "SELECT leaf_index, class, header FROM auditspan.events WHERE log_id = {log_id:String} "
            "AND class IN {classes:Array(String)} AND payload = '' ORDER BY leaf_index",
            {"log_id": log_id, "classes": list(classes)},
        )

    # Identities

    def stream_state(self, log_id: str) -> pa.Table:
        """``emitter``, ``stream``, ``highest`` and ``count`` (int64) of every stream: see the contract."""
        return self.query(
            # A second leaf of a sequence always says so: counting the first ones needs no memory, unlike uniqExact.
            "SELECT emitter, stream, assumeNotNull(max(sequence)) AS highest, "
            "toInt64(countIf(NOT hasAny(faults, ['duplicate_suspect', 'identity.conflict']))) AS count "
            "FROM auditspan.events WHERE log_id = {log_id:String} AND sequence IS NOT NULL "
            "GROUP BY emitter, stream ORDER BY emitter, stream",
            {"log_id": log_id},
        )

    def sequences(self, log_id: str, emitter: str, stream: str) -> pa.Table:
        """``sequence``, ``leaf_index`` and ``arrival_time`` (int64 ns) of a stream's leaves, by sequence and leaf."""
        return self.query(
            "SELECT assumeNotNull(sequence) AS sequence, leaf_index, "
            "toUnixTimestamp64Nano(assumeNotNull(arrival_time)) AS arrival_time "
            "FROM auditspan.events WHERE log_id = {log_id:String} AND emitter = {emitter:String} "
            "AND stream = {stream:String} AND events.sequence IS NOT NULL ORDER BY sequence, leaf_index",
            {"log_id": log_id, "emitter": emitter, "stream": stream},
        )

    def payloads_of_sequences(self, log_id: str, keys: Sequence[tuple[str, str, int]]) -> pa.Table:
        """The leaves sealed under these stream identities: see the contract."""
        return self._of_keys(
            "SELECT emitter, stream, assumeNotNull(sequence) AS sequence, leaf_index, payload "
            "FROM auditspan.events WHERE log_id = {log_id:String} AND stream IN {streams:Array(String)} "
            "AND (emitter, stream, ifNull(events.sequence, -1)) IN {keys:Array(Tuple(String, String, Int64))} "
            "ORDER BY leaf_index",
            log_id,
            keys,
            lambda part: {"streams": sorted({stream for _, stream, _ in part})},
        )

    def payloads_of_spans(self, log_id: str, keys: Sequence[tuple[str, bytes, bytes]]) -> pa.Table:
        """The leaves sealed under these foreign identities: see the contract."""
        return self._of_keys(
            "SELECT emitter, events.trace_id_raw AS trace_id, events.span_id_raw AS span_id, leaf_index, payload "
            "FROM auditspan.events WHERE log_id = {log_id:String} AND stream = '' AND class != 'audit.quarantined' "
            "AND lower(hex(trace_id_raw)) IN {traces:Array(String)} "
            "AND (emitter, lower(hex(trace_id_raw)), lower(hex(span_id_raw))) "
            "IN {keys:Array(Tuple(String, String, String))} ORDER BY leaf_index",
            log_id,
            [(emitter, trace.hex(), span.hex()) for emitter, trace, span in keys],
            lambda part: {"traces": sorted({trace for _, trace, _ in part})},
        )

    def _of_keys(
        self,
        sql: str,
        log_id: str,
        keys: Sequence[tuple[Any, ...]],
        more: Callable[[Sequence[tuple[Any, ...]]], dict[str, Any]],
    ) -> pa.Table:
        parts = [keys[start : start + _KEYS_PER_QUERY] for start in range(0, max(len(keys), 1), _KEYS_PER_QUERY)]
        found = [self.query(sql, {"log_id": log_id, "keys": list(part), **more(part)}) for part in parts]
        rows = pa.concat_tables(found).sort_by("leaf_index") if len(found) > 1 else found[0]
        return _verbatim(rows, frozenset(_RAW_IDS))

    def foreign_identities(self, log_id: str, since: int) -> Iterator[pa.RecordBatch]:
        """The identities of leaves sealed without a stream, in order of leaves: see the contract."""
        first = self.query(
            "SELECT min(leaf_index) AS first, count() AS found FROM auditspan.events "
            "WHERE log_id = {log_id:String} AND arrival_time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')",
            {"log_id": log_id, "since": since},
        ).to_pylist()[0]
        if first["found"]:
            for block in self.stream(
                "SELECT leaf_index, emitter, trace_id_raw AS trace_id, span_id_raw AS span_id, "
                "toUnixTimestamp64Nano(assumeNotNull(events.arrival_time)) AS arrival_time FROM auditspan.events "
                "WHERE log_id = {log_id:String} AND leaf_index >= {first:UInt64} AND stream = '' AND payload != '' "
                "AND class != 'audit.quarantined' ORDER BY leaf_index",
                {"log_id": log_id, "first": first["first"]},
            ):
                yield _verbatim(block, frozenset(_RAW_IDS))

    # Tree and checkpoints

    def append_nodes(self, log_id: str, nodes: pa.Table) -> None:
        """Keep roots of perfect subtrees: columns ``level`` (uint8), ``node_index`` (uint64), ``hash`` (binary, 32)."""
        if nodes.num_rows:
            name = pa.DictionaryArray.from_arrays(pa.array([0] * nodes.num_rows, pa.int32()), [log_id])
            self._connection.insert("auditspan.tree_nodes", nodes.append_column("log_id", name))

    def nodes(self, log_id: str, level: int, begin: int, end: int) -> pa.Table:
        """``node_index`` and ``hash`` (binary) of the nodes ``[begin, end)`` of a level, in order, each once."""
        return self.query(
            "SELECT node_index, any(tree_nodes.hash) AS hash FROM auditspan.tree_nodes "
            "WHERE log_id = {log_id:String} AND level = {level:UInt8} "
            "AND node_index >= {begin:UInt64} AND node_index < {end:UInt64} GROUP BY node_index ORDER BY node_index",
            {"log_id": log_id, "level": level, "begin": begin, "end": end},
        )

    def append_suppressed(self, log_id: str, first_leaf: int, suppressed: pa.Table) -> None:
        """Keep how many records of each stream a batch suppressed: ``emitter``, ``stream``, ``records`` (uint64)."""
        rows = suppressed.num_rows
        columns = {
            "log_id": pa.array([log_id] * rows, pa.string()),
            "first_leaf": pa.array([first_leaf] * rows, pa.uint64()),
            **{name: suppressed[name] for name in ("emitter", "stream", "records")},
        }
        self._connection.insert("auditspan.suppressed", pa.table(columns))

    def keep_request_records(self, records: pa.Table) -> None:
        """Keep records of export requests: see the contract."""
        if records.num_rows:
            self._connection.insert("auditspan.request_records", records)

    def append_checkpoints(self, checkpoints: Sequence[StoredCheckpoint]) -> None:
        """Keep signed checkpoints; durable when it returns. Keeping one again does no harm."""
        if checkpoints:
            signed_at = [checkpoint.signed_at for checkpoint in checkpoints]
            rows = pa.table(
                {
                    "log_id": [checkpoint.log_id for checkpoint in checkpoints],
                    "size": pa.array([checkpoint.size for checkpoint in checkpoints], pa.uint64()),
                    "root": [checkpoint.root for checkpoint in checkpoints],
                    "note": [checkpoint.note for checkpoint in checkpoints],
                    "signed_at": pa.array(signed_at, pa.timestamp("ns", tz="UTC")),
                }
            )
            self._connection.insert("auditspan.checkpoints", rows)

    def last_checkpoint(self, log_id: str) -> StoredCheckpoint | None:
        """The checkpoint of the greatest size."""
        rows = self.query(
            "SELECT log_id, size, root, note, toUnixTimestamp64Nano(checkpoints.signed_at) AS signed_at "
            "FROM auditspan.checkpoints WHERE log_id = {log_id:String} ORDER BY size DESC, signed_at DESC LIMIT 1",
            {"log_id": log_id},
        ).to_pylist()
        return StoredCheckpoint(**rows[0]) if rows else None

    def append_anchors(self, anchors: Sequence[StoredAnchor]) -> None:
        """Keep what others said of checkpoints; durable when it returns. Keeping one again does no harm."""
        if anchors:
            anchored_at = [anchor.anchored_at for anchor in anchors]
            rows = pa.table(
                {
                    "log_id": [anchor.log_id for anchor in anchors],
                    "size": pa.array([anchor.size for anchor in anchors], pa.uint64()),
                    "kind": [anchor.kind for anchor in anchors],
                    "name": [anchor.name for anchor in anchors],
                    "content": [anchor.content for anchor in anchors],
                    "anchored_at": pa.array(anchored_at, pa.timestamp("ns", tz="UTC")),
                }
            )
            self._connection.insert("auditspan.anchors", rows)

    def newest_anchors(self, log_id: str) -> list[StoredAnchor]:
        """Of each kind and name the anchor of the greatest size, by kind and name; none in an older schema."""
        if not self.query("SELECT 1 FROM system.tables WHERE database = 'auditspan' AND name = 'anchors'").num_rows:
            return []
        rows = self.query(
            "SELECT log_id, size, kind, name, content, toUnixTimestamp64Nano(anchors.anchored_at) AS anchored_at "
            "FROM auditspan.anchors WHERE log_id = {log_id:String} "
            "ORDER BY size DESC, anchored_at DESC LIMIT 1 BY kind, name",
            {"log_id": log_id},
        ).to_pylist()
        return sorted((StoredAnchor(**row) for row in rows), key=lambda anchor: (anchor.kind, anchor.name))

    # Reference artifacts

    def keep_artifacts(self, artifacts: Sequence[bytes]) -> None:
        """Keep parts of a reference under their SHA-256, so that every processor can get them; durable."""
        wanted = {hashlib.sha256(content).hexdigest(): content for content in artifacts}
        kept = self.query(
            "SELECT DISTINCT sha256 FROM auditspan.reference_artifacts WHERE sha256 IN {wanted:Array(String)}",
            {"wanted": sorted(wanted)},
        )
        new = sorted(wanted.keys() - set(kept["sha256"].to_pylist()))
        if new:
            content = pa.array([wanted[digest] for digest in new], pa.binary())
            self._connection.insert("auditspan.reference_artifacts", pa.table({"sha256": new, "content": content}))

    def artifact(self, sha256: str) -> bytes | None:
        """What is kept under this digest (hexadecimal); the caller hashes it. None when nothing is."""
        found = _verbatim(
            self._connection.query(
                "SELECT content FROM auditspan.reference_artifacts WHERE sha256 = {sha256:String} LIMIT 1",
                {"sha256": sha256},
            ),
            frozenset({"content"}),
        )
        return bytes(found["content"][0].as_py()) if found.num_rows else None


def _table_rows(batch: SealedBatch) -> pa.Table:
    """The batch's leaves under the names of the table, checked against the contract."""
    leaves = batch.leaves
    if leaves.column_names != EVENTS.names:
        raise ValueError("a batch must have the columns of auditspan.store.schema.EVENTS, in that order")
    if not leaves.num_rows:
        raise ValueError("a batch has at least its audit.batch leaf")
    index = leaves["leaf_index"]
    expected = np.arange(batch.first_leaf, batch.first_leaf + leaves.num_rows, dtype=np.uint64)
    if not np.array_equal(index.to_numpy(), expected):
        raise ValueError("the leaves of a batch must be numbered from first_leaf on without holes")
    if pc.count_distinct(leaves["sealing_month"]).as_py() != 1:
        raise ValueError("a batch must lie in one sealing month: an insert into two partitions is not atomic")
    return leaves.rename_columns([_RAW_IDS.get(name, name) for name in leaves.column_names])


def _verbatim(rows: Any, names: frozenset[str] = _BINARY) -> Any:
    """The same table or record batch with the columns of these names typed as bytes."""
    schema = pa.schema(
        [
            field.with_type(pa.binary()) if field.name in names and pa.types.is_string(field.type) else field
            for field in rows.schema
        ]
    )
    return rows if schema.equals(rows.schema) else rows.cast(schema)
