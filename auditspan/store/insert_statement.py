"""The inserts that the product sends to a ClickHouse server, written in one place and recognised in the same.

A server that lets nothing else through (`auditspan store serve`) needs no parser for that: it compares with what
`conditional_insert` and `plain_insert` write. Values never stand in the text: they travel as parameters and settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = [
    "EMBEDDED_EVENT_SETTINGS",
    "END",
    "INSERT_SETTINGS",
    "NOT_NEXT",
    "InsertStatement",
    "conditional_insert",
    "conditions",
    "deduplication_token",
    "input_source",
    "plain_insert",
    "recognise",
    "settings_clause",
]

INSERT_SETTINGS: Final[Mapping[str, str]] = {
    "async_insert": "0",
    "max_insert_threads": "1",
    "min_insert_block_size_rows": "10000000",
    "min_insert_block_size_bytes": "0",
    "max_insert_block_size": "10000000",
}
"""Rows of one insert must stay one block, or the insert is not atomic and its token names half of it."""

EMBEDDED_EVENT_SETTINGS: Final[Mapping[str, str]] = {
    **INSERT_SETTINGS,
    # The engine writes the token down before the rows are there. Killed in between, it would for ever take this batch,
    # say that it is written, and drop it. The lock and the check of the next leaf do what the token would.
    "deduplicate_insert": "'disable'",
    # They cost a tenth of an insert. A merge, which every leaf comes to soon, writes them; until then a part is small.
    "exclude_materialize_skip_indexes_on_insert": "'record_granules,trace_granules'",
}
"""Of an insert of leaves into the embedded engine, of which this version is known."""

END: Final = "\nFORMAT Arrow\n"
"""What every statement here ends in; the rows follow."""

NOT_NEXT: Final = 395
"""ClickHouse's FUNCTION_THROW_IF_VALUE_IS_NON_ZERO: how a conditional insert says that its condition does not hold."""

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_HEAD: Final = re.compile(rf"INSERT INTO ((?:{_NAME}\.)?{_NAME}) \((`{_NAME}`(?:, `{_NAME}`)*)\)")
_CONDITION: Final = re.compile(rf"max\(({_NAME})\) \+ 1\)")


@dataclass(frozen=True, slots=True)
class InsertStatement:
    """What an insert is about. ``position`` names the column that must go on without a hole; None: no condition."""

    table: str
    columns: tuple[str, ...]
    position: str | None


def plain_insert(table: str, columns: Sequence[str]) -> str:
    """An INSERT of an Arrow body."""
    return f"INSERT INTO {table} ({_listed(columns)}){END}"


def conditional_insert(table: str, columns: Sequence[str], source: str, position: str) -> str:
    """An INSERT of the rows of ``source`` that fails as a whole, with `NOT_NEXT`, unless they are the next of a log.

    They are when `first` follows the greatest ``position`` of the log; see `conditions`. ClickHouse looks once, as the
    statement begins; what that leaves open is in docs/decisions/0003-conditional-insert.md.
    """
    names = _listed(columns)
    # The bound spares the engine the log's earlier parts. Without a row from there on, the next one is not ``first``.
    greatest = (
        f"SELECT if(count() = 0, 0, max({position}) + 1) FROM {table} "  # noqa: S608
        f"WHERE log_id = {{log_id:String}} AND {position} >= {{last:UInt64}}"
    )
    return (
        f"INSERT INTO {table} ({names})\n"
        f"SELECT {names} FROM {source}\n"
        f"WHERE throwIf(({greatest}) != {{first:UInt64}}, 'another writer owns this log') = 0{END}"
    )


def input_source(columns: Sequence[str], types: Mapping[str, str]) -> str:
    """The body of the request as a table, for `conditional_insert`."""
    structure = ", ".join(f"`{name}` {types[name]}" for name in columns)
    escaped = structure.replace("\\", "\\\\").replace("'", "\\'")
    return f"input('{escaped}')"


def conditions(log_id: str, first: int) -> dict[str, str]:
    """The parameters of a conditional insert of a log's rows from ``first`` on."""
    return {"log_id": log_id, "first": str(first), "last": str(max(first - 1, 0))}


def deduplication_token(log_id: str, first: int, attempt: int) -> str:
    """Names a batch and nothing of its writer: of two writers that race for one place, one is dropped."""
    return f"{log_id}/{first}" if attempt == 0 else f"{log_id}/{first}/{attempt}"


def recognise(text: str, types_of: Mapping[str, Mapping[str, str]]) -> InsertStatement | None:
    """What ``text`` inserts, if it is an insert that this module writes, over tables and columns of ``types_of``.

    Args:
        text: the statement as it was sent.
        types_of: the type of each column of each table that may be written.
    """
    head = _HEAD.match(text)
    if head is None or head[1] not in types_of:
        return None
    table, columns = head[1], tuple(name.strip("`") for name in head[2].split(", "))
    types = types_of[table]
    if not set(columns) <= set(types) or len(set(columns)) != len(columns):
        return None
    if text == plain_insert(table, columns):
        return InsertStatement(table, columns, None)
    condition = _CONDITION.search(text)
    if condition is None or condition[1] not in columns:
        return None
    written = conditional_insert(table, columns, input_source(columns, types), condition[1])
    return InsertStatement(table, columns, condition[1]) if text == written else None


def settings_clause(settings: Mapping[str, str]) -> str:
    """Settings, their values as SQL literals, as a statement names them."""
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in columns)
