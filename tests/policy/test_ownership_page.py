"""What the officer's page shows of owners is what the command prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from auditspan.cli.main import app

PAGE = (Path(__file__).parents[2] / "docs" / "export-control-officer.md").read_text()
SECTION = PAGE.partition("## Who owns whom\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(("number", "wrong"), [(0, False), (1, False), (2, True)])
def test_the_output_on_the_page_is_that_of_the_command(
    number: int, wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (registry,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    if wrong:
        registry = registry.replace("{party: lotus, share: 25}", "{party: lotus, share: 60}")
    (tmp_path / "parties.yaml").write_text(registry)
    monkeypatch.chdir(tmp_path)
    command, _, shown = re.findall(r"```console\n\$ auditspan (.*?)```", SECTION, re.DOTALL)[number].partition("\n")
    printed = CliRunner().invoke(app, shlex.split(command), env={"COLUMNS": "110"})
    assert printed.exit_code == (1 if wrong else 0)
    assert shown in printed.output
