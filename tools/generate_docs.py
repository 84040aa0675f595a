"""Write, or check, what is generated: conventions, commands, golden cases, explanations, an example of evidence, DDL.

``python -m tools.generate_docs`` writes them; ``--check`` exits 1 when one is stale, which CI does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from auditspan import semconv
from auditspan.cli.main import app
from tools.clickhouse_ddl import cluster_schema, server_schema
from tools.evidence_example import evidence_example
from tools.exceptions_page import exceptions_page
from tools.explanations import explanations
from tools.golden_tables import determinations

# Click keeps the lines of a paragraph that starts with a backspace: here they are the examples.
_EXAMPLES = re.compile(r"\x08\n((?:.+\n?)+)")

_STATUS = (
    "Exit status, where a command says nothing else: 0 done; 1 it could not be done, and the message says what to do, "
    "or what was looked at is not as it should be; 2 the command line is wrong. With `--json` an error is a JSON "
    "object on standard output, with `error`, `message` and `remedy`."
)

DOCS = Path(__file__).parent.parent / "docs"


def semantic_conventions() -> str:
    """The page of attributes and classes, from `auditspan.semconv`."""
    lines = [
        "# Semantic conventions",
        "",
        f"Version {semconv.SCHEMA_VERSION}. Generated from `auditspan/semconv.py` by `make docs`; do not edit.",
        "",
        "One span is one audit record. What makes it one is `audit.event.class`.",
        "",
        "## Event classes",
        "| class | meaning | sent by emitters | judged |",
        "|---|---|---|---|",
    ]
    for name, meaning in semconv.CLASSES.items():
        emitted = "yes" if semconv.class_may_be_emitted(name) else ""
        judged = "yes" if semconv.class_is_determined(name) else ""
        lines.append(f"| `{name}` | {meaning} | {emitted} | {judged} |")
    lines += [
        "",
        "## Attributes",
        "*Read by the log*: it enters the sealed header or the determination; all others are kept in the payload.",
        "",
        "| attribute | type | on | requirement | meaning | example | source | read by the log |",
        "|---|---|---|---|---|---|---|---|",
    ]
    read = semconv.READ_FROM_SPAN.keys() | semconv.READ_FROM_RESOURCE.keys()
    for attribute in semconv.ATTRIBUTES.values():
        example = f"`{attribute.example}`" if attribute.example else ""
        lines.append(
            f"| `{attribute.name}` | {attribute.type} | {attribute.place} | {attribute.requirement} | "
            f"{attribute.meaning} | {example} | {attribute.source} | {'yes' if attribute.name in read else ''} |"
        )
    lines += ["", "## Outcomes", ", ".join(f"`{outcome}`" for outcome in semconv.Outcome), ""]
    return "\n".join(lines)


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from _commands(child, f"{path} {name}")
    else:
        yield path, command


def command_reference() -> str:
    """The page of commands, from the command line program itself."""
    lines = ["# Command reference", "", "Generated from the program by `make docs`; do not edit.", "", _STATUS, ""]
    for path, command in _commands(typer.main.get_command(app), "auditspan"):
        lines += [
            f"## `{path}`",
            _EXAMPLES.sub(r"```\n\1\n```", (command.help or "").strip()),
            "",
            "| option | meaning | default |",
            "|---|---|---|",
        ]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                name = ", ".join(f"`{option}`" for option in parameter.opts + parameter.secondary_opts)
                default = parameter.default if parameter.show_default and parameter.default not in (None, False) else ""
                lines.append(f"| {name} | {parameter.help or ''} | {default or ''} |")
            else:
                lines.append(f"| `{parameter.name.upper()}` | {getattr(parameter, 'help', '') or 'argument'} | |")
        lines.append("")
    return "\n".join(lines)


PAGES = {
    "semantic-conventions.md": semantic_conventions,
    "cli.md": command_reference,
    "determinations.md": determinations,
    "evidence-example.md": evidence_example,
    "explanations.md": explanations,
    "license-exceptions.md": exceptions_page,
    "../deploy/clickhouse/schema.sql": server_schema,
    "../deploy/clickhouse/schema-cluster.sql": cluster_schema,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` say which are stale."""
    stale = []
    for name, render in PAGES.items():
        page, text = DOCS / name, render()
        if "--check" in arguments:
            if not page.exists() or page.read_text() != text:
                stale.append(name)
        else:
            page.write_text(text)
    if stale:
        print(f"stale: {', '.join(stale)}. Run `make docs` and commit the result.", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
