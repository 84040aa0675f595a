"""How commands speak: tables to persons, JSON to programs, errors with a remedy and no traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from auditspan.errors import AuditSpanError

__all__ = ["EXIT_FAILURE", "JsonOption", "console", "print_json", "print_table", "reports_errors"]

EXIT_FAILURE = 1
"""The command could not do what it was asked to; standard error says why and what to do."""

P = ParamSpec("P")
R = TypeVar("R")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table for persons.")]

console = Console()
_errors = Console(stderr=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str, ensure_ascii=False) + "\n")


_NARROW = 18
_WIDE = 44


def print_table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, prose: str = "") -> None:
    """A table of ``rows``; a missing value stays empty, and the column ``prose`` gets the room that others leave."""
    table = Table(title=title, title_justify="left", show_lines=True)
    for column in columns:
        if column == prose:
            table.add_column(column, min_width=_WIDE)
        else:
            table.add_column(column, overflow="fold", max_width=_NARROW if prose else None)
    for row in rows:
        table.add_row(*("" if row.get(column) is None else str(row[column]) for column in columns))
    console.print(table)


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors that a person can act on into a message on standard error and exit status 1."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except AuditSpanError as error:
            if kwargs.get("as_json"):
                print_json({"error": type(error).__name__, "message": error.message, "remedy": error.remedy})
            else:
                _errors.print(f"[red]Error:[/red] {error.message}", highlight=False)
                if error.remedy:
                    _errors.print(f"[dim]{error.remedy}[/dim]", highlight=False)
            raise typer.Exit(EXIT_FAILURE) from None

    return guarded
