"""The state of a log from what the store holds: what a processor that starts, or takes over, resumes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.errors import AuditSpanError
from auditspan.ledger.subtrees import Subtrees
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .batch import LogState
from .foreign import WINDOW, ForeignIdentities, fixed_width
from .gaps import PATIENCE, undeclared
from .identity import Identities, StreamKey
from .streams import UNSEEN, Stream, from_sealed

__all__ = ["is_closed", "last_batch", "node_table", "restore_state", "store_subtrees"]

_EVER: Final = 2**63 - 1
_NODES: Final = pa.schema(
    [pa.field("level", pa.uint8()), pa.field("node_index", pa.uint64()), pa.field("hash", pa.binary(32))]
)


def last_batch(store: Store, log_id: str) -> Mapping[str, Any] | None:
    """The body of the log's last ``audit.batch`` leaf; None for a log without leaves.

    Raises:
        AuditSpanError: the log does not end with it.
    """
    header, size = store.last_batch(log_id), store.next_leaf(log_id)
    if header is None and size == 0:
        return None
    body: Mapping[str, Any] = json.loads(header)["body"] if header is not None else {}
    if header is None or body["first_leaf"] + body["sealed"] + 1 != size:
        raise AuditSpanError(
            f"Log {log_id} of {size} leaves does not end with a batch: others removed or added leaves.",
            remedy="Keep the store as it is, and restore it from the last backup that `auditspan doctor` finds whole.",
        )
    return body


def is_closed(store: Store, log_id: str) -> bool:
    """Whether the log has ended.

    Raises:
        StoreUnavailable: the store cannot be read now.
    """
    return bool(store.log_leaves(log_id, [EventClass.LOG_CLOSED]).num_rows)


def restore_state(store: Store, log_id: str, earlier: Sequence[str] = (), opened_at: int = 0) -> LogState:
    """The state after the last sealed batch.

    Args:
        store: what the log is read from.
        log_id: of which log.
        earlier: ids of the logs of earlier generations, whose leaves count as leaves before this log's own, in order.
        opened_at: when this log was opened (ns): no foreign identity of an earlier log counts from more than a window
            before that.

    Raises:
        AuditSpanError: a log does not end with a batch.
        StoreUnavailable: the store cannot be read now.
    """
    body = last_batch(store, log_id)
    watermark = int(body["watermark"]) if body is not None else 0
    streams: dict[StreamKey, Stream] = {}
    foreign = ForeignIdentities()
    for one in earlier:
        # Closing a log declares every hole.
        _add_streams(streams, store, one, declared_before=_EVER)
        _add_foreign(foreign, store, one, max(watermark, opened_at) - WINDOW, forget=False)
    if body is None:
        return LogState(identities=Identities(streams, foreign))
    _add_streams(streams, store, log_id, watermark - PATIENCE)
    _add_foreign(foreign, store, log_id, watermark - WINDOW)
    return LogState(
        next_leaf=store.next_leaf(log_id),
        next_offset=int(body["to"]),
        watermark=watermark,
        identities=Identities(streams, foreign),
        waiting=undeclared(streams.items()),
    )


def store_subtrees(store: Store, log_id: str) -> Subtrees:
    """Subtrees of a log, read through a client."""
    return Subtrees(_nodes_of(store, log_id), _leaves_of(store, log_id))


def node_table(nodes: Iterable[tuple[int, int, bytes]]) -> pa.Table:
    """``(level, index, hash)`` as `Store.append_nodes` takes them."""
    levels, indices, hashes = zip(*nodes, strict=True)
    return pa.table([levels, indices, hashes], schema=_NODES)


def _add_streams(streams: dict[StreamKey, Stream], store: Store, log_id: str, declared_before: int) -> None:
    found = store.stream_state(log_id)
    columns = [found[name].to_pylist() for name in ("emitter", "stream", "highest", "count")]
    for emitter, stream, highest, count in zip(*columns, strict=True):
        key = emitter, stream
        if key not in streams and count == highest + 1:
            streams[key] = Stream(highest)
            continue
        sealed = store.sequences(log_id, emitter, stream).sort_by("leaf_index")
        streams[key] = from_sealed(
            sealed["sequence"].to_numpy(),
            sealed["arrival_time"].to_numpy(),
            declared_before,
            streams.get(key, UNSEEN),
        )


def _add_foreign(foreign: ForeignIdentities, store: Store, log_id: str, since: int, *, forget: bool = True) -> None:
    since = max(since, 0)
    for found in store.foreign_identities(log_id, since):
        batch = found.filter(pc.greater_equal(found.column("arrival_time"), since))
        if not len(batch):
            continue
        arrival = batch.column("arrival_time").to_numpy(zero_copy_only=False)
        emitter = batch.column("emitter")
        if not pa.types.is_dictionary(emitter.type):
            emitter = emitter.dictionary_encode()
        names = np.array([foreign.emitter_hash(name) for name in emitter.dictionary.to_pylist()], np.uint64)
        trace, span = (batch.column(name).cast(pa.binary()) for name in ("trace_id", "span_id"))
        hashes = foreign.hash(
            names[emitter.indices.to_numpy(zero_copy_only=False)], fixed_width(trace, 2), fixed_width(span, 1)[:, 0]
        )
        foreign.add(hashes, arrival, forget=forget)


def _nodes_of(store: Store, log_id: str) -> Callable[[int, int, int], Iterator[tuple[int, bytes]]]:
    def nodes(level: int, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        found = store.nodes(log_id, level, begin, end)
        return zip(found["node_index"].to_pylist(), found["hash"].to_pylist(), strict=True)

    return nodes


def _leaves_of(store: Store, log_id: str) -> Callable[[int, int], Iterator[bytes]]:
    def leaves(begin: int, end: int) -> Iterator[bytes]:
        for batch in store.leaves(log_id, begin, end):
            yield from batch.column("header").to_pylist()

    return leaves
