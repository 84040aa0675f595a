"""Screening is an extra of its own: where it is not installed, its commands say so."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import auditspan, fails

HIDES = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "{missing}" else found(name, *rest)
"""


@pytest.mark.parametrize("missing", ["rigour", "rapidfuzz"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("lists", "import", "list.json", "--data", "data"),
        ("screen", "Somebody", "--data", "data"),
        ("screen", "batch", "names.csv", "--data", "data"),
        ("screen", "evaluate", "pairs.csv"),
    ],
)
def test_a_command_says_what_to_install(tmp_path: Path, missing: str, arguments: tuple[str, ...]) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDES.format(missing=missing))
    said = fails(*arguments, env={"PYTHONPATH": str(tmp_path)})
    assert "Screening is not installed" in said
    assert "pip install 'auditspan[screening]'" in said


def test_what_needs_no_names_works_without(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDES.format(missing="rigour"))
    done = auditspan("lists", "show", "--data", tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert "import" in done.out + done.err
    assert "not installed" not in done.out + done.err
