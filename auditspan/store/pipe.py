"""What an embedded query writes, while it writes it.

clickhouse-connect gathers a whole result of the embedded engine before it returns, so its size would be the memory's.
Here the engine writes into a pipe, from a thread, and waits while the pipe is full.
"""

from __future__ import annotations

import fcntl
import io
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

__all__ = ["QueryEnded", "QueryPipe", "query_pipe"]

_PIPE_BYTES: Final = 2**20


class QueryEnded(Exception):
    """The thread of a query was ended by what is no ordinary error, such as an interrupt."""


class QueryPipe:
    """The reading end. After its end of file, `failure` says whether the query failed."""

    def __init__(self, source: io.BufferedReader, worker: threading.Thread, failures: list[Exception]) -> None:
        self.source = source
        self._worker = worker
        self._failures = failures

    def failure(self) -> Exception | None:
        """Wait for the query; what it raised."""
        self._worker.join()
        return self._failures[0] if self._failures else None


@contextmanager
def query_pipe(execute: Callable[[str], object], cancel: Callable[[str], None]) -> Iterator[QueryPipe]:
    """Run a query whose output goes into a pipe; stop it when the block is left by an exception.

    Args:
        execute: runs the query, given the text ``INTO OUTFILE … /* name */`` that belongs before its FORMAT.
        cancel: kills the queries in whose text the given name stands. The engine computes on when nobody reads.
    """
    name = f"pipe-{uuid.uuid4()}"
    read_end, write_end = os.pipe()
    with suppress(OSError):  # a user may have used up what the system allows; then it is slower
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    failures: list[Exception] = []

    def run() -> None:
        try:
            execute(f"INTO OUTFILE '/proc/self/fd/{write_end}' APPEND /* {name} */")
        except BaseException as error:  # what was written until then must never pass for the whole
            # Nobody waits here: whoever reads the pipe gets it, as an error that ends no more than his query.
            failures.append(error if isinstance(error, Exception) else QueryEnded(type(error).__name__))
        finally:
            os.close(write_end)

    worker = threading.Thread(target=run, name=name, daemon=True)
    worker.start()
    source = os.fdopen(read_end, "rb")
    try:
        yield QueryPipe(source, worker, failures)
    except BaseException:  # a reader that is closed or interrupted leaves the query running too
        source.close()
        if worker.is_alive():
            cancel(name)
        raise
    finally:
        source.close()
        worker.join()
