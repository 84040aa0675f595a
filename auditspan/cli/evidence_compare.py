"""``auditspan evidence diff``: what two packages of one deployment say differently."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors_with
from auditspan.cli.verdict import EXIT_USAGE, Verdict

__all__ = ["diff"]


@reports_errors_with(EXIT_USAGE)
def diff(
    first: Annotated[Path, typer.Argument(help="An evidence package: its folder, or its zip file.")],
    second: Annotated[Path, typer.Argument(help="Another one of the same deployment.")],
    trust: Annotated[Path, typer.Option(help="trust.json with the operator's public keys, got by another way.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two evidence packages of one deployment: intervals, queries, epochs, and every leaf that both hold.

    Both are verified first. Exit status: 0 where both speak they say the same, whatever else one of them covers; 1 they
    contradict each other (a leaf with other bytes, another tree of one size: a split view, or tampering), or one is
    invalid; 2 one is incomplete; 3 the command is wrong.

    \b
    auditspan evidence diff ./october ./november --trust ./trust.json
    """
    from auditspan.cli.evidence_trust import trusted
    from auditspan.exporters.evidence.compare import compare_packages

    compared = compare_packages(first, second, trusted(trust))
    if as_json:
        print_json(compared.to_dict())
    else:
        _show(compared.to_dict(), first, second)
    raise Verdict(compared.exit_code)


def _show(said: dict[str, Any], first: Path, second: Path) -> None:
    console.print(plain(f"A {first}: {said['verdicts'][0]}\nB {second}: {said['verdicts'][1]}"), soft_wrap=True)
    if said["result"] is None:
        console.print("They are not compared: see what is wrong with `auditspan evidence verify`.")
        return
    for name, (one, other) in said["differences"].items():
        console.print(plain(f"{name.replace('_', ' ')}: A {one}, B {other}"), soft_wrap=True)
    counts = ["both", "only in A", "only in B", "shown in A only", "shown in B only", "contradictions"]
    rows = [
        {
            "log": f"{log['partition']}\n{log['log_id']}",
            "A": _interval(log["intervals"][0]),
            "B": _interval(log["intervals"][1]),
            **{name: f"{log[name.replace(' ', '_').lower()]:,}" for name in counts},
        }
        for log in said["logs"]
    ]
    print_table(f"{len(rows)} logs", ["log", "A", "B", *counts], rows)
    for entry in said["contradictions"]:
        console.print(plain(", ".join(f"{name} {value}" for name, value in entry.items())), soft_wrap=True)
    console.print(said["result"])


def _interval(interval: list[int] | None) -> str:
    return "not there" if interval is None else f"{interval[0]:,} – {interval[1]:,}"
