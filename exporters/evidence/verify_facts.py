"""Whether header fields are what the facts document says (evidence format, section 6)."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.ledger.hashing import Digests, listed
from auditspan.semconv import class_is_determined

from .columns import differing_rows, one_array
from .report import Faults

__all__ = ["FactsCheck", "Stated"]

_OUTCOMES: Final = ("no_license_required", "exception", "review", "license_required", "prohibited")
_HARMLESS: Final = frozenset({"time.end_before_start"})
_MOST_CACHED: Final = 20_000

Mask = npt.NDArray[np.bool_]
Stated = tuple[str, bool, str | None, str | None, tuple[str, ...]]
"""What a facts document makes a header say: determination before faults, flagged, destination, ECCN, rule ids."""


_NOTHING: Final[Stated] = ("review", False, None, None, ())
"""What stands for a document that cannot be read, which is a fault of its own."""


class _Demanded:
    """What the documents of one dictionary demand of headers, by number of the document."""

    def __init__(self, stated: list[Stated | str]) -> None:
        self.unreadable = {number: each for number, each in enumerate(stated) if isinstance(each, str)}
        # Thousands of documents say a handful of things.
        numbers: dict[Stated, int] = {}
        codes = [numbers.setdefault(_NOTHING if isinstance(each, str) else each, len(numbers)) for each in stated]
        self._codes, good = np.array(codes, np.int64), [*numbers]
        ranks = {outcome: number for number, outcome in enumerate(_OUTCOMES)}
        self._rank = np.array([ranks[each[0]] for each in good], np.int32)
        self._flagged = np.array([each[1] for each in good], bool)
        self._destination = pa.array([each[2] for each in good], pa.string()).dictionary_encode()
        self._eccn = pa.array([each[3] for each in good], pa.string()).dictionary_encode()
        self._rules = pa.array([each[4] for each in good], pa.list_(pa.string()))

    def columns(self, numbers: pa.Array, review: Mask) -> dict[str, pa.Array]:
        """The header fields of rows with the documents ``numbers``, of which some must be reviewed at least."""
        rows = self._codes[numbers.to_numpy()]
        places = pa.array(rows)
        rank = np.maximum(self._rank[rows], np.where(review, np.int32(_OUTCOMES.index("review")), 0))
        return {
            "determination": pa.DictionaryArray.from_arrays(pa.array(rank), pa.array(_OUTCOMES)),
            "flagged": pa.array(self._flagged[rows]),
            "destination": self._destination.take(places),
            "eccn": self._eccn.take(places),
            "rule_ids": self._rules.take(places),
        }


class FactsCheck:
    """Compares headers with facts; documents that occur again are read once."""

    def __init__(self, log_id: str, faults: Faults) -> None:
        self._log_id, self._faults = log_id, faults
        self._known: dict[bytes, Stated | str] = {}
        self._digests: Digests | None = None
        self._demanded = _Demanded([])

    def rows(self, index: pa.Array, parsed: pa.Table, facts: pa.DictionaryArray, digests: Digests) -> None:
        """Event leaves with their parsed headers and their facts, row for row.

        ``digests`` are those of the documents in the dictionary of ``facts``.
        """
        if facts.null_count:
            present = pc.is_valid(facts)
            self._without_facts(index, parsed, pc.invert(present))
            index, parsed, facts = index.filter(present), parsed.filter(present), facts.filter(present)
        if not len(facts):
            return
        if digests is not self._digests:
            # Windows that follow each other have one dictionary: what was read for one is there for the next.
            keys = listed(digests)
            stated = [
                self._known.get(key) or self._read(facts.dictionary[number], key) for number, key in enumerate(keys)
            ]
            self._digests, self._demanded = digests, _Demanded(stated)
        demanded = self._demanded
        columns = demanded.columns(facts.indices, _demands_review(one_array(parsed["faults"])))
        for name, column in columns.items():
            self._differ(name, index, one_array(parsed[name]), column)
        if demanded.unreadable:
            for row, number in enumerate(facts.indices.to_pylist()):
                if number in demanded.unreadable:
                    self._fault(index[row], "a facts document as section 6", demanded.unreadable[number])

    def _differ(self, name: str, index: pa.Array, actual: pa.Array, wanted: pa.Array) -> None:
        rows = differing_rows(actual, wanted)
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
        classes = one_array(parsed["class"])
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

    def _read(self, document: pa.Scalar, key: bytes) -> Stated | str:
        found: Stated | str
        try:
            found = _stated(json.loads(document.as_py()))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            found = f"{type(error).__name__}: {error}"
        if len(self._known) >= _MOST_CACHED:
            self._known.clear()
        self._known[key] = found
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


def _demands_review(faults: pa.ListArray) -> Mask:
    """Rows with a fault that raises the determination to at least ``review``."""
    mask = np.zeros(len(faults), bool)
    values = faults.flatten()
    if len(values):
        demanding = pc.invert(pc.is_in(values, value_set=pa.array(sorted(_HARMLESS))))
        mask[pc.list_parent_indices(faults).filter(demanding).to_numpy(zero_copy_only=False)] = True
    return mask
