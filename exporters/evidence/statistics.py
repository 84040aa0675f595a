"""Whether the statistics of a row group are true: readers pass over rows that these say are not there."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

__all__ = ["GroupStatistics"]

_ELEMENT: Final = ".list.element"
"""How the path of the elements of a list column ends."""


class GroupStatistics:
    """What the statistics of one row group say, and what its rows are.

    Args:
        metadata: of the row group.
    """

    def __init__(self, metadata: pq.RowGroupMetaData) -> None:
        self._stated: dict[str, pq.Statistics] = {}
        self._lists: set[str] = set()
        self._index: str | None = None
        for place in range(metadata.num_columns):
            column = metadata.column(place)
            name = column.path_in_schema.removesuffix(_ELEMENT)
            if column.has_column_index:
                self._index = f"{name} has an index of pages"
            elif column.is_stats_set:
                self._stated[name] = column.statistics
                if name != column.path_in_schema:
                    self._lists.add(name)
        self._nulls = dict.fromkeys(self._stated, 0)
        self._least: dict[str, Any] = {}
        self._greatest: dict[str, Any] = {}

    def see(self, rows: pa.RecordBatch) -> None:
        """Further rows of the group."""
        for name in self._stated:
            column = rows[name]
            self._nulls[name] += column.null_count
            found = pc.min_max(_bounded(column))
            least, greatest = _plain(found["min"].as_py()), _plain(found["max"].as_py())
            if least is not None:
                self._least[name] = min(least, self._least.get(name, least))
                self._greatest[name] = max(greatest, self._greatest.get(name, greatest))

    def untrue(self) -> str | None:
        """What they say that is not so of the rows that were seen; None where they hide nothing."""
        for name, stated in self._stated.items():
            # Of a list, what is counted are its elements, and places where there is none.
            counted = stated.has_null_count and name not in self._lists
            if counted and stated.null_count != self._nulls[name]:
                return f"{name} has {self._nulls[name]} nulls, and its statistics say {stated.null_count}"
            if stated.has_min_max and name in self._least:
                low, high = _plain(stated.min_raw), _plain(stated.max_raw)
                if not low <= self._least[name] <= self._greatest[name] <= high:
                    lies = f"[{self._least[name]!r}, {self._greatest[name]!r}]"
                    return f"{name} lies in {lies}, and its statistics say [{low!r}, {high!r}]"
        return self._index


def _bounded(column: pa.Array) -> pa.Array:
    """The values whose least and greatest are those of the column, in the order in which Parquet compares them."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64())
    if pa.types.is_list(column.type):
        column = column.flatten()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary.take(column.indices.unique().drop_null())
    return column.cast(pa.binary()) if pa.types.is_string(column.type) else column


def _plain(bound: Any) -> Any:
    return bound.encode() if isinstance(bound, str) else bound
