"""``auditspan config``: the effective settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auditspan.cli.output import JsonOption, print_json, print_table, reports_errors
from auditspan.config import Settings, load_settings
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError

__all__ = ["app", "settings_of"]

app = typer.Typer(no_args_is_help=True, help="Settings: one TOML file, and AUDITSPAN_… environment over it.")


def settings_of(data: Path | None, config: Path | None, overrides: dict[str, Any] | None = None) -> Settings:
    """The settings of a data directory: ``config`` if named, else ``DIR/auditspan.toml`` if it is there."""
    if config is None and data is not None and DataDirectory(data).settings.is_file():
        config = DataDirectory(data).settings
    return load_settings(config, overrides)


@app.command()
@reports_errors
def show(
    data: Annotated[
        Path | None, typer.Option("--data", help="Data directory whose auditspan.toml is read.", file_okay=False)
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file to read instead.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the effective values of all settings, with the environment variable that sets each.

    \b
    auditspan config show --data ./data
    AUDITSPAN_LISTEN__SQL=127.0.0.1:9000 auditspan config show --json
    """
    if data is not None and config is None and not data.is_dir():
        # What is in force there cannot be told, and the defaults would look like it.
        raise AuditSpanError(f"There is no directory {data}.", remedy="Leave --data out to see the defaults.")
    values = settings_of(data, config).model_dump(mode="json")
    if as_json:
        print_json(values)
        return
    rows = [
        {"setting": name, "value": value, "environment": "AUDITSPAN_" + name.upper().replace(".", "__")}
        for name, value in _flat(values)
    ]
    print_table("Settings", ["setting", "value", "environment"], rows)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        flat += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return flat
