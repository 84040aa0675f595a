"""``auditspan up``."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from auditspan.cli.config import settings_of
from auditspan.cli.output import JsonOption, console, print_json, reports_errors
from auditspan.data_directory import DataDirectory

__all__ = ["log_to_standard_error", "up"]


@reports_errors
def up(
    data: Annotated[Path, typer.Option("--data", help="Data directory; made when absent.", file_okay=False)],
    otlp_http: Annotated[str | None, typer.Option(help="HOST:PORT for OTLP/HTTP, health and metrics.")] = None,
    otlp_grpc: Annotated[str | None, typer.Option(help="HOST:PORT for OTLP/gRPC.")] = None,
    sql: Annotated[str | None, typer.Option(help="HOST:PORT for the read-only ClickHouse HTTP endpoint.")] = None,
    journal: Annotated[
        str | None, typer.Option(help="sqlite, or kafka://HOST:PORT[,HOST:PORT...]; default the setting journal.url.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    parties: Annotated[Path | None, typer.Option(help="Party registry (YAML); default DIR/parties.yaml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole pipeline in one process: collectors, journal, processor, embedded ClickHouse, SQL endpoint.

    Ready when GET /readyz on the OTLP/HTTP port is 200; DIR/endpoints.json says where everything listens. Ends on
    SIGTERM or SIGINT after it has sealed what it acknowledged; a killed service goes on where it was at the next start.

    \b
    auditspan up --data ./data
    auditspan up --data ./data --journal kafka://127.0.0.1:9092
    auditspan up --data ./data --otlp-http 127.0.0.1:0 --otlp-grpc 127.0.0.1:0 --sql 127.0.0.1:0
    """
    listen = {
        name: value
        for name, value in (("otlp_http", otlp_http), ("otlp_grpc", otlp_grpc), ("sql", sql))
        if value is not None
    }
    overrides: dict[str, Any] = {"listen": listen} if listen else {}
    if journal is not None:
        overrides["journal"] = {"url": journal}
    if parties is not None:
        overrides["parties"] = parties

    def ready(endpoints: Mapping[str, str]) -> None:
        if as_json:
            print_json(dict(endpoints))
            return
        console.print(
            f"OTLP/HTTP  {endpoints['otlp_http']}   (/readyz, /metrics)\n"
            f"OTLP/gRPC  {endpoints['otlp_grpc']}\n"
            f"SQL        {endpoints['sql']}   (password in {data / 'read.token'})",
            soft_wrap=True,
        )

    settings = settings_of(data, config, overrides)
    # The C core of gRPC writes to standard error by itself, before Python can say the same as an error of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    log_to_standard_error()
    from auditspan.cli.service import run_service

    run_service(DataDirectory(data), settings, ready)


def log_to_standard_error() -> None:
    """Log of a service: one line an event, with the time in UTC; what only libraries care about is left out."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
    for noisy in ("urllib3", "clickhouse_connect"):
        # What they warn of, we say ourselves, once and with a remedy.
        logging.getLogger(noisy).setLevel(logging.ERROR)
    for noisy in ("uvicorn", "asyncio", "chdb", "kafka"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
