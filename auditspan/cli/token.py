"""``auditspan token``: credentials of emitters and of officers."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from auditspan.cli.output import JsonOption, console, print_json, print_table, reports_errors
from auditspan.cli.reading import existing
from auditspan.data_directory import DataDirectory
from auditspan.tokens import EMITTER, OFFICER, ROLES, TokenRegistry

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Bearer tokens of emitters and officers. Only their hashes are kept.")

Data = Annotated[Path, typer.Option("--data", help="Data directory of the service.", file_okay=False)]


def _time(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="seconds")


@app.command()
@reports_errors
def create(
    emitter: Annotated[
        str, typer.Argument(metavar="NAME", help="Name the log will know them by, such as inference-1 or m.berger.")
    ],
    data: Data,
    role: Annotated[
        list[str] | None,
        typer.Option(help=f"{' or '.join(ROLES)}; give it twice for both; default {EMITTER}."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token for an emitter or an officer and print it, once: it cannot be read back.

    An emitter's token sends events and activates nothing; an officer's activates rules and sends nothing, unless it has
    both roles. What an officer does is sealed under this name.

    \b
    auditspan token create inference-1 --data ./data
    auditspan token create m.berger --role officer --data ./data
    """
    directory = DataDirectory(data)
    directory.create()
    roles = list(role or (EMITTER,))
    token = TokenRegistry(directory.tokens).create(emitter, roles)
    if as_json:
        print_json({"emitter": emitter, "token": token, **({"roles": roles} if OFFICER in roles else {})})
    else:
        sys.stdout.write(token + "\n")


@app.command(name="list")
@reports_errors
def list_tokens(data: Data, as_json: JsonOption = False) -> None:
    """List tokens by id, name and role, revoked ones included. The tokens themselves are not known here.

    \b
    auditspan token list --data ./data
    """
    rows: list[dict[str, Any]] = [
        {
            "id": token.id,
            "emitter": token.emitter,
            "roles": list(token.roles),
            "created": _time(token.created),
            "revoked": _time(token.revoked),
        }
        for token in TokenRegistry(existing(data).tokens).list()
    ]
    if as_json:
        print_json(rows)
    else:
        shown = [{**row, "roles": ", ".join(row["roles"])} for row in rows]
        print_table("Tokens", ["id", "emitter", "roles", "created", "revoked"], shown, lines=False)


@app.command()
@reports_errors
def revoke(
    name: Annotated[str, typer.Argument(help="Id of a token, or a name: then all of its tokens.")],
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
