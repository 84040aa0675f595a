"""The program ``auditspan``.

Exit status: 0 done; 1 the command could not do it, and says why; 2 the command line is wrong. ``process`` adds 3:
another processor owns its log. What verifies (``evidence verify``, ``replay --verify``, ``policy lint``, ``test`` and
``recheck``) has its own: 0 valid, 1 invalid, 2 incomplete, 3 usage. ``inventory classify`` and ``screen batch``
add 3: some rows were rejected.

Modules that load pyarrow, ClickHouse or a server are imported by the commands that need them, when they run.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import typer

from auditspan import __version__
from auditspan.cli import (
    cases,
    config,
    evidence,
    inventory,
    kafka,
    keys,
    license,
    lists,
    policy,
    requests,
    screen,
    spool,
    store,
    token,
)
from auditspan.cli.collect import collect
from auditspan.cli.doctor import doctor
from auditspan.cli.events import events
from auditspan.cli.output import print_json
from auditspan.cli.process import process
from auditspan.cli.replay import replay
from auditspan.cli.rescreen import rescreen
from auditspan.cli.status import status
from auditspan.cli.up import up
from auditspan.cli.without_pandas import without_pandas

__all__ = ["app", "main"]

_WRONG_COMMAND_LINE: Final = 2
_VERIFYING: Final = (["evidence", "verify"], ["replay"], ["policy", "lint"], ["policy", "test"], ["policy", "recheck"])

app = typer.Typer(
    name="auditspan",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Audit trail for export-controlled AI: OpenTelemetry in, sealed and provable evidence out.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up)
app.command()(collect)
app.command()(process)
app.command()(status)
app.command()(events)
app.command()(doctor)
app.command()(replay)
app.command()(rescreen)
app.add_typer(kafka.app, name="kafka")
app.add_typer(keys.app, name="keys")
app.add_typer(token.app, name="token")
app.add_typer(spool.app, name="spool")
app.add_typer(evidence.app, name="evidence")
app.add_typer(inventory.app, name="inventory")
app.add_typer(license.app, name="license")
app.add_typer(lists.app, name="lists")
app.add_typer(screen.app, name="screen")
app.add_typer(store.app, name="store")
app.add_typer(cases.app, name="cases")
app.add_typer(requests.app, name="requests")
app.add_typer(policy.app, name="policy")
app.add_typer(config.app, name="config")


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
        wrong = ending.code == _WRONG_COMMAND_LINE and not isinstance(ending, evidence.Verdict)
        if wrong and any(arguments[: len(words)] == words for words in _VERIFYING):
            raise SystemExit(evidence.EXIT_USAGE) from None
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
