"""``auditspan store``: the store as a service of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from auditspan.cli.config import settings_of
from auditspan.cli.output import JsonOption, console, print_json, reports_errors
from auditspan.cli.up import log_to_standard_error
from auditspan.data_directory import DataDirectory

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The store as a service, for processors in other processes.")


@app.command()
@reports_errors
def serve(
    data: Annotated[Path, typer.Option("--data", help="Data directory; made when absent.", file_okay=False)],
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT of the ClickHouse HTTP endpoint; default `listen.sql`.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the embedded ClickHouse in DIR/store to processors and readers, over ClickHouse's HTTP protocol.

    Users are writer (password in DIR/write.token: may INSERT what AuditSpan seals, and SELECT) and reader (password in
    DIR/read.token). Nobody can change or remove anything. Ready when GET /readyz is 200; DIR/endpoints.json says
    where. Ends on SIGTERM or SIGINT after the inserts under way; killed, it goes on at the next start with everything
    that it acknowledged. It has no TLS: beyond this machine, put it behind a proxy that has.

    \b
    auditspan store serve --data ./store-data
    auditspan store serve --data ./store-data --listen 127.0.0.1:0 --json
    """
    settings = settings_of(data, config, {"listen": {"sql": listen}} if listen is not None else {})
    directory = DataDirectory(data)

    def ready(endpoints: Mapping[str, str]) -> None:
        if as_json:
            print_json(dict(endpoints))
            return
        console.print(
            f"ClickHouse HTTP  {endpoints['sql']}   (/ping, /readyz)\n"
            f"user writer      password in {directory.write_token}\n"
            f"user reader      password in {directory.read_token}",
            soft_wrap=True,
        )

    log_to_standard_error()
    from auditspan.cli.store_service import run_store_service

    run_store_service(directory, settings, ready)


@app.command()
@reports_errors
def check(
    data: Annotated[Path, typer.Option("--data", help="Data directory of a processor.", file_okay=False)],
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Try the store that the settings name: reached, let in, schema of this version, logs of this deployment.

    \b
    auditspan store check --data ./data
    AUDITSPAN_STORE__URL=http://127.0.0.1:8123 auditspan store check --data ./data --json
    """
    from auditspan.cli.store_service import check_store

    found: dict[str, Any] = check_store(DataDirectory(data), settings_of(data, config))
    if as_json:
        print_json(found)
    else:
        console.print(
            f"The store at {found['url']} has schema version {found['schema_version']} and {found['leaves']} leaves in "
            f"{found['logs']} logs.",
            soft_wrap=True,
        )
