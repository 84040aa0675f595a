"""Reading a long range page by page: what a query takes then does not follow how long the range is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

__all__ = ["behind_nothing"]


def behind_nothing(
    query: Callable[[str, Mapping[str, Any]], pa.Table],
    sql: str,
    parameters: Mapping[str, Any],
    begin: int,
    end: int,
    step: int,
) -> int:
    """Where in ``[begin, end)`` to go on, behind a page that had no rows; ``end`` where there are none.

    In steps that grow: who asks for all leaves asks far beyond the last one.

    Args:
        query: all rows of a SELECT.
        sql: a SELECT over ``[{begin:UInt64}, {end:UInt64})``.
        parameters: further ones of it.
        begin: behind the page.
        end: of the range.
        step: rows looked at first.
    """
    while begin < end:
        upto = min(begin + step, end)
        counted = f"SELECT count() AS rows FROM ({sql})"  # noqa: S608 - a statement of ours
        if query(counted, {**parameters, "begin": begin, "end": upto})["rows"][0].as_py():
            break
        begin, step = upto, 16 * step
    return begin
