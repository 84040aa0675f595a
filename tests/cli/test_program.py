"""What holds of every command: help with an example, JSON for programs, errors without tracebacks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from command_line import auditspan, fails
from conftest import Running

from auditspan.cli.main import app


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    command = command or typer.main.get_command(app)
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))
    else:
        yield path, command


EVERY = dict(commands())


def test_the_commands_that_scripts_lean_on_are_there() -> None:
    assert set(EVERY) == {
        ("up",),
        ("status",),
        ("events",),
        ("doctor",),
        ("backup",),
        ("restore",),
        ("ledger", "check"),
        ("ledger", "recover"),
        ("keys", "init"),
        ("keys", "rotate"),
        ("token", "create"),
        ("token", "list"),
        ("token", "revoke"),
        ("spool", "status"),
        ("spool", "ship"),
        ("keys", "vkey"),
        ("keys", "trust", "show"),
        ("keys", "trust", "add-witness"),
        ("keys", "trust", "add-timestamp-authority"),
        ("keys", "trust", "remove"),
        ("keys", "trust", "policy"),
        ("evidence", "request"),
        ("evidence", "list"),
        ("evidence", "export"),
        ("evidence", "verify"),
        ("evidence", "diff"),
        ("evidence", "print"),
        ("config", "show"),
        ("store", "serve"),
        ("store", "check"),
        ("collect",),
        ("process",),
        ("replay",),
        ("rescreen",),
        ("kafka", "init"),
        ("kafka", "reshard"),
        ("kafka", "check"),
        ("keys", "journal"),
        ("policy", "activate"),
        ("policy", "adopt"),
        ("policy", "withdraw"),
        ("policy", "show"),
        ("policy", "lint"),
        ("policy", "test"),
        ("policy", "explain"),
        ("policy", "diff"),
        ("policy", "recheck"),
        ("policy", "reach"),
        ("inventory", "classify"),
        ("cases", "list"),
        ("cases", "show"),
        ("license", "import"),
        ("license", "list"),
        ("license", "show"),
        ("requests", "list"),
        ("requests", "show"),
        ("lists", "activate"),
        ("lists", "import"),
        ("lists", "show"),
        ("screen", "name"),
        ("screen", "batch"),
        ("screen", "evaluate"),
        ("screen", "clear"),
        ("screen", "second"),
        ("screen", "unclear"),
        ("screen", "clearances"),
    }


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_has_an_example_json_and_help_for_each_option(path: tuple[str, ...]) -> None:
    command = EVERY[path]
    assert re.search(rf"^(\w+=\S+ )?auditspan {' '.join(path)}", command.help, re.MULTILINE)
    options = {name: one for one in command.params for name in one.opts}
    assert "--json" in options
    assert all(one.help for one in options.values())


def test_help_shows_the_example_as_it_is_written() -> None:
    done = auditspan("events", "--help")
    assert done.status == 0
    assert re.search(r"auditspan events --data \./data --flagged\s*│?\n", done.out + "\n") or (
        "auditspan events --data ./data --flagged" in done.out
    )
    assert auditspan("--version").out.startswith("auditspan ")


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_an_unknown_option_is_a_usage_error(path: tuple[str, ...]) -> None:
    # Where 2 means something else, the verdict of what verifies, it is 3.
    verifying = [("evidence", name) for name in ("verify", "diff", "print")] + [("ledger", "check"), ("replay",)]
    verifying += [("policy", name) for name in ("lint", "test", "recheck")]
    status = 3 if path in verifying else 2
    assert "banana" in fails(*path, "--banana", status=status)


def test_without_the_pipeline_the_program_says_what_it_needs() -> None:
    program = "import sys; sys.modules['typer'] = None; from auditspan.cli.entry import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr and "pip install 'auditspan[pipeline]'" in done.stderr


def test_an_error_is_the_same_to_persons_and_to_programs(tmp_path: Path) -> None:
    command = ("token", "list", "--data", tmp_path / "typo")
    spoken, document = auditspan(*command), auditspan(*command, "--json")
    assert (spoken.status, document.status) == (1, 1)
    assert (spoken.out, document.err) == ("", "")
    said = document.json()
    assert said["message"] in spoken.err
    assert said["remedy"] in spoken.err
    spoken = auditspan("token", "list", "--banana")
    assert (spoken.status, spoken.out) == (2, "")
    assert "No such option" in spoken.err
    verify = auditspan("evidence", "verify", tmp_path / "typo", "--trust", tmp_path / "typo")
    assert (verify.status, verify.out) == (3, "")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("backup", "--out", "/proc/auditspan/out"), 1),
        (("restore", "--from", "/proc/auditspan/from"), 1),
        (("ledger", "check"), 3),
        (("ledger", "recover"), 1),
        (("keys", "init"), 1),
        (("keys", "rotate"), 1),
        (("keys", "vkey"), 1),
        (("evidence", "list"), 1),
        (("token", "create", "a"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_place_that_cannot_be_written_is_explained(command: tuple[str, ...], status: int) -> None:
    assert "/proc/auditspan" in fails(*command, "--data", "/proc/auditspan", status=status)


def test_a_directory_that_is_a_file_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    commands = (("status",), ("events",), ("doctor",), ("up",), ("keys", "init"), ("token", "list"), ("config", "show"))
    for command in commands:
        assert "is a file" in fails(*command, "--data", file, status=2)


def test_settings_of_a_directory_that_is_not_there_are_no_defaults(tmp_path: Path) -> None:
    assert "There is no directory" in fails("config", "show", "--data", tmp_path / "typo")


def test_a_damaged_registry_of_tokens_is_explained(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("{}")
    (tmp_path / "tokens.json").chmod(0o600)
    assert "tokens.json" in fails("token", "list", "--data", tmp_path)
    assert "tokens.json" in fails("token", "create", "a", "--data", tmp_path)
    (tmp_path / "tokens.json").unlink()
    (tmp_path / "tokens.json").mkdir()
    assert "tokens.json" in fails("token", "list", "--data", tmp_path)


def test_endpoints_that_say_nothing_are_explained(running: Running) -> None:
    endpoints = running.service.directory.endpoints
    kept = endpoints.read_text()
    try:
        endpoints.write_text(json.dumps({"sql": 1}))
        assert "where it listens" in fails("status", "--data", running.data)
    finally:
        endpoints.write_text(kept)
