"""How commands speak: tables to persons, JSON to programs, errors with a remedy and no traceback."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Annotated, Any, Final, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from auditspan.errors import AuditSpanError

__all__ = [
    "EXIT_FAILURE",
    "JsonOption",
    "console",
    "errors",
    "fail",
    "not_installed",
    "plain",
    "print_json",
    "print_table",
    "reports_errors",
    "reports_errors_with",
]

EXIT_FAILURE: Final = 1
"""The command could not do what it was asked to; standard error says why and what to do."""

P = ParamSpec("P")
R = TypeVar("R")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for persons.")]

console = Console(markup=False, emoji=False, highlight=False)
errors = Console(stderr=True, markup=False, emoji=False, highlight=False)

_NARROW: Final = 18


def plain(text: str) -> str:
    """``text`` with control and direction characters written out.

    Events hold what strangers sent: it must not move the cursor, colour the screen or reverse a line of an analyst.
    """
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    return f"\\u{ord(character):04x}"


def print_json(value: Any) -> None:
    """One JSON document on standard output, in ASCII: no terminal or locale can spoil it."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
    sys.stdout.flush()


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    prose: str = "",
    whole: str = "",
    lines: bool = True,
) -> None:
    """A table of ``rows``; a missing value stays empty, and the column ``prose`` gets the room that others leave.

    It has no least width: on a terminal narrower than all least widths together, text is cut off, not folded. Lines of
    the column ``whole`` are never broken, so that they can be copied.
    """
    table = Table(title=title, title_justify="left", show_lines=lines)
    for column in columns:
        if column == prose:
            table.add_column(column, overflow="fold")
        elif column == whole:
            table.add_column(column, overflow="fold", no_wrap=True)
        else:
            table.add_column(column, overflow="fold", max_width=_NARROW if prose else None)
    for row in rows:
        table.add_row(*(Text(plain("" if row.get(column) is None else str(row[column]))) for column in columns))
    console.print(table)


def fail(error: AuditSpanError, as_json: bool, status: int = EXIT_FAILURE) -> NoReturn:
    """Say what went wrong and what to do, and end with ``status``."""
    if as_json:
        print_json({"error": type(error).__name__, "message": error.message, "remedy": error.remedy})
    else:
        errors.print(Text.assemble(("Error: ", "red"), plain(error.message)), soft_wrap=True)
        if error.remedy:
            errors.print(Text(plain(error.remedy)), soft_wrap=True)
    raise typer.Exit(status)


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors that a person can act on into a message and exit status 1."""
    return reports_errors_with(EXIT_FAILURE)(command)


def reports_errors_with(status: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The same with another exit status."""

    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        @wraps(command)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                result = command(*args, **kwargs)
                # Here, and not at the exit of the interpreter, where a reader that went away would make a traceback.
                sys.stdout.flush()
            except AuditSpanError as error:
                fail(error, bool(kwargs.get("as_json")), status)
            except ModuleNotFoundError as error:
                fail(not_installed(error), bool(kwargs.get("as_json")), status)
            except BrokenPipeError:
                _forget_standard_output()
                raise typer.Exit(status) from None
            except OSError as error:
                fail(_explained(error), bool(kwargs.get("as_json")), status)
            return result

        return guarded

    return decorate


def not_installed(error: ModuleNotFoundError) -> AuditSpanError:
    """What a command lacks that another extra brings.

    Raises:
        ModuleNotFoundError: ``error`` itself, where a part of this package is missing.
    """
    missing = (error.name or "").partition(".")[0]
    if missing in ("", "auditspan"):
        raise error
    return AuditSpanError(
        f"This command is not installed here: {missing} is missing.",
        remedy="Run: pip install 'auditspan[pipeline]'. To verify evidence, 'auditspan[verify]' is enough.",
    )


def _explained(error: OSError) -> AuditSpanError:
    name = f"{error.filename}: " if error.filename else ""
    return AuditSpanError(
        f"{name}{error.strerror or error}.",
        remedy="See that the file or directory is there, that this user may use it, and that the disk has room.",
    )


def _forget_standard_output() -> None:
    """The reader of our output went away, as `head` does: nothing is to be written any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
