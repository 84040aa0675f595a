"""The product's leaves for the same inputs, to compare with the deriver's. Only here is the product imported."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from auditspan.processors import batch as product
from auditspan.processors.earlier_logs import PayloadsAcross
from auditspan.processors.intake import decode_entries
from auditspan.processors.own_batches import Successor, derive_closing, derive_lost
from auditspan.processors.restore import restore_state

from auditspan.journal import contract

from .derive import OUTCOMES, Batch, Entry, Log

_COLUMNS = [
    "leaf_index",
    "header",
    "payload",
    "class",
    "emitter",
    "stream",
    "sequence",
    "arrival_time",
    "faults",
    "trace_id",
    "span_id",
]
_STREAM = ("emitter", "stream", "sequence")
_FOREIGN = ("emitter", "trace_id", "span_id")
_TYPES = {
    "emitter": pa.string(),
    "stream": pa.string(),
    "sequence": pa.int64(),
    "trace_id": pa.binary(),
    "span_id": pa.binary(),
    "payload": pa.binary(),
}


class SealedLogs:
    """What was sealed, in memory: the part of `auditspan.store.contract.Store` that identity and restoring ask."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def take(self, log_id: str, leaves: pa.Table) -> None:
        rows = leaves.select(_COLUMNS)
        place = rows.schema.get_field_index("arrival_time")
        rows = rows.set_column(place, "arrival_time", rows["arrival_time"].cast(pa.int64()))
        self._rows.setdefault(log_id, []).extend(rows.to_pylist())

    def next_leaf(self, log_id: str, known: int = 0) -> int:
        return len(self._rows.get(log_id, ()))

    def last_batch(self, log_id: str) -> bytes | None:
        rows = [row for row in self._rows.get(log_id, ()) if row["class"] == "audit.batch"]
        return rows[-1]["header"] if rows else None

    def stream_state(self, log_id: str) -> pa.Table:
        found: dict[tuple[str, str], list[int]] = {}
        for row in self._in_streams(log_id):
            state = found.setdefault((row["emitter"], row["stream"]), [0, 0])
            state[0] = max(state[0], row["sequence"])
            state[1] += not {"duplicate_suspect", "identity.conflict"}.intersection(row["faults"])
        columns = zip(*((*key, *state) for key, state in sorted(found.items())), strict=True) if found else [[]] * 4
        return pa.table(dict(zip(("emitter", "stream", "highest", "count"), map(list, columns), strict=True)))

    def sequences(self, log_id: str, emitter: str, stream: str) -> pa.Table:
        rows = [row for row in self._in_streams(log_id) if (row["emitter"], row["stream"]) == (emitter, stream)]
        rows.sort(key=lambda row: (row["sequence"], row["leaf_index"]))
        return pa.table({name: [row[name] for row in rows] for name in ("sequence", "leaf_index", "arrival_time")})

    def foreign_identities(self, log_id: str, since: int) -> Iterator[pa.RecordBatch]:
        rows = self._rows.get(log_id, [])
        first = next((place for place, row in enumerate(rows) if row["arrival_time"] >= since), len(rows))
        names = ("leaf_index", *_FOREIGN, "arrival_time")
        found = [row for row in rows[first:] if _is_foreign(row)]
        yield pa.record_batch({name: [row[name] for row in found] for name in names})

    def payloads_of_sequences(self, log_id: str, keys: Sequence[tuple[str, str, int]]) -> pa.Table:
        return _found(self._in_streams(log_id), keys, _STREAM)

    def payloads_of_spans(self, log_id: str, keys: Sequence[tuple[str, bytes, bytes]]) -> pa.Table:
        return _found([row for row in self._rows.get(log_id, ()) if _is_foreign(row)], keys, _FOREIGN)

    def _in_streams(self, log_id: str) -> list[dict[str, Any]]:
        return [row for row in self._rows.get(log_id, ()) if row["sequence"] is not None]


def _is_foreign(row: Mapping[str, Any]) -> bool:
    return row["payload"] is not None and row["stream"] is None and row["class"] != "audit.quarantined"


def _found(rows: Sequence[Mapping[str, Any]], keys: Collection[tuple[Any, ...]], names: tuple[str, ...]) -> pa.Table:
    wanted = set(keys)
    kept = [row for row in rows if tuple(row[name] for name in names) in wanted]
    return pa.table({name: pa.array([row[name] for row in kept], _TYPES[name]) for name in (*names, "payload")})


class GivenFacts:
    """In place of the determiner: the facts documents of the inputs, by position."""

    def __init__(self, facts: Mapping[tuple[int, int], bytes]) -> None:
        self._facts = facts
        self.first_offset = 0

    def determine(self, spans: pa.Table) -> pa.Table:
        positions = zip(spans["entry"].to_pylist(), spans["ordinal"].to_pylist(), strict=True)
        facts = [self._facts[self.first_offset + entry, ordinal] for entry, ordinal in positions]
        documents = [document.get("both", [document]) for document in map(json.loads, facts)]
        governing = [max((one["governing"] for one in both), key=OUTCOMES.index) for both in documents]
        rules = [sorted({rule["id"] for one in both for rule in one["rules"] if rule["governs"]}) for both in documents]
        text = pa.string()
        return pa.table(
            {
                "facts": pa.array(facts, pa.binary()).dictionary_encode(),
                "governing": pa.array(governing, text).dictionary_encode(),
                "flagged": pa.array([any(one["flagged"] for one in both) for both in documents], pa.bool_()),
                "destination": pa.array([both[-1]["destination"] for both in documents], text).dictionary_encode(),
                "eccn": pa.array([both[-1]["eccn"] for both in documents], text).dictionary_encode(),
                "rule_ids": pa.array(rules, pa.list_(text)),
                "citations": pa.array([[] for _ in facts], pa.list_(text)),
                "why": pa.array([None for _ in facts], text).dictionary_encode(),
                "missing_facts": pa.array([[] for _ in facts], pa.list_(text)),
            }
        )


def product_leaves(
    log: Log,
    entries: Sequence[Entry],
    batches: Sequence[Batch],
    salt_key: bytes,
    determiner: GivenFacts,
    sealed: SealedLogs | None = None,
    earlier: Sequence[str] = (),
    restarts: Collection[int] = (),
) -> list[bytes]:
    """What `auditspan.processors` make of the inputs.

    ``sealed`` has the logs ``earlier`` (ids) of earlier generations and takes this one. Before the batches in
    ``restarts`` a processor starts anew: it has what it restores, and nothing else.
    """
    sealed = SealedLogs() if sealed is None else sealed
    state = product.LogState()
    opening = product.Opening(log.deployment, log.journal, log.partition, log.log_id, log.opened_at, log.generation)
    leaves: list[bytes] = []
    waiting = [
        contract.Entry(
            log.partition,
            entry.offset,
            contract.EntryKind(entry.kind),
            entry.emitter,
            entry.authentication,
            entry.arrival_time,
            entry.encoding,
            entry.body,
        )
        for entry in entries
    ]
    for number, batch in enumerate(batches):
        if number in restarts or (number == 0 and earlier):
            state = restore_state(
                sealed,  # type: ignore[arg-type]  # what it asks for is there
                log.log_id,
                earlier,
                log.opened_at,
            )
        taken = [entry for entry in waiting if entry.offset < batch.to]
        waiting = waiting[len(taken) :]
        epoch = product.Epoch(batch.epoch_number, batch.epoch_digest)
        context = product.LogContext(
            opening, salt_key, epoch, batch.software, determiner.determine, earlier=tuple(earlier)
        )
        if batch.successor is not None:
            derived = derive_closing(Successor(log.generation + 1, batch.successor), state, context)
        elif taken:
            determiner.first_offset = taken[0].offset
            payloads = PayloadsAcross(sealed, earlier)
            derived = product.derive(taken, decode_entries(taken), state, context, payloads)
        else:
            derived = derive_lost(waiting[0], state, context)
        derived.apply(state)
        sealed.take(log.log_id, derived.leaves)
        leaves += derived.leaves["header"].to_pylist()
    return leaves
