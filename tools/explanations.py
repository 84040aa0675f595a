"""What ``auditspan policy explain`` says of five events: ``docs/explanations.md``, made by running it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

_WIDTH: Final = "100"
_EVENTS: Final = Path(__file__).with_name("explained_events.yaml")


@dataclass(frozen=True, slots=True)
class _Event:
    title: str
    situation: str
    at: str
    facts: dict[str, Any]
    reading: str


def explanations() -> str:
    """The page. The command is run as its users run it, each time the page is made."""
    events = [_Event(**event) for event in yaml.safe_load(_EVENTS.read_text())]
    running = [(event, _start(event)) for event in events]
    lines = [
        "# Five decisions, explained",
        "",
        "Made by running the commands shown, with the packs that ship, by `make docs`; do not edit.",
        "",
        "Each answer goes through the same questions in the same order: is the item subject to the Export "
        "Administration Regulations (EAR), how is it classified, where does it go, to whom and for what, does a list "
        "name a party, does an exception apply, and is a licence needed. In brackets stands the rule with its source. "
        "A rule that could apply, and cannot be excluded since a fact is unknown, leads to *review*. "
        "None of this is legal advice.",
        "",
        "The same is printed for a recorded event by its id, from the facts that were sealed with it: "
        "`auditspan policy explain EVENT_ID --data ./data`.",
        "",
    ]
    for number, (event, process) in enumerate(running, 1):
        output, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"auditspan policy explain ended with {process.returncode}: {output}")
        lines += [
            f"## {number}. {event.title}",
            event.situation,
            "",
            "```sh",
            f"auditspan policy explain --at {event.at} --facts '{json.dumps(event.facts)}'",
            "```",
            "",
            "```text",
            *(line.rstrip() for line in output.strip().splitlines()),
            "```",
            "",
            f"**How to read it.** {event.reading}",
            "",
        ]
    return "\n".join(lines)


def _start(event: _Event) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "auditspan.cli.main", "policy", "explain", "--at", event.at]
    return subprocess.Popen(
        [*command, "--facts", json.dumps(event.facts)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": _WIDTH},
    )
