"""``auditspan policy test``: golden cases against packs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditspan.cli.output import JsonOption, console, print_json, print_table, reports_errors_with
from auditspan.cli.policy_files import PackOption, packaged_with, read_files

if TYPE_CHECKING:
    from auditspan.policy.golden import Result
    from auditspan.policy.golden_coverage import Missing
from auditspan.cli.verdict import EXIT_USAGE, Verdict

__all__ = ["test"]

_MOST_SHOWN = 100


@reports_errors_with(EXIT_USAGE)
def test(
    golden: Annotated[
        list[Path] | None, typer.Argument(help="Files of golden cases; those of the shipped packs when absent.")
    ] = None,
    pack: PackOption = None,
    coverage: Annotated[
        bool,
        typer.Option(
            "--coverage",
            help="Also say which cases are missing: for and against each rule, on both sides of numbers and dates.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run golden cases: facts and a date, and the determination that must come out.

    Without files, the cases of the shipped packs run, and show what a pack of your own would change in them. How a
    case is written is in golden.schema.json of the package; `auditspan policy explain --list-facts` names the facts.

    Exit status: 0 every case passes, 1 some do not (or cases are missing, with --coverage), 3 it could not be done.

    \b
    auditspan policy test
    auditspan policy test ./our-cases.yaml --pack ./our-rules.yaml --coverage
    auditspan policy test --pack ./our-rules.yaml --json
    """
    from auditspan.policy.golden import parse_cases, run, shipped_cases

    reference = packaged_with(pack or [])
    files = [parse_cases(content, name) for name, content in read_files(golden)] if golden else shipped_cases()
    cases = [case for file in files for case in file.cases]
    results = list(run(reference, cases))
    failed = [result for result in results if result.differences]
    missing: list[Missing] = []
    if coverage:
        from auditspan.policy.golden_coverage import coverage as find_missing

        own = _packs_of(pack or []) or set(reference.packs.versions)
        missing = find_missing(reference, cases, own)
    reviewed = sum(bool(case.reviewed) for case in cases)
    if as_json:
        print_json(
            {
                "cases": len(cases),
                "passed": len(cases) - len(failed),
                "failed": len(failed),
                "reviewed": reviewed,
                "failures": [_failure(result) for result in failed],
                **({"missing": [_missing(one) for one in missing]} if coverage else {}),
            }
        )
    else:
        _show(failed, missing)
        console.print(
            f"{len(cases) - len(failed):,} of {len(cases):,} cases pass; a lawyer has confirmed {reviewed:,} of them."
            + (f" {len(missing):,} cases are missing." if coverage else ""),
            soft_wrap=True,
        )
    raise Verdict(1 if failed or missing else 0)


def _packs_of(paths: list[Path]) -> set[str]:
    from auditspan.policy.artifact_files import kind_of

    named = [kind_of(name, content) for name, content in read_files(paths)]
    return {name.removesuffix(".yaml") for kind, name in named if kind == "pack"}


def _failure(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "name": case.name,
        "file": case.file,
        "line": case.line,
        "at": case.at,
        "differences": [
            {"field": one.field, "expected": one.expected, "found": one.found} for one in result.differences
        ],
    }


def _missing(one: Missing) -> dict[str, str]:
    return {"id": one.id, "kind": one.kind, "wanted": one.wanted}


def _show(failed: list[Result], missing: list[Missing]) -> None:
    if failed:
        rows = [
            {
                "case": f"{result.case.name}\n{result.case.file}:{result.case.line}",
                "at": result.case.at,
                "field": one.field,
                "expected": _text(one.expected),
                "found": _text(one.found),
            }
            for result in failed[:_MOST_SHOWN]
            for one in result.differences
        ]
        print_table(f"{len(failed):,} cases fail", ["case", "at", "field", "expected", "found"], rows)
        if len(failed) > _MOST_SHOWN:
            console.print(f"{len(failed) - _MOST_SHOWN:,} more; --json lists them all.")
    if missing:
        print_table("Missing cases", ["id", "kind", "wanted"], [_missing(one) for one in missing], lines=False)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value)) or "none"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
