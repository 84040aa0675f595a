"""The product's leaves for the same inputs, to compare with the deriver's. Only here is the product imported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from auditspan.processors import batch as product
from auditspan.processors.intake import decode_entries
from auditspan.processors.lost import derive_lost

from auditspan.journal import contract

from .derive import OUTCOMES, Batch, Entry, Log


class SealedPayloads:
    """The store's side of identity, in memory."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def take(self, leaves: pa.Table) -> None:
        names = ["emitter", "stream", "sequence", "trace_id", "span_id", "payload", "class"]
        self._rows += [row for row in leaves.select(names).to_pylist() if row["payload"] is not None]

    def payloads_of_sequences(self, _log_id: str, keys: Sequence[tuple[str, str, int]]) -> pa.Table:
        return self._found(keys, ("emitter", "stream", "sequence"), lambda row: row["stream"] is not None)

    def payloads_of_spans(self, _log_id: str, keys: Sequence[tuple[str, bytes, bytes]]) -> pa.Table:
        foreign = ("emitter", "trace_id", "span_id")
        return self._found(keys, foreign, lambda row: row["stream"] is None and row["class"] != "audit.quarantined")

    def _found(self, keys: Sequence[tuple[Any, ...]], names: tuple[str, ...], fits: Any) -> pa.Table:
        wanted = set(keys)
        rows = [row for row in self._rows if fits(row) and tuple(row[name] for name in names) in wanted]
        return pa.table({name: [row[name] for row in rows] for name in (*names, "payload")})


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
            }
        )


def product_leaves(
    log: Log,
    entries: Sequence[Entry],
    batches: Sequence[Batch],
    salt_key: bytes,
    determiner: GivenFacts,
) -> list[bytes]:
    """What `auditspan.processors.batch.derive` makes of the inputs."""
    sealed, state = SealedPayloads(), product.LogState()
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
    for batch in batches:
        taken = [entry for entry in waiting if entry.offset < batch.to]
        waiting = waiting[len(taken) :]
        epoch = product.Epoch(batch.epoch_number, batch.epoch_digest)
        context = product.LogContext(opening, salt_key, epoch, batch.software, determiner.determine)
        if taken:
            determiner.first_offset = taken[0].offset
            derived = product.derive(taken, decode_entries(taken), state, context, sealed)
        else:
            derived = derive_lost(waiting[0], state, context)
        derived.apply(state)
        sealed.take(derived.leaves)
        leaves += derived.leaves["header"].to_pylist()
    return leaves
