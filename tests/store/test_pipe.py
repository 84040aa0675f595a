"""What a query writes into a pipe is the whole result, or the reader hears that it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditspan.store.pipe import QueryEnded, query_pipe


def test_a_query_that_ends_well_has_no_failure() -> None:
    def execute(into: str) -> None:
        Path(into.split("'")[1]).write_bytes(b"whole")

    with query_pipe(execute, lambda name: None) as pipe:
        assert pipe.source.read() == b"whole"
        assert pipe.failure() is None


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_whatever_ends_a_query_a_part_never_passes_for_the_whole(error: type[BaseException]) -> None:
    def execute(into: str) -> None:
        Path(into.split("'")[1]).write_bytes(b"part")
        raise error

    with query_pipe(execute, lambda name: None) as pipe:
        assert pipe.source.read() == b"part"
        failure = pipe.failure()
    assert type(failure) is (error if issubclass(error, Exception) else QueryEnded)
