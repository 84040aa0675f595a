"""``auditspan keys``: what makes a deployment's seals its own."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from auditspan.cli.keys_rotate import rotate
from auditspan.cli.output import JsonOption, console, print_json, reports_errors
from auditspan.cli.trust import app as trust_app
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.ledger.keys import init_journal_key, init_keys, write_secret_file

__all__ = ["app", "make_keys", "make_read_token", "make_write_token"]

app = typer.Typer(no_args_is_help=True, help="Signing key, salt key, read token and the public trust.json.")
app.add_typer(trust_app, name="trust")
app.command()(rotate)


def make_keys(directory: DataDirectory, deployment: str) -> None:
    """Make all keys of a new deployment.

    Raises:
        KeyFileError: the directory has keys already.
        AuditSpanError: it has sealed something with keys that are gone.
    """
    if directory.journal.exists() and not directory.signing_key.exists():
        raise AuditSpanError(
            f"{directory.root} has sealed events with keys that are not there any more.",
            remedy="Put the keys back from their copy: with new ones, nothing old could be continued or opened.",
        )
    directory.create()
    init_keys(
        signing_key=directory.signing_key,
        salt_key=directory.salt_key,
        trust=directory.trust,
        deployment=deployment,
        added_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    if not directory.read_token.exists():
        make_read_token(directory)
    if not directory.journal_key.exists():
        init_journal_key(directory.journal_key)


def make_read_token(directory: DataDirectory) -> None:
    """Make the token that reads the store through the SQL endpoint."""
    write_secret_file(directory.read_token, "asr_" + secrets.token_urlsafe(32) + "\n")


def make_write_token(directory: DataDirectory) -> None:
    """Make the password of the user ``writer`` of the store as a service."""
    write_secret_file(directory.write_token, "asw_" + secrets.token_urlsafe(32) + "\n")


@app.command()
@reports_errors
def init(
    data: Annotated[Path, typer.Option("--data", help="Data directory of the new deployment.", file_okay=False)],
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the keys of a new deployment. Existing keys are never overwritten.

    Writes DIR/keys (private, 0600), DIR/read.token and DIR/journal.key (0600), and DIR/trust.json: give the last one to
    whoever verifies.

    \b
    auditspan keys init --data ./data
    """
    directory = DataDirectory(data)
    # Whoever verifies has `keys trust`, and no settings.
    from auditspan.cli.config import settings_of

    make_keys(directory, settings_of(data, config).deployment)
    written = {"trust": directory.trust, "read_token": directory.read_token, "keys": directory.signing_key.parent}
    if as_json:
        print_json(written)
    else:
        console.print(
            f"Keys are in {written['keys']} (keep a copy where only you can read it).\n"
            f"Verifiers take {written['trust']}.\nThe SQL endpoint's password is in {written['read_token']}.",
            soft_wrap=True,
        )


@app.command()
@reports_errors
def journal(
    data: Annotated[Path, typer.Option("--data", help="Data directory.", file_okay=False)],
    as_json: JsonOption = False,
) -> None:
    """Make DIR/journal.key alone, with which collectors vouch for what they write to Kafka.

    Collectors and processors of one deployment share it: make it once, and copy it (0600) to their data directories.

    \b
    auditspan keys journal --data ./collector
    """
    directory = DataDirectory(data)
    directory.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    init_journal_key(directory.journal_key)
    if as_json:
        print_json({"journal_key": directory.journal_key})
    else:
        console.print(f"The journal key is in {directory.journal_key}.", soft_wrap=True)


@app.command()
@reports_errors
def vkey(
    data: Annotated[
        Path, typer.Option("--data", help="Data directory of the service, running or not.", file_okay=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Print origin and verifier key of the control log: what a witness needs to know before it cosigns.

    \b
    auditspan keys vkey --data ./data
    """
    from auditspan.cli.reading import existing, open_reader
    from auditspan.exporters.evidence.control import control_log_of
    from auditspan.ledger.checkpoint import log_origin, verifier_key
    from auditspan.ledger.trust import load_trust

    trust = load_trust(existing(data).trust)
    with open_reader(data, None) as reading:
        origin = log_origin(trust.deployment, control_log_of(reading.store))
    keys = [verifier_key(origin, key) for key in trust.keys]
    if as_json:
        print_json({"origin": origin, "vkeys": keys})
    else:
        # Bare: these are for other programs.
        typer.echo("\n".join([origin, *keys]))
