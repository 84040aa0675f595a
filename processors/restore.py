"""The state of a log from what the store holds: what a processor that starts, or takes over, resumes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from auditspan.errors import AuditSpanError
from auditspan.ledger.subtrees import Subtrees
from auditspan.store.contract import Store

from .batch import LogState
from .foreign import WINDOW, ForeignIdentities, fixed_width
from .gaps import PATIENCE, undeclared
from .identity import Identities, StreamKey
from .streams import Stream, from_sealed

__all__ = ["last_batch", "node_table", "restore_state", "store_subtrees"]

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


def restore_state(store: Store, log_id: str) -> LogState:
    """The state after the last sealed batch.

    Raises:
        AuditSpanError: the log does not end with a batch.
        StoreUnavailable: the store cannot be read now.
    """
    body = last_batch(store, log_id)
    if body is None:
        return LogState()
    watermark = int(body["watermark"])
    streams = _streams(store, log_id, watermark)
    return LogState(
        next_leaf=store.next_leaf(log_id),
        next_offset=int(body["to"]),
        watermark=watermark,
        identities=Identities(streams, _foreign(store, log_id, watermark)),
        waiting=undeclared(streams.items()),
    )


def store_subtrees(store: Store, log_id: str) -> Subtrees:
    """Subtrees of a log, read through a client."""
    return Subtrees(_nodes_of(store, log_id), _leaves_of(store, log_id))


def node_table(nodes: Iterable[tuple[int, int, bytes]]) -> pa.Table:
    """``(level, index, hash)`` as `Store.append_nodes` takes them."""
    levels, indices, hashes = zip(*nodes, strict=True)
    return pa.table([levels, indices, hashes], schema=_NODES)


def _streams(store: Store, log_id: str, watermark: int) -> dict[StreamKey, Stream]:
    found = store.stream_state(log_id)
    columns = [found[name].to_pylist() for name in ("emitter", "stream", "highest", "count")]
    streams: dict[StreamKey, Stream] = {}
    for emitter, stream, highest, count in zip(*columns, strict=True):
        if count == highest + 1:
            streams[emitter, stream] = Stream(highest)
            continue
        sealed = store.sequences(log_id, emitter, stream).sort_by("leaf_index")
        streams[emitter, stream] = from_sealed(
            sealed["sequence"].to_numpy(), sealed["arrival_time"].to_numpy(), watermark - PATIENCE
        )
    return streams


def _foreign(store: Store, log_id: str, watermark: int) -> ForeignIdentities:
    foreign = ForeignIdentities()
    for batch in store.foreign_identities(log_id, max(watermark - WINDOW, 0)):
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
        foreign.add(hashes, arrival)
    return foreign


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
