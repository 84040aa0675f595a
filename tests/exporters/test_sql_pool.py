"""Reading clients on threads of their own: whatever strikes one, its reader hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from auditspan.exporters.sql_pool import QueryPool
from auditspan.exporters.sql_settings import SqlLimits

from auditspan.store.pipe import QueryEnded
from auditspan.store.raw import RawReader


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_the_reader_of_a_stream_hears_of_whatever_ends_its_query(error: type[BaseException]) -> None:
    def connect(settings: Mapping[str, str]) -> RawReader:
        raise error

    async def ask() -> None:
        pool = QueryPool(connect, SqlLimits())
        try:
            await asyncio.wait_for(pool.stream("SELECT 1", "Native", {}), 10)
        finally:
            pool.close()

    with pytest.raises(error if issubclass(error, Exception) else QueryEnded):
        asyncio.run(ask())
