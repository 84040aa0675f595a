"""``auditspan policy``: what an export-control officer asks of packs and determinations, and the rules in force.

Each command stands in a file of its own.
"""

from __future__ import annotations

import typer

from auditspan.cli.policy_activate import activate, adopt, withdraw
from auditspan.cli.policy_diff import diff
from auditspan.cli.policy_explain import explain
from auditspan.cli.policy_lint import lint
from auditspan.cli.policy_reach import reach
from auditspan.cli.policy_recheck import recheck
from auditspan.cli.policy_show import show
from auditspan.cli.policy_test import test

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Rule packs: write, try, explain, activate; and the determinations that rest on them."
)
app.command()(lint)
app.command()(test)
app.command()(explain)
app.command()(diff)
app.command()(activate)
app.command()(adopt)
app.command()(withdraw)
app.command()(show)
app.command()(recheck)
app.command()(reach)
