"""The logs of a package, one after the other, or several at once in processes of their own: the result is the same."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final

from auditspan.buffers import keep_buffers
from auditspan.errors import AuditSpanError

from .judging import Judges
from .package import Package
from .verify_log import LogResult, LogTask, verify_log
from .zipped import open_package

__all__ = ["verify_logs"]

_WORTH_PROCESSES: Final = 50_000
"""Leaves up to which starting processes takes longer than they save."""
_LOOK_EVERY: Final = 0.2
"""Seconds between two looks at how far the processes are."""

_done: Any = None
"""In a process of the pool: leaves done, over all of them."""
_judges: Judges | None = None
"""In a process of the pool: what makes determinations again. They end when this process does."""


def verify_logs(
    package: Package, tasks: Sequence[LogTask], jobs: int, progress: Callable[[int], None]
) -> Iterator[LogResult]:
    """The results of ``tasks``, in their order; ``progress`` is told how many leaves more are done.

    With ``jobs`` above 1, so many processes work at once. They are started anew (``spawn``), so the program that calls
    this must be importable, as the one of this package is.

    Raises:
        AuditSpanError: a process was ended from outside, as where memory is short.
    """
    leaves = sum(task.log.end - task.log.begin for task in tasks)
    if min(jobs, len(tasks)) <= 1 or leaves < _WORTH_PROCESSES:
        with Judges() as judges:
            for task in tasks:
                yield verify_log(package, task, judges, progress=progress)
        return
    context = multiprocessing.get_context("spawn")
    done = context.Value("Q", 0)
    told = 0
    with ProcessPoolExecutor(min(jobs, len(tasks)), context, _begin, (done,)) as pool:
        waiting: list[Future[LogResult]] = [pool.submit(_verify, package.folder, task) for task in tasks]
        try:
            for future in waiting:
                while not wait([future], _LOOK_EVERY).done:
                    told = _tell(progress, done.value, told)
                told = _tell(progress, done.value, told)
                yield future.result()
        except BrokenProcessPool as error:
            raise AuditSpanError(
                "A process that verified a part of the package was ended from outside.",
                remedy="See that there is memory enough, or verify with --jobs 1.",
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _tell(progress: Callable[[int], None], done: int, told: int) -> int:
    progress(done - told)
    return done


def _begin(done: Any) -> None:
    global _done, _judges
    keep_buffers()
    _done, _judges = done, Judges()


def _verify(folder: Path, task: LogTask) -> LogResult:
    """One log, in a process of the pool."""

    def progress(leaves: int) -> None:
        with _done.get_lock():
            _done.value += leaves

    with open_package(folder) as package:
        return verify_log(package, task, _judges, progress=progress)
