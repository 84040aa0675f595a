"""``auditspan evidence print``: records of a package on paper."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from auditspan.cli.evidence_sealing import acting_user
from auditspan.cli.output import JsonOption, console, plain, print_json, reports_errors_with
from auditspan.cli.verdict import EXIT_USAGE, Verdict
from auditspan.errors import AuditSpanError

__all__ = ["print_"]


@reports_errors_with(EXIT_USAGE)
def print_(
    package: Annotated[Path, typer.Argument(help="The evidence package: its folder, or its zip file.")],
    trust: Annotated[Path, typer.Option(help="trust.json with the operator's public keys, got by another way.")],
    out: Annotated[Path, typer.Option("--out", help="PDF to write; must not exist.", dir_okay=False)],
    record: Annotated[str | None, typer.Option(help="Record id of the one to print.")] = None,
    where: Annotated[str | None, typer.Option(help="Query over header fields; default: every event.")] = None,
    font: Annotated[
        Path | None,
        typer.Option(
            help="TrueType or OpenType file to print with; without it all but Latin is written as code points."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print records of a package to a PDF: header, facts, rules with citations, and what proves each, with custody.

    The package is verified first, and printed when it is valid. Exit status: 0 printed; 1 it is invalid; 2 it is
    incomplete; 3 the command is wrong, nothing matches, or more than 500 records do.

    \b
    auditspan evidence print ./package --trust ./trust.json --where "flagged = true" --out ./flagged.pdf
    """
    from auditspan.cli.evidence_trust import trusted
    from auditspan.exporters.evidence.epochs import enclosed_citations
    from auditspan.exporters.evidence.opened import open_verified
    from auditspan.exporters.evidence.paper import PaperFont, print_records
    from auditspan.exporters.evidence.query import compile_query
    from auditspan.exporters.evidence.records import select_records

    if record is not None and where is not None:
        raise AuditSpanError("--record and --where were both given.", remedy="Give one of them, or neither for all.")
    query = None if where is None else compile_query(where)
    if out.exists() or out.is_symlink():
        raise AuditSpanError(f"{out} exists already.", remedy="Give a file that does not exist yet.")
    characters = PaperFont(font)
    with open_verified(package, trusted(trust)) as opened:
        if opened.manifest is None:
            verify = "`auditspan evidence verify` says what is wrong with it."
            if as_json:
                print_json({"verdict": opened.report.verdict, "records": 0, "pages": 0, "out": None})
            else:
                console.print(plain(f"{package} is {opened.report.verdict}, and not printed: {verify}"), soft_wrap=True)
            raise Verdict(opened.report.exit_code)
        records = select_records(opened.package, opened.manifest, record_id=record, query=query)
        if not records:
            raise AuditSpanError(
                "No record matches.", remedy="See what is in the package: SUMMARY.html, or its Parquet."
            )
        selected = f"record id {record}" if record is not None else where or "every event of the package"
        pages = print_records(
            out,
            opened.manifest,
            opened.report,
            records,
            enclosed_citations(opened.package, opened.manifest),
            characters,
            printed_at=time.time_ns(),
            printed_by=acting_user(),
            selected_by=selected,
        )
    if as_json:
        print_json({"verdict": "VALID", "records": len(records), "pages": pages, "out": out})
    else:
        console.print(plain(f"{out}: {len(records)} records on {pages} pages."), soft_wrap=True)
