"""``auditspan policy lint``: every fault of packs, tables and registries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auditspan.cli.output import JsonOption, console, plain, print_json, reports_errors_with
from auditspan.cli.policy_files import read_files
from auditspan.cli.verdict import EXIT_USAGE, Verdict

__all__ = ["lint"]


@reports_errors_with(EXIT_USAGE)
def lint(
    files: Annotated[
        list[Path], typer.Argument(help="Packs, tables, party registries, adoptions, files of golden cases.")
    ],
    alone: Annotated[
        bool, typer.Option("--alone", help="Without the packs that ship: only what the files themselves define.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check packs, tables and registries before they are activated: every fault with file, line and remedy.

    A pack may read what the shipped packs define, and takes the place of one with its id. Beside what loading refuses
    (an unknown fact, a wrong type, an id twice, dates reversed, anchors, an expression outside the grammar), codes of
    countries and groups that no fact ever has are faults: such a rule would never match.

    Exit status: 0 no fault, 1 faults, 3 it could not be done.

    \b
    auditspan policy lint ./our-rules.yaml
    auditspan policy lint --alone ./us-ear.yaml ./countries.csv --json
    """
    from auditspan.policy.artifact_files import packs_of
    from auditspan.policy.lint import lint as find_faults
    from auditspan.policy.reference import Reference

    beside = Reference.packaged_artifacts()
    if alone:
        beside = {name: content for name, content in beside.items() if name not in packs_of(beside)}
    given = read_files(files)
    faults = find_faults(given, beside)
    if as_json:
        print_json(
            {"files": [name for name, _ in given], "faults": [fault.to_json() for fault in faults], "ok": not faults}
        )
    elif faults:
        for fault in faults:
            place = f"{fault.file}:{fault.line}" if fault.line else fault.file
            console.print(plain(f"{place}: {fault.message}"), soft_wrap=True)
            console.print(plain(f"    {fault.remedy}"), soft_wrap=True)
        console.print(f"{len(faults):,} {'fault' if len(faults) == 1 else 'faults'}.")
    else:
        console.print(plain(f"No fault in {', '.join(name for name, _ in given)}."), soft_wrap=True)
    raise Verdict(1 if faults else 0)
