"""How far a long command is, for whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from auditspan.cli.output import errors

__all__ = ["progress_bar", "progress_by_partition", "progress_of_one"]


def progress_bar() -> Progress:
    """A bar on standard error, where that is a terminal: a file or a pipe gets the result alone."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        disable=not errors.is_terminal,
        transient=True,
    )


@contextmanager
def progress_of_one(what: str, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar for one task, which is told ``(done, total)``; none where a program reads the output."""
    if as_json:
        yield lambda done, total: None
        return
    with progress_bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def progress_by_partition(what: str, as_json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each partition, which are told ``(partition, done, total)``; none where a program reads the output."""
    if as_json:
        yield lambda partition, done, total: None
        return
    tasks: dict[str, TaskID] = {}
    with progress_bar() as bar:

        def progress(partition: str, done: int, total: int) -> None:
            if partition not in tasks:
                tasks[partition] = bar.add_task(f"{what} {partition}", total=total)
            bar.update(tasks[partition], completed=done, total=total)

        yield progress
