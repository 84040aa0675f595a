"""``auditspan token``: credentials of emitters."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from auditspan.cli.output import JsonOption, console, print_json, print_table, reports_errors
from auditspan.cli.reading import existing
from auditspan.data_directory import DataDirectory
from auditspan.tokens import TokenRegistry

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Bearer tokens of emitters. Only their hashes are kept.")

Data = Annotated[Path, typer.Option("--data", help="Data directory of the service.", file_okay=False)]


def _time(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="seconds")


@app.command()
@reports_errors
def create(
    emitter: Annotated[str, typer.Argument(help="Name the log will know this sender by, such as inference-1.")],
    data: Data,
    as_json: JsonOption = False,
) -> None:
    """Make a token for an emitter and print it, once: it cannot be read back.

    \b
    auditspan token create inference-1 --data ./data
    """
    directory = DataDirectory(data)
    directory.create()
    token = TokenRegistry(directory.tokens).create(emitter)
    if as_json:
        print_json({"emitter": emitter, "token": token})
    else:
        sys.stdout.write(token + "\n")


@app.command(name="list")
@reports_errors
def list_tokens(data: Data, as_json: JsonOption = False) -> None:
    """List tokens by id and emitter, revoked ones included. The tokens themselves are not known here.

    \b
    auditspan token list --data ./data
    """
    rows = [
        {"id": token.id, "emitter": token.emitter, "created": _time(token.created), "revoked": _time(token.revoked)}
        for token in TokenRegistry(existing(data).tokens).list()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table("Tokens", ["id", "emitter", "created", "revoked"], rows, lines=False)


@app.command()
@reports_errors
def revoke(
    name: Annotated[str, typer.Argument(help="Id of a token, or an emitter: then all of its tokens.")],
    data: Data,
    as_json: JsonOption = False,
) -> None:
    """Revoke a token; a running service refuses it within a second.

    \b
    auditspan token revoke inference-1 --data ./data
    """
    revoked = [
        {"id": token.id, "emitter": token.emitter} for token in TokenRegistry(existing(data).tokens).revoke(name)
    ]
    if as_json:
        print_json(revoked)
    else:
        console.print(f"Revoked {', '.join(token['id'] for token in revoked)}.", soft_wrap=True)
