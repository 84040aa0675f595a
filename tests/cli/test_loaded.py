"""A command is imported when it is named, and no other with it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer
import typer.main
from typer.testing import CliRunner

from auditspan.cli.loaded import LoadedCommands, LoadedGroup

PROGRAM = """
import sys
from auditspan.cli.main import main
sys.argv = ['auditspan', *{arguments!r}]
try:
    main()
except SystemExit as ending:
    assert not ending.code, ending
print('\\n'.join(name for name in sys.modules if name.startswith('auditspan.cli.')), file=sys.stderr)
"""


def loaded(*arguments: str) -> set[str]:
    """Modules of commands that were imported."""
    program = PROGRAM.format(arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.removeprefix("auditspan.cli.") for name in done.stderr.split()}


def test_a_command_is_imported_alone() -> None:
    every = {"up", "evidence", "policy", "screen", "spool", "kafka", "token", "cases"}
    assert not every & loaded("--version")
    assert every & loaded("token", "create", "--help") == {"token"}
    assert every <= loaded("--help")


class _Group(LoadedGroup):
    places = {"moments": f"{__name__}:command", "others": f"{__name__}:others"}  # noqa: RUF012


def command(count: int = 1) -> None:
    """Says how many."""
    typer.echo(f"{count} moments")


others = typer.Typer(help="More.")


@others.command()
def first() -> None:
    """Says first."""
    typer.echo("first")


@others.command()
def second() -> None:
    """Says second."""
    typer.echo("second")


@pytest.fixture
def run() -> CliRunner:
    return CliRunner()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["moments", "--count", "3"], "3 moments\n"),
        (["others", "second"], "second\n"),
    ],
)
def test_commands_and_groups_are_run(run: CliRunner, arguments: list[str], said: str) -> None:
    done = run.invoke(typer.Typer(cls=_Group, callback=lambda: None), arguments)
    assert (done.exit_code, done.output) == (0, said)


def test_help_and_suggestions_know_every_name(run: CliRunner) -> None:
    app = typer.Typer(cls=_Group, callback=lambda: None)
    said = run.invoke(app, ["--help"]).output
    assert said.index("moments") < said.index("Says how many") < said.index("others") < said.index("More.")
    assert "Did you mean 'moments'?" in run.invoke(app, ["momnts"]).output


def test_a_command_that_nobody_knows_is_none() -> None:
    found = LoadedCommands({"moments": f"{__name__}:command"})
    assert found.get("hours") is None
    assert "hours" not in found
    assert list(found) == ["moments"]
    assert found["moments"] is found["moments"]
    assert found["moments"].name == "moments"
