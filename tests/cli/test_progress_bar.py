"""Bars are for a person at a terminal, and for nobody else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from auditspan.cli import progress_bar


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal, and what was drawn on it."""
    drawn = io.StringIO()
    monkeypatch.setattr(progress_bar, "errors", Console(file=drawn, force_terminal=True, width=100))
    return drawn


def test_one_task_is_drawn(screen: io.StringIO) -> None:
    with progress_bar.progress_of_one("verifying", as_json=False) as progress:
        progress(3, 7)
    assert "verifying" in screen.getvalue()
    assert "3/7" in screen.getvalue()


def test_each_partition_has_a_bar_of_its_own(screen: io.StringIO) -> None:
    with progress_bar.progress_by_partition("checking", as_json=False) as progress:
        progress("events-0", 1, 2)
        progress("events-1", 5, 9)
        progress("events-0", 2, 2)
    drawn = screen.getvalue()
    assert "checking events-0" in drawn and "checking events-1" in drawn
    assert "2/2" in drawn and "5/9" in drawn


def test_a_program_gets_none(screen: io.StringIO) -> None:
    with progress_bar.progress_of_one("verifying", as_json=True) as one:
        one(1, 2)
    with progress_bar.progress_by_partition("checking", as_json=True) as each:
        each("events-0", 1, 2)
    assert screen.getvalue() == ""


def test_nor_does_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(progress_bar, "errors", Console(file=written))
    with progress_bar.progress_of_one("verifying", as_json=False) as progress:
        progress(1, 2)
    assert "verifying" not in written.getvalue()
