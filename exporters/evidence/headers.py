"""Headers to columns: what the query, the export and the verifier read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.ledger.header import HEADER_INPUT, parse_header
from auditspan.ledger.header_json import read_plain_headers
from auditspan.ledger.header_templates import HeaderTemplates
from auditspan.ledger.typed_columns import from_header_input, from_parsed

__all__ = ["HEADER_TABLE", "ParsedHeaders", "is_log_leaf", "parse_headers"]

HEADER_TABLE: Final = pa.schema([pa.field(column.name, column.type) for column in HEADER_INPUT])
"""Header fields as columns. Times are nanoseconds, a long text is ``sha256:<hex>``, the position is its two numbers.

A log leaf has ``arrival_time``, ``class``, ``log_id``, ``reference_epoch`` and its position, and nulls elsewhere.
"""

_FEW: Final = 16
_EVENT_START: Final = '{"action":'
_TIMES: Final = ("arrival_time", "event_time")
_HASHES: Final = ("facts_hash", "payload_hash")


@dataclass(frozen=True, slots=True)
class ParsedHeaders:
    """``table`` (`HEADER_TABLE`) and ``typed`` (`auditspan.store.schema.HEADER_COLUMNS`) have one row per header.

    ``log_leaves`` holds the parsed log leaves by row, ``malformed`` what is wrong with those that are none; these
    have nulls in every column.
    """

    table: pa.Table
    typed: pa.Table
    log_leaves: dict[int, dict[str, Any]] = field(default_factory=dict)
    malformed: dict[int, str] = field(default_factory=dict)

    def events(self) -> npt.NDArray[np.bool_]:
        """Which rows are well-formed event leaves."""
        mask = np.ones(self.table.num_rows, bool)
        mask[list(self.log_leaves)] = False
        mask[list(self.malformed)] = False
        return mask


def is_log_leaf(headers: pa.Array) -> pa.BooleanArray:
    """Which headers are leaves that the log itself wrote (section 9): told by the first key, which JCS fixes."""
    return pc.invert(pc.starts_with(headers, pattern=_EVENT_START))


def parse_headers(headers: pa.Array, templates: HeaderTemplates | None = None) -> ParsedHeaders:
    """The columns of these headers, whatever they hold. ``headers`` is a binary array without nulls.

    Whoever reads window after window gives the same ``templates`` each time.
    """
    plain, rest = read_plain_headers(headers, templates)
    if len(rest) == 0:
        return ParsedHeaders(plain.cast(HEADER_TABLE), from_header_input(plain))
    log_leaves: dict[int, dict[str, Any]] = {}
    malformed: dict[int, str] = {}
    leaves: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for place, header in zip(rest.tolist(), headers.take(pa.array(rest)).to_pylist(), strict=True):
        leaf: dict[str, Any] = {}
        row: dict[str, Any] = {}
        try:
            parsed = parse_header(header)
            row, leaf = _row(parsed), parsed
            if "body" in leaf:
                log_leaves[place] = leaf
        except ValueError as error:
            malformed[place] = str(error)
        leaves.append(leaf)
        rows.append(row)
    table = _woven(plain.cast(HEADER_TABLE), pa.Table.from_pylist(rows, schema=HEADER_TABLE), rest)
    typed = _woven(from_header_input(plain), from_parsed(leaves), rest)
    return ParsedHeaders(table, typed, log_leaves, malformed)


def _woven(plain: pa.Table, others: pa.Table, rest: npt.NDArray[np.int64]) -> pa.Table:
    """``others`` in the rows ``rest``, and ``plain`` in all others, in their order."""
    if len(rest) > _FEW:
        is_plain = np.ones(plain.num_rows + len(rest), bool)
        is_plain[rest] = False
        order = np.argsort(np.concatenate([np.flatnonzero(is_plain), rest]), kind="stable")
        return pa.concat_tables([plain, others]).unify_dictionaries().take(pa.array(order)).combine_chunks()
    # A batch ends with one leaf of its own among thousands: whole runs are copied, not each row.
    pieces, taken = [], 0
    for number, row in enumerate(rest.tolist()):
        pieces += [plain.slice(taken, row - number - taken), others.slice(number, 1)]
        taken = row - number
    return pa.concat_tables([*pieces, plain.slice(taken)]).unify_dictionaries().combine_chunks()


def _row(leaf: dict[str, Any]) -> dict[str, Any]:
    row = {name: _plain(leaf.get(name)) for name in HEADER_TABLE.names}
    if leaf["position"] is not None:
        row["offset"], row["ordinal"] = leaf["position"]
        if row["ordinal"] >= 2**31:
            raise ValueError(f"the ordinal {row['ordinal']} is not below 2^31")
    for name in _TIMES:
        if name in leaf:
            row[name] = int(leaf[name])
    if row["arrival_time"] >= 2**63:
        raise ValueError(f"the arrival time {row['arrival_time']} is not below 2^63")
    for name in _HASHES:
        row[name] = None if leaf.get(name) is None else bytes.fromhex(leaf[name])
    return row


def _plain(value: Any) -> Any:
    """A text as it stands in a column; a list of texts likewise."""
    if isinstance(value, dict):
        return f"sha256:{value['sha256']}"
    return [_plain(each) for each in value] if isinstance(value, list) else value
