"""The documents: generated pages are fresh, every command line is one of the program, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from auditspan.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted(
    path
    for folder in ("auditspan", "collectors", "exporters", "instrumentation", "processors")
    for path in (ROOT / folder).rglob("*.py")
)
_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
GROUP = typer.main.get_command(app)


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.generate_docs", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def written_commands(text: str) -> Iterator[list[str]]:
    """The words after ``auditspan`` of every line in a block that begins with it, and of every inline command."""
    blocks = [block.replace("\\\n", " ") for block in _FENCE.findall(text)]
    lines = [line for block in blocks for line in block.splitlines()] + _INLINE.findall(_FENCE.sub("", text))
    for line in lines:
        try:
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
        except ValueError:  # output that is shown, not a command
            continue
        while words and _ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        if words[:1] == ["auditspan"]:
            for stop in ("|", ">", "&", "&&", ";"):
                words = words[: words.index(stop)] if stop in words else words
            # Brackets show what may be left out.
            yield [word.strip("[]") for word in words[1:]]


def parse(words: list[str]) -> None:
    """As the program would, without running anything.

    Raises:
        Exception: Click's, when it would refuse the line.
    """
    command: Any = GROUP
    while hasattr(command, "commands"):
        if not words or words[0] in ("--help", "--version"):
            return
        if words[0] not in command.commands and hasattr(command, "default"):
            words = [command.default, *words]
        name, *words = words
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    if not words or "…" in words:
        # A command that is only named, as in a sentence.
        known = {option for one in command.params for option in one.opts}
        assert {word for word in words if word.startswith("--")} <= known
        return
    command.make_context(command.name, list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_is_one_of_the_program(page: Path) -> None:
    for words in written_commands(page.read_text()):
        try:
            parse(words)
        except Exception as error:
            said = error.format_message() if hasattr(error, "format_message") else error
            pytest.fail(f"{page.name}: auditspan {' '.join(words)}: {said}")


def test_every_variable_of_the_recorder_is_explained() -> None:
    sources = "".join(path.read_text() for path in SOURCES if path.is_relative_to(ROOT / "instrumentation"))
    names = set(re.findall(r"AUDITSPAN_([A-Z_]*[A-Z])", sources))
    names |= set(re.findall(r'self\._[a-z_]+\((?:token, )?"([A-Z_]+)"', sources))
    pages = "".join((ROOT / "docs" / name).read_text() for name in ("platform-engineer.md", "enforcement.md"))
    assert {"MODE", "MODES", "TRUSTED_PROXIES", "HEARTBEAT_SECONDS", "ENFORCE_ENDPOINT", "FINGERPRINT_KEY"} <= names
    assert [name for name in sorted(names) if f"`AUDITSPAN_{name}" not in pages] == []


def test_the_check_finds_wrong_command_lines() -> None:
    assert list(written_commands("```sh\nA=1 auditspan up --data ./d | cat  # c\n```\n`auditspan status`")) == [
        ["up", "--data", "./d"],
        ["status"],
    ]
    for wrong in (
        ["ledger", "mend"],
        ["up", "--banana"],
        ["evidence", "verify", "x"],
        ["token", "create", "--data"],
    ):
        with pytest.raises(Exception):  # noqa: B017 - typer's Click has no one name
            parse(wrong)


def test_no_remedy_names_a_command_that_does_not_exist() -> None:
    """Messages are f-strings, so that only the words of the command can be checked."""
    named = re.compile(r"(?:`|with: |Run: |Start: |them: )auditspan ([a-z]+)(?: ([a-z]+))?")
    found = [(path, *match) for path in SOURCES for match in named.findall(path.read_text())]
    assert len(found) > 10
    for path, name, word in found:
        command: Any = GROUP.commands.get(name)  # type: ignore[attr-defined]
        assert command is not None, f"{path}: auditspan {name}"
        if hasattr(command, "commands"):
            assert not word or word in command.commands, f"{path}: auditspan {name} {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text())
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert linked.is_relative_to(ROOT), f"{page.name} links out of the project: {target}"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked.read_text()), f"{page.name} links to {target}"


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}
