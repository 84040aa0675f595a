"""The determination of a batch: once for each distinct combination of facts and rule time, then row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from auditspan.canonical import canonical_json
from auditspan.policy.engine import Determination, more_restrictive
from auditspan.policy.memory import Memory, weigh
from auditspan.policy.packs import Outcome
from auditspan.policy.reference import Reference
from auditspan.policy.resolve import Codes, Resolver

__all__ = ["DETERMINATIONS", "Determiner"]

DETERMINATIONS: Final = pa.schema(
    [
        pa.field("facts", pa.dictionary(pa.int32(), pa.binary())),
        pa.field("governing", pa.dictionary(pa.int32(), pa.string())),
        pa.field("flagged", pa.bool_()),
        pa.field("destination", pa.dictionary(pa.int32(), pa.string())),
        pa.field("eccn", pa.dictionary(pa.int32(), pa.string())),
        pa.field("rule_ids", pa.list_(pa.string())),
        pa.field("citations", pa.list_(pa.string())),
        pa.field("why", pa.dictionary(pa.int32(), pa.string())),
        pa.field("missing_facts", pa.list_(pa.string())),
    ]
)
"""What :meth:`Determiner.determine` gives, row for row."""

_MOST_REMEMBERED: Final = 20_000
_MOST_BYTES: Final = 256 * 1024 * 1024
"""Of the determinations remembered."""
_NOT_JUDGED: Final = -1
# Evidence format, section 5: every other fault asks for at least a review.
_HARMLESS: Final = frozenset({"time.end_before_start"})
_WIDEST: Final = 2**62


@dataclass(frozen=True, slots=True)
class _Result:
    """One determination as it is written."""

    facts: bytes
    governing: Outcome
    flagged: bool
    destination: str | None
    eccn: str | None
    rule_ids: list[str]
    citations: list[str]
    why: str
    missing_facts: list[str]


class Determiner:
    """Judges determined rows under one reference. Not safe for concurrent calls.

    Memory is bounded: at most 20,000 determinations are remembered, and some 256 MiB of them; besides those what the
    resolver and the engine remember, 128 MiB each.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._resolver = Resolver(reference)
        self._engine = reference.engine()
        self._explainer = reference.explainer()
        self._missing = reference.missing_facts()
        self._boundaries = np.array(self._engine.boundaries, dtype=np.int64)
        self._remembered: Memory[tuple[int, ...], _Result] = Memory(_MOST_REMEMBERED, _MOST_BYTES)
        self.hits = 0
        """Distinct combinations found in memory, over all batches."""
        self.misses = 0
        """Distinct combinations determined anew, over all batches."""

    def determine(self, spans: pa.Table) -> pa.Table:
        """The determination of each row, with schema :data:`DETERMINATIONS`.

        Args:
            spans: rows of determined classes: the columns of ``auditspan.otlp.columns.SPANS`` with ``class``,
                ``event_time`` and ``arrival_time`` (nanoseconds), ``time_basis`` and ``faults``.

        ``governing`` is raised to at least ``review`` where a fault asks for it.
        """
        if spans.num_rows == 0:
            return DETERMINATIONS.empty_table()
        if self._resolver.forget_when_large():
            self._remembered.clear()
        columns = [*self._resolver.codes(spans), *self._rule_times(spans)]
        first, inverse = _distinct_rows(columns)
        keys = np.stack([column[first] for column in columns], axis=1).tolist()
        results = [self._result(tuple(key)) for key in keys]
        return _spread(results, inverse, _demands_review(spans))

    def _rule_times(self, spans: pa.Table) -> tuple[Codes, Codes]:
        """Segment of rule time at the event's time and at its arrival; ``-1`` where that time is not judged."""
        event = self._segments(spans.column("event_time"))
        arrival = self._segments(spans.column("arrival_time"))
        basis = np.asarray(spans.column("time_basis").to_numpy(zero_copy_only=False), dtype=object)
        event[basis == "arrival"] = _NOT_JUDGED
        arrival[basis == "event"] = _NOT_JUDGED
        return event, arrival

    def _segments(self, times: pa.ChunkedArray) -> Codes:
        nanoseconds = np.minimum(times.to_numpy(), np.iinfo(np.int64).max).astype(np.int64)
        found: Codes = np.searchsorted(self._boundaries, nanoseconds, side="right").astype(np.int64) - 1
        return np.maximum(found, 0)

    def _result(self, key: tuple[int, ...]) -> _Result:
        known = self._remembered.get(key)
        if known is not None:
            self.hits += 1
            return known
        self.misses += 1
        # Who owns a party depends on the time as the rules do.
        times = [int(self._boundaries[segment]) for segment in key[-2:] if segment != _NOT_JUDGED]
        judged = [self._engine.determine(self._resolver.facts(key[:-2], time), time) for time in times]
        result = self._single(judged[0]) if len(judged) == 1 else self._both(judged[0], judged[1])
        texts = (result.facts, result.why, *result.rule_ids, *result.citations, *result.missing_facts)
        self._remembered.keep(key, result, weigh(key) + weigh(texts))
        return result

    def _single(self, determination: Determination) -> _Result:
        verdict = determination.verdict
        return _Result(
            determination.document_bytes(),
            verdict.governing,
            verdict.flagged,
            determination.destination,
            verdict.eccn,
            list(determination.rule_ids),
            list(self._explainer.citations(determination)),
            self._explainer.why(determination),
            list(self._missing.of(determination)),
        )

    def _both(self, at_event: Determination, at_arrival: Determination) -> _Result:
        """Both times judged, the most restrictive wins: an emitter's clock must not choose the law."""
        event, arrival = self._single(at_event), self._single(at_arrival)
        governing = more_restrictive((event.governing, arrival.governing, "review"))
        documents: list[Any] = [at_event.document(), at_arrival.document()]
        why = "The event's own time is outside the window around its arrival, so both times are judged."
        why += f" At its arrival: {arrival.why} At its own time: {event.why}"
        return _Result(
            canonical_json({"v": 1, "both": documents}),
            governing,
            event.flagged or arrival.flagged,
            arrival.destination,
            arrival.eccn,
            sorted({*event.rule_ids, *arrival.rule_ids}),
            list(dict.fromkeys((*arrival.citations, *event.citations))),
            why,
            list(dict.fromkeys((*arrival.missing_facts, *event.missing_facts))) if governing == "review" else [],
        )


def _distinct_rows(columns: Sequence[Codes]) -> tuple[Codes, Codes]:
    """Index of the first occurrence of each distinct row of ``columns``, and each row's number among them."""
    key = np.zeros(len(columns[0]), dtype=np.int64)
    span = 1
    for column in columns:
        low = int(column.min())
        width = int(column.max()) - low + 1
        if width == 1:
            continue
        if span * width >= _WIDEST:
            _, key = np.unique(key, return_inverse=True)
            span = int(key.max()) + 1
        key = key * width + (column - low)
        span *= width
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return first, inverse


def _demands_review(spans: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether a row has a fault that asks for at least a review."""
    if "faults" not in spans.column_names:
        return np.zeros(spans.num_rows, dtype=bool)
    faults = spans.column("faults").combine_chunks()
    if isinstance(faults, pa.ChunkedArray):
        faults = faults.chunk(0)
    demanding = np.zeros(spans.num_rows, dtype=bool)
    codes = faults.flatten()
    if len(codes):
        parents = faults.value_parent_indices().to_numpy()
        strict = np.array([code not in _HARMLESS for code in codes.to_pylist()], dtype=bool)
        demanding[parents[strict]] = True
    return demanding


def _spread(results: Sequence[_Result], inverse: Codes, demands_review: npt.NDArray[np.bool_]) -> pa.Table:
    """The results as columns, one row for each number in ``inverse``."""
    take = pa.array(inverse.astype(np.int32))
    raised = [more_restrictive((result.governing, "review")) for result in results]
    # Row 2i is result i as judged, row 2i + 1 the same raised by a fault.
    governing = pa.array(
        [outcome for pair in zip((r.governing for r in results), raised, strict=True) for outcome in pair]
    )
    return pa.table(
        [
            pa.DictionaryArray.from_arrays(take, pa.array([result.facts for result in results], pa.binary())),
            _encoded(governing, inverse * 2 + demands_review),
            pa.array(np.array([result.flagged for result in results], dtype=bool)[inverse]),
            _encoded(pa.array([result.destination for result in results], pa.string()), inverse),
            _encoded(pa.array([result.eccn for result in results], pa.string()), inverse),
            pa.array([result.rule_ids for result in results], pa.list_(pa.string())).take(take),
            pa.array([result.citations for result in results], pa.list_(pa.string())).take(take),
            pa.DictionaryArray.from_arrays(take, pa.array([result.why for result in results], pa.string())),
            pa.array([result.missing_facts for result in results], pa.list_(pa.string())).take(take),
        ],
        schema=DETERMINATIONS,
    )


def _encoded(values: pa.Array, indices: Codes) -> pa.DictionaryArray:
    """``values`` taken at ``indices``, as a dictionary of distinct values without null."""
    encoded = values.dictionary_encode()
    taken = encoded.indices.take(pa.array(indices))
    return pa.DictionaryArray.from_arrays(taken, encoded.dictionary)
