"""``auditspan policy``: the rules in force. Each command stands in a file of its own."""

from __future__ import annotations

import typer

from auditspan.cli.policy_activate import activate, adopt, withdraw
from auditspan.cli.policy_show import show

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Rules in force: see them, activate, adopt and withdraw.")
app.command()(activate)
app.command()(adopt)
app.command()(withdraw)
app.command()(show)
