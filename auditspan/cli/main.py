"""The program ``auditspan``.

Exit status: 0 done; 1 the command could not do it, and says why; 2 the command line is wrong. ``process`` adds 3:
another processor owns its log. What verifies (``evidence verify``, ``diff`` and ``print``, ``ledger check``, ``replay
--verify``, ``policy lint``, ``test`` and ``recheck``) has its own: 0 valid, 1 invalid, 2 incomplete, 3 usage.
``inventory classify`` and ``screen batch`` add 3: some rows were rejected.

A command's module is imported when it is named. What loads pyarrow, ClickHouse or a server is imported when it runs.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, ClassVar, Final

import typer

from auditspan import __version__
from auditspan.cli.loaded import LoadedGroup
from auditspan.cli.output import print_json
from auditspan.cli.verdict import EXIT_USAGE, Verdict
from auditspan.cli.without_pandas import without_pandas

__all__ = ["app", "main"]

_WRONG_COMMAND_LINE: Final = 2
_VERIFYING: Final = (
    ["evidence", "verify"],
    ["ledger", "check"],
    ["evidence", "diff"],
    ["evidence", "print"],
    ["replay"],
    ["policy", "lint"],
    ["policy", "test"],
    ["policy", "recheck"],
)


class _Commands(LoadedGroup):
    places: ClassVar = {
        "up": "auditspan.cli.up:up",
        "collect": "auditspan.cli.collect:collect",
        "process": "auditspan.cli.process:process",
        "status": "auditspan.cli.status:status",
        "events": "auditspan.cli.events:events",
        "doctor": "auditspan.cli.doctor:doctor",
        "backup": "auditspan.cli.backup:backup",
        "restore": "auditspan.cli.backup:restore",
        "ledger": "auditspan.cli.ledger:app",
        "replay": "auditspan.cli.replay:replay",
        "rescreen": "auditspan.cli.rescreen:rescreen",
        "kafka": "auditspan.cli.kafka:app",
        "keys": "auditspan.cli.keys:app",
        "token": "auditspan.cli.token:app",
        "spool": "auditspan.cli.spool:app",
        "evidence": "auditspan.cli.evidence:app",
        "inventory": "auditspan.cli.inventory:app",
        "license": "auditspan.cli.license:app",
        "lists": "auditspan.cli.lists:app",
        "screen": "auditspan.cli.screen:app",
        "store": "auditspan.cli.store:app",
        "cases": "auditspan.cli.cases:app",
        "requests": "auditspan.cli.requests:app",
        "policy": "auditspan.cli.policy:app",
        "config": "auditspan.cli.config:app",
    }


app = typer.Typer(
    name="auditspan",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Audit trail for export-controlled AI: OpenTelemetry in, sealed and provable evidence out.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"auditspan {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Entry point of the command."""
    without_pandas()
    arguments = sys.argv[1:]
    try:
        _run(arguments)
    except SystemExit as ending:
        # A wrong command line is 2 everywhere, but what verifies has given 2 another meaning.
        wrong = ending.code == _WRONG_COMMAND_LINE and not isinstance(ending, Verdict)
        if wrong and any(arguments[: len(words)] == words for words in _VERIFYING):
            raise SystemExit(EXIT_USAGE) from None
        raise


def _run(arguments: list[str]) -> None:
    if "--json" not in arguments:
        app(arguments)
        return
    try:
        status: Any = app(arguments, standalone_mode=False)
    except Exception as error:
        # A ClickException: typer brings its own copy of Click from some version on, so its class has no one name.
        explained = getattr(error, "format_message", None)
        if explained is None:
            raise
        print_json(
            {
                "error": "UsageError",
                "message": explained(),
                "remedy": "`auditspan COMMAND --help` shows how it is written.",
            }
        )
        raise SystemExit(_WRONG_COMMAND_LINE) from None
    raise SystemExit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
