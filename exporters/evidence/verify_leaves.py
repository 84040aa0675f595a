"""Checks of single leaves: headers, payloads, salts, facts, typed columns, and the side of the query they are on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.ledger import typed_columns
from auditspan.ledger.hashing import Digests, as_binary, equal_width, hash_columns, hash_values
from auditspan.ledger.header_templates import HeaderTemplates

from .columns import compared_columns, differing_rows, one_array
from .headers import ParsedHeaders, parse_headers
from .layout import HEADER_NAMES, PAYLOAD_NAMES
from .query import Query
from .report import Faults
from .verify_determinations import DeterminationCheck, Determinations
from .verify_facts import FactsCheck
from .verify_payloads import PayloadCheck
from .windows import Window

__all__ = ["LeafCheck"]

_PAYLOAD: Final = b"\x02"
_FACTS: Final = b"\x03"
_SALT_LENGTH: Final = 32
_MOST_RUNS: Final = 8
"""Runs of events in a window that are looked at one by one."""


class LeafCheck:
    """Checks the windows of one log, one after the other, and counts what it has seen.

    Args:
        log_id: the log.
        query: what selects an event, or None for all.
        faults: where to note what is wrong.
        determinations: what makes determinations again; None to make none.
    """

    def __init__(
        self, log_id: str, query: Query | None, faults: Faults, determinations: Determinations | None = None
    ) -> None:
        self._log_id, self._query, self._faults = log_id, query, faults
        self._facts = FactsCheck(log_id, faults)
        self._determinations = DeterminationCheck(log_id, determinations, faults)
        self._payloads = PayloadCheck(log_id, faults)
        self._templates = HeaderTemplates()
        self._reader = typed_columns.PayloadReader()
        self._distinct = DistinctDigests()
        self.matched = 0
        self.events = 0
        self.flagged = 0
        self.revealed = 0
        self.leaves = 0

    def window(self, window: Window) -> ParsedHeaders:
        """Check a window; its parsed headers, for the checks that follow."""
        parsed = parse_headers(window.headers, self._templates)
        for row, problem in parsed.malformed.items():
            self._fault("leaf.malformed", window.index[row], "a header v1", problem)
        events = parsed.events()
        self._check_log_id(window, parsed)
        self._check_selection(window, parsed, events)
        self.leaves += len(window.index)
        self.revealed += int(window.revealed.sum())
        self.events += int((events & window.revealed).sum())
        self.flagged += pc.sum(parsed.table["flagged"]).as_py() or 0
        self._determinations.batches(_batches(window, parsed))
        self._check_revealed(window, parsed, events)
        return parsed

    def finish(self) -> None:
        """The interval ends."""
        self._determinations.finish()

    def _check_log_id(self, window: Window, parsed: ParsedHeaders) -> None:
        log_ids = one_array(parsed.table["log_id"])
        if log_ids.null_count == 0 and log_ids.dictionary.to_pylist() == [self._log_id]:
            return
        same = pc.fill_null(pc.equal(log_ids.dictionary_decode(), self._log_id), False)
        if pc.all(same).as_py():
            return
        for row in np.flatnonzero(~same.to_numpy(zero_copy_only=False)).tolist():
            if row not in parsed.malformed:
                self._fault("leaf.log_id", window.index[row], self._log_id, parsed.table["log_id"][row])

    def _check_selection(self, window: Window, parsed: ParsedHeaders, events: npt.NDArray[np.bool_]) -> None:
        wanted = np.ones(len(window.index), bool)
        if self._query is not None:
            selected = self._query.select(parsed.table)
            # Every log leaf is revealed, and so is what nobody can read.
            wanted = selected.to_numpy(zero_copy_only=False) | ~events
        for row in np.flatnonzero(wanted & ~window.revealed).tolist():
            self._fault("selection.omitted", window.index[row], "in events/: the query selects it", "in withheld/")
        for row in np.flatnonzero(~wanted & window.revealed).tolist():
            self._fault(
                "selection.extra", window.index[row], "in withheld/: the query does not select it", "in events/"
            )

    def _check_revealed(self, window: Window, parsed: ParsedHeaders, events: npt.NDArray[np.bool_]) -> None:
        rows = window.events
        if not rows.num_rows:
            return
        table, typed, readable = parsed.table, parsed.typed, np.ones(len(window.index), bool)
        readable[list(parsed.malformed)] = False
        if not window.revealed.all():
            table, typed = (each.filter(pa.array(window.revealed)) for each in (table, typed))
        is_event, readable = events[window.revealed], readable[window.revealed]
        if not readable.all():
            mask = pa.array(readable)
            rows, table, typed, is_event = rows.filter(mask), table.filter(mask), typed.filter(mask), is_event[readable]
        self._check_columns(rows, compared_columns(typed), HEADER_NAMES)
        if not is_event.all():
            self._check_log_leaves(rows.filter(pa.array(~is_event)))
        digests = self._distinct.of(rows["facts"].dictionary)
        begins, ends = _runs(is_event)
        if len(begins) > _MOST_RUNS:
            self._check_events(rows.filter(pa.array(is_event)), table.filter(pa.array(is_event)), digests)
            return
        # A batch ends with one leaf of its own among thousands: what lies between is not copied.
        for begin, end in zip(begins, ends, strict=True):
            self._check_events(rows.slice(begin, end - begin), table.slice(begin, end - begin), digests)

    def _check_log_leaves(self, rows: pa.RecordBatch) -> None:
        """A leaf that the log itself wrote has nothing beside it."""
        for name in ("payload", "salt", "facts", *PAYLOAD_NAMES):
            for row in np.flatnonzero(rows[name].is_valid().to_numpy(zero_copy_only=False)).tolist():
                code = {"payload": "payload.hash", "salt": "payload.hash", "facts": "facts.hash"}.get(
                    name, "column.mismatch"
                )
                self._fault(
                    code,
                    rows["leaf_index"][row].as_py(),
                    f"no {name} at a leaf of the log itself",
                    _said(rows[name][row]),
                )

    def _check_events(self, rows: pa.RecordBatch, table: pa.Table, digests: Digests) -> None:
        index, salts = rows["leaf_index"], rows["salt"]
        bad_salt = pc.not_equal(pc.fill_null(pc.binary_length(salts), 0), _SALT_LENGTH)
        unsalted = np.flatnonzero(bad_salt.to_numpy(zero_copy_only=False)).tolist()
        for row in unsalted:
            self._fault("salt.missing", index[row].as_py(), f"a salt of {_SALT_LENGTH} bytes", salts[row])
        payloads, facts = rows["payload"], rows["facts"]
        salts = _filled(salts)
        documents = equal_width(digests).take(facts.indices)
        hashes = hash_columns(_salted(_PAYLOAD, salts, payloads), _salted(_FACTS, salts, documents))
        others = self._check_hashes("payload", index, hashes[0], payloads, table["payload_hash"], unsalted)
        lengths, stated = pc.binary_length(_filled(payloads)).cast(pa.int64()), one_array(table["payload_length"])
        if not lengths.equals(stated):
            for row in differing_rows(lengths, stated):
                if payloads[row].is_valid:
                    self._fault(
                        "payload.hash", index[row].as_py(), f"{table['payload_length'][row]} bytes", f"{lengths[row]}"
                    )
        self._check_hashes("facts", index, hashes[1], documents, table["facts_hash"], unsalted)
        self._facts.rows(index, table, facts, digests)
        self._determinations.rows(index, table, facts, digests)
        spans = self._reader.read(payloads)
        self._check_columns(rows, compared_columns(typed_columns.from_read(spans)), PAYLOAD_NAMES)
        self._payloads.rows(index, table, payloads, spans, others)
        self.matched += rows.num_rows

    def _check_hashes(
        self, what: str, index: pa.Array, hashes: Digests, values: pa.Array, stated: pa.ChunkedArray, skip: list[int]
    ) -> set[int]:
        """Compare the salted hashes of a column with what the headers say; the rows that differ or have no salt."""
        found, wanted = as_binary(hashes), one_array(stated)
        if values.null_count:
            found = pc.if_else(pc.is_valid(values), found, pa.scalar(None, pa.binary(32)))
        differing = differing_rows(wanted, found)
        for row in differing:
            if row not in skip:
                self._fault(f"{what}.hash", index[row].as_py(), _hex(wanted[row]), _hex(found[row]))
        return {*differing, *skip}

    def _check_columns(self, rows: pa.RecordBatch, derived: dict[str, pa.Array], names: Sequence[str]) -> None:
        for name in names:
            given = rows[name]
            for row in differing_rows(given, derived[name]):
                leaf = rows["leaf_index"][row].as_py()
                self._fault("column.mismatch", leaf, f"{name}: {derived[name][row]}", f"{name}: {_said(given[row])}")

    def _fault(self, code: str, leaf: int, expected: object, actual: object) -> None:
        self._faults.add(code, (self._log_id, int(leaf)), expected, actual)


def _batches(window: Window, parsed: ParsedHeaders) -> list[tuple[int, str]]:
    """Index of each ``audit.batch`` leaf, and the software that it names."""
    found = sorted((row, leaf) for row, leaf in parsed.log_leaves.items() if leaf["class"] == "audit.batch")
    return [(int(window.index[row]), str(leaf["body"].get("software"))) for row, leaf in found]


def _salted(prefix: bytes, salts: pa.Array, values: pa.Array) -> pa.Array:
    """What is hashed of each value (section 3)."""
    return pc.binary_join_element_wise(
        pa.scalar(prefix, pa.binary()), salts, _filled(values), pa.scalar(b"", pa.binary())
    )


def _filled(values: pa.Array) -> pa.Array:
    return pc.fill_null(values, b"") if values.null_count else values


def _runs(chosen: npt.NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Where the runs of true values begin and end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return edges[0::2].tolist(), edges[1::2].tolist()


class DistinctDigests:
    """Hashes of the documents of a dictionary: one that repeats is hashed once, and so is a dictionary that does."""

    def __init__(self) -> None:
        self._documents: pa.Array | None = None
        self._digests: Digests = np.empty((0, 32), np.uint8)

    def of(self, documents: pa.Array) -> Digests:
        """SHA-256 of each document, nulls as if they were empty."""
        # The windows of one row group have one dictionary, which is faster compared than hashed.
        if self._documents is None or not documents.equals(self._documents):
            given = documents.cast(pa.binary()).fill_null(b"")
            self._digests = hash_values(given) if len(given) else np.empty((0, 32), np.uint8)
            self._documents = documents
        return self._digests


def _said(value: pa.Scalar) -> str:
    """A value of a file, whose texts may be no UTF-8."""
    try:
        return str(value)
    except UnicodeDecodeError as error:
        return f"{error.object!r}, which is no UTF-8"


def _hex(value: pa.Scalar) -> str:
    return value.as_py().hex() if value.is_valid else "none"
