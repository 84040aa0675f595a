"""Whether header fields are what the facts document says (evidence format, section 6)."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.ledger.hashing import Digests
from auditspan.semconv import class_is_determined

from .report import Faults

__all__ = ["FactsCheck", "Stated"]

_OUTCOMES: Final = ("no_license_required", "exception", "review", "license_required", "prohibited")
_HARMLESS: Final = frozenset({"time.end_before_start"})
_MOST_CACHED: Final = 20_000

Stated = tuple[str, bool, str | None, str | None, tuple[str, ...]]
"""What a facts document makes a header say: determination before faults, flagged, destination, ECCN, rule ids."""


class FactsCheck:
    """Compares headers with facts; documents that occur again are read once."""

    def __init__(self, log_id: str, faults: Faults) -> None:
        self._log_id, self._faults = log_id, faults
        self._known: dict[bytes, Stated | str] = {}
        self._digests: Digests | None = None
        self._of_dictionary: list[Stated | str | None] = []

    def rows(self, index: pa.Array, parsed: pa.Table, facts: pa.DictionaryArray, digests: Digests) -> None:
        """Event leaves with their parsed headers and their facts, row for row.

        ``digests`` are those of the documents in the dictionary of ``facts``.
        """
        self._without_facts(index, parsed, pc.is_null(facts))
        present = pc.is_valid(facts)
        if not pc.any(present).as_py():
            return
        if facts.null_count:
            index, parsed, facts = index.filter(present), parsed.filter(present), facts.filter(present)
        used = facts.indices.unique()
        # From the number of a document in the dictionary to its place among those in use.
        place = np.zeros(len(facts.dictionary), np.int64)
        place[used.to_numpy()] = np.arange(len(used))
        if digests is not self._digests:
            # Windows that follow each other have one dictionary: what was looked up for one is there for the next.
            self._digests, self._of_dictionary = digests, [None] * len(digests)
        stated = [
            self._of_dictionary[number] or self._read(facts.dictionary, number, digests) for number in used.to_pylist()
        ]
        rows = pa.array(place[facts.indices.to_numpy()])
        self._compare(index, parsed, stated, rows)

    def _compare(self, index: pa.Array, parsed: pa.Table, stated: list[Stated | str], rows: pa.Array) -> None:
        good = [each if isinstance(each, tuple) else ("review", False, None, None, ()) for each in stated]
        rank = {outcome: number for number, outcome in enumerate(_OUTCOMES)}
        demanded = np.maximum(
            np.array([rank[each[0]] for each in good])[rows.to_numpy()],
            np.where(_demands_review(parsed["faults"].combine_chunks()), rank["review"], 0),
        )
        wanted = {
            "determination": pa.array(_OUTCOMES).take(pa.array(demanded)),
            "flagged": pa.array([each[1] for each in good]).take(rows),
            "destination": pa.array([each[2] for each in good], pa.string()).take(rows),
            "eccn": pa.array([each[3] for each in good], pa.string()).take(rows),
        }
        for name, column in wanted.items():
            actual = parsed[name].combine_chunks()
            self._differ(
                name, index, actual.dictionary_decode() if pa.types.is_dictionary(actual.type) else actual, column
            )
        lists = pc.binary_join(parsed["rule_ids"].combine_chunks(), "\n")
        self._differ("rule_ids", index, lists, pa.array(["\n".join(each[4]) for each in good]).take(rows))
        if any(isinstance(each, str) for each in stated):
            for row, number in enumerate(rows.to_pylist()):
                if isinstance(stated[number], str):
                    self._fault(index[row], "a facts document as section 6", stated[number])

    def _differ(self, name: str, index: pa.Array, actual: pa.Array, wanted: pa.Array) -> None:
        if actual.equals(wanted):
            return
        same = pc.fill_null(pc.equal(actual, wanted), False)
        differs = pc.invert(pc.or_(same, pc.and_(pc.is_null(actual), pc.is_null(wanted))))
        rows = np.flatnonzero(differs.to_numpy(zero_copy_only=False)).tolist()
        told = rows[: self._faults.room("facts.mismatch")]
        for row in told:
            self._fault(index[row], f"{name} {wanted[row]}", f"{name} {actual[row]}")
        self._count_rest(len(rows) - len(told))

    def _count_rest(self, untold: int) -> None:
        if untold:
            self._faults.add("facts.mismatch", None, "", "", count=untold)

    def _fault(self, leaf: pa.Scalar, expected: object, actual: object) -> None:
        self._faults.add("facts.mismatch", (self._log_id, leaf.as_py()), expected, actual)

    def _without_facts(self, index: pa.Array, parsed: pa.Table, absent: pa.Array) -> None:
        """A header without facts says nothing that only facts can say."""
        if not pc.any(absent).as_py():
            return
        index, parsed = index.filter(absent), parsed.filter(absent)
        classes = parsed["class"].combine_chunks()
        judged = pa.array([class_is_determined(name) for name in classes.dictionary.to_pylist()]).take(classes.indices)
        claims = pc.or_(
            pc.or_(parsed["flagged"], judged), pc.or_(pc.is_valid(parsed["eccn"]), pc.is_valid(parsed["destination"]))
        )
        claims = pc.or_(claims, pc.greater(pc.list_value_length(parsed["rule_ids"]), 0))
        claims = pc.or_(
            claims, pc.not_equal(pc.fill_null(parsed["determination"].cast(pa.string()), "review"), "review")
        )
        for row in np.flatnonzero(claims.to_numpy(zero_copy_only=False)).tolist():
            self._fault(index[row], "a facts document for what the header says", "none")

    def _read(self, documents: pa.Array, number: int, digests: Digests) -> Stated | str:
        key = digests[number].tobytes()
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST_CACHED:
                self._known.clear()
            try:
                found = _stated(json.loads(documents[number].as_py()))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                found = f"{type(error).__name__}: {error}"
            self._known[key] = found
        self._of_dictionary[number] = found
        return found


def _stated(document: dict[str, Any]) -> Stated:
    if document["v"] != 1:
        raise ValueError(f"version {document['v']}")
    if "both" in document:
        event, arrival = (_single(each) for each in document["both"])
        governing = max("review", event[0], arrival[0], key=_OUTCOMES.index)
        return governing, event[1] or arrival[1], arrival[2], arrival[3], tuple(sorted({*event[4], *arrival[4]}))
    return _single(document)


def _single(document: dict[str, Any]) -> Stated:
    rules = tuple(sorted(rule["id"] for rule in document["rules"] if rule["governs"] is True))
    governing, flagged = document["governing"], document["flagged"]
    if governing not in _OUTCOMES or not isinstance(flagged, bool):
        raise ValueError("governing or flagged is not one of the allowed values")
    for value in (document["destination"], document["eccn"]):
        if not (value is None or isinstance(value, str)):
            raise TypeError("destination or eccn is no text")
    return governing, flagged, document["destination"], document["eccn"], rules


def _demands_review(faults: pa.ListArray) -> Any:
    """Rows with a fault that raises the determination to at least ``review``."""
    mask = np.zeros(len(faults), bool)
    values = faults.flatten()
    if len(values):
        demanding = pc.invert(pc.is_in(values, value_set=pa.array(sorted(_HARMLESS))))
        mask[pc.list_parent_indices(faults).filter(demanding).to_numpy(zero_copy_only=False)] = True
    return mask
