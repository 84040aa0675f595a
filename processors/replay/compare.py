"""Stored rows against derived ones, column by column: what differs, at which leaf.

An empty text or byte string in the store stands for null, as in its schema. No stored payload, salt or facts document
is ever shown: a report goes to people who may not read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.store.schema import EVENTS

from .report import Findings

__all__ = ["RENDERED", "STORED", "Difference", "Run", "differences", "differing_rows", "report", "runs"]

_STORED_AS: Final = {"trace_id": "trace_id_raw", "span_id": "span_id_raw"}
STORED: Final = tuple(_STORED_AS.get(name, name) for name in EVENTS.names)
"""The columns of a leaf under the names of the table."""

RENDERED: Final = frozenset({"citations", "why", "missing_facts"})
"""Columns rendered for whoever reads the store: no part of the evidence, and not to be had from stored facts."""

_CODES: Final = {
    "header": "leaf.differs",
    "payload": "payload.differs",
    "salt": "salt.differs",
    "facts": "facts.differs",
}
_LONGEST: Final = 200
_TEXTS: Final = (pa.string(), pa.binary(), pa.large_string(), pa.large_binary())

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Difference:
    """A leaf whose stored ``column`` is not what was derived; ``column`` None where the leaf is missing or twice."""

    leaf: int
    code: str
    column: str | None
    expected: str
    actual: str
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Stored rows ``[begin, begin + len(rows))`` of consecutive leaves."""

    begin: int
    rows: pa.RecordBatch

    @property
    def end(self) -> int:
        """One past the last leaf."""
        return self.begin + len(self.rows)


def runs(blocks: Iterable[pa.RecordBatch], begin: int, end: int, odd: list[Difference]) -> Iterator[Run]:
    """The leaves ``[begin, end)`` in runs without holes; what is missing or there twice is added to ``odd``.

    ``blocks`` have a column ``leaf_index`` and are in its order.
    """
    expected = begin
    for block in blocks:
        if not len(block):
            continue
        index = block.column("leaf_index").to_numpy(zero_copy_only=False).astype(np.int64)
        follows = np.concatenate(([index[0] - expected], np.diff(index)))
        if follows[0] == 0 and (follows[1:] == 1).all():
            yield Run(expected, block)
            expected = int(index[-1]) + 1
            continue
        before = np.concatenate(([expected - 1], index[:-1]))
        for place in np.flatnonzero(index <= before).tolist():
            odd.append(Difference(int(index[place]), "leaf.duplicate", None, "one leaf", "another of this index"))
        kept = np.flatnonzero(index > before)
        for first, last in _pieces(index[kept]):
            if int(index[kept[first]]) > expected:
                odd.append(_missing(expected, int(index[kept[first]])))
            yield Run(int(index[kept[first]]), block.take(pa.array(kept[first:last])))
            expected = int(index[kept[last - 1]]) + 1
    if expected < end:
        odd.append(_missing(expected, end))


def differences(run: Run, derived: pa.Table, columns: Sequence[str]) -> list[Difference]:
    """Where the rows of ``run`` differ from ``derived``, the same leaves in the schema `EVENTS`, in these columns."""
    found: list[Difference] = []
    for name in columns:
        expected = _array(derived[name])
        stored = _array(run.rows.column(_STORED_AS.get(name, name)))
        for row in differing_rows(stored, expected).tolist():
            wanted, actual = expected[row].as_py(), stored[row].as_py()
            found.append(
                Difference(run.begin + row, _CODES.get(name, "column.differs"), name, *_shown(name, wanted, actual))
            )
    return sorted(found, key=lambda one: one.leaf)


def differing_rows(left: pa.Array, right: pa.Array) -> Rows:
    """Rows in which two columns differ; empty text and bytes are null, and so is an empty list."""
    left, right = _plain(left), _plain(right)
    if _is_list(left.type) or _is_list(right.type):
        return _differing_lists(left, right)
    if _is_text(left.type) or _is_text(right.type):
        left, right = (side.cast(pa.large_binary()).fill_null(b"") for side in (left, right))
        return _false(pc.equal(left, right))
    left, right = _number(left), _number(right)
    same = pc.equal(left, right).fill_null(False)
    both_null = pc.and_(left.is_null(), right.is_null())
    return _false(pc.or_(same, both_null))


def report(findings: Findings, found: Iterable[Difference]) -> None:
    """Add differences to the findings of a log."""
    for one in found:
        findings.add(one.code, one.leaf, one.expected, one.actual, column=one.column, count=one.count)


def _missing(begin: int, end: int) -> Difference:
    what = f"leaves {begin} to {end - 1}" if end - begin > 1 else f"leaf {begin}"
    return Difference(begin, "leaf.missing", None, what, "not in the store", end - begin)


def _pieces(index: Rows) -> Iterator[tuple[int, int]]:
    if not len(index):
        return
    breaks = (np.flatnonzero(np.diff(index) != 1) + 1).tolist()
    yield from zip([0, *breaks], [*breaks, len(index)], strict=True)


def _array(column: Any) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
        return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return column


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    return kind in _TEXTS or bool(pa.types.is_fixed_size_binary(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _number(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64())
    return column if pa.types.is_boolean(column.type) else column.cast(pa.int64())


def _differing_lists(left: pa.Array, right: pa.Array) -> Rows:
    lengths = [pc.list_value_length(side).fill_null(0).to_numpy().astype(np.int64) for side in (left, right)]
    differs = lengths[0] != lengths[1]
    values = [_plain(pc.list_flatten(side)) for side in (left, right)]
    if not differs.any():
        owner = np.repeat(np.arange(len(left)), lengths[0])
        differs[owner[differing_rows(values[0], values[1])]] = True
        return np.flatnonzero(differs)
    same = [row for row in np.flatnonzero(~differs).tolist() if (left[row].as_py() or []) != (right[row].as_py() or [])]
    differs[same] = True
    return np.flatnonzero(differs)


def _false(same: pa.Array) -> Rows:
    return np.flatnonzero(~same.to_numpy(zero_copy_only=False))


def _shown(name: str, expected: Any, actual: Any) -> tuple[str, str]:
    if name == "header":
        return _header_fields(bytes(expected or b""), bytes(actual or b""))
    if name in ("payload", "salt", "facts"):
        return _digest(expected), _digest(actual)
    return _short(expected), _short(actual)


def _header_fields(expected: bytes, actual: bytes) -> tuple[str, str]:
    """The fields of two headers that differ, or their digests where one cannot be read."""
    try:
        left, right = json.loads(expected), json.loads(actual)
        names = sorted(name for name in {*left, *right} if left.get(name) != right.get(name))
        if names:
            return tuple(_short(json.dumps({n: side.get(n) for n in names}, sort_keys=True)) for side in (left, right))  # type: ignore[return-value]
    except (ValueError, AttributeError, TypeError):
        pass
    return _digest(expected), _digest(actual)


def _digest(value: Any) -> str:
    data = value if isinstance(value, bytes) else str(value or "").encode()
    return f"sha256:{hashlib.sha256(data).hexdigest()[:16]} of {len(data)} bytes" if data else "nothing"


def _short(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
