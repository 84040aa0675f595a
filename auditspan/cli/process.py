"""``auditspan process``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from auditspan.cli.config import settings_of
from auditspan.cli.output import JsonOption, console, fail, print_json, reports_errors
from auditspan.cli.reading import existing
from auditspan.cli.up import log_to_standard_error

__all__ = ["EXIT_FENCED", "process"]

EXIT_FENCED: Final = 3
"""Another processor owns a log that this one believed to be its own."""


@reports_errors
def process(
    data: Annotated[Path, typer.Option("--data", help="Data directory with the deployment's keys.", file_okay=False)],
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT of health and metrics; default processor.listen; port 0: a free one.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Seal, judge and sign what collectors put into Kafka. Start it as often as you like, on as many machines.

    The processes of a deployment share its partitions through a consumer group; each log has one owner at a time, and
    the owner of the control partition signs for all. Each machine needs the same keys, trust.json and journal.key.

    Ends on SIGTERM or SIGINT after the batch at hand; where a killed one was, another goes on. Exit status: 0 told to
    end; 1 it cannot do its work, and says why; 3 another processor owns its log: start it again, it joins anew.

    \b
    auditspan process --data ./data
    auditspan process --data ./data --listen 127.0.0.1:0 --json
    """
    overrides: dict[str, Any] = {"processor": {"listen": listen}} if listen is not None else {}
    settings = settings_of(data, config, overrides)

    def started(endpoints: Mapping[str, str]) -> None:
        if as_json:
            print_json(dict(endpoints))
        else:
            console.print(f"Health and metrics  {endpoints['health']}   (/livez, /readyz, /metrics)", soft_wrap=True)

    log_to_standard_error()
    from auditspan.cli.processor_service import run_processors
    from auditspan.store.contract import Fenced

    try:
        run_processors(existing(data), settings, started)
    except Fenced as error:
        fail(error, as_json, EXIT_FENCED)
