"""``auditspan collect``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from auditspan.cli.config import settings_of
from auditspan.cli.output import JsonOption, console, print_json, reports_errors
from auditspan.cli.up import log_to_standard_error
from auditspan.data_directory import DataDirectory

__all__ = ["collect"]


@reports_errors
def collect(
    data: Annotated[Path, typer.Option("--data", help="Data directory of this collector.", file_okay=False)],
    otlp_http: Annotated[str | None, typer.Option(help="HOST:PORT for OTLP/HTTP, health and metrics.")] = None,
    otlp_grpc: Annotated[str | None, typer.Option(help="HOST:PORT for OTLP/gRPC.")] = None,
    journal: Annotated[
        str | None, typer.Option(help="kafka://HOST:PORT[,HOST:PORT...]; default the setting journal.url.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the collectors alone: accept OTLP, make it durable in the journal, acknowledge. Start as many as you like.

    The data directory holds this collector's tokens (auditspan token create) and journal.key, which all collectors and
    processors of a deployment share. Ready when GET /readyz on the OTLP/HTTP port is 200. Ends on SIGTERM or SIGINT.

    \b
    auditspan collect --data ./collector --journal kafka://127.0.0.1:9092
    auditspan collect --data ./collector --otlp-http 0.0.0.0:4318 --otlp-grpc 0.0.0.0:4317
    """
    listen = {name: value for name, value in (("otlp_http", otlp_http), ("otlp_grpc", otlp_grpc)) if value is not None}
    overrides: dict[str, Any] = {"listen": listen} if listen else {}
    if journal is not None:
        overrides["journal"] = {"url": journal}

    def ready(endpoints: Mapping[str, str]) -> None:
        if as_json:
            print_json(dict(endpoints))
        else:
            console.print(
                f"OTLP/HTTP  {endpoints['otlp_http']}   (/readyz, /metrics)\nOTLP/gRPC  {endpoints['otlp_grpc']}",
                soft_wrap=True,
            )

    settings = settings_of(data, config, overrides)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    log_to_standard_error()
    from auditspan.cli.collecting import run_collector

    run_collector(DataDirectory(data), settings, ready)
