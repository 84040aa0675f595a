"""``auditspan lists``: lists of restricted parties, imported and kept."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditspan.cli.officer import TokenFileOption
from auditspan.cli.output import JsonOption, console, errors, print_json, print_table, reports_errors
from auditspan.cli.policy_activate import (
    ConfigOption,
    DryRunOption,
    ReasonOption,
    bring_into_force,
)
from auditspan.cli.reading import existing
from auditspan.cli.screening_extra import require_screening
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.screening.lists import KeptList

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Lists of restricted parties: import them, show what is kept.")

_DataOption = Annotated[Path, typer.Option("--data", help="Data directory of the deployment.", file_okay=False)]

_IMPORT_ONE = "Download the Consolidated Screening List and import it: auditspan lists import FILE --data DIR."


@app.callback()
def _group() -> None:
    """Lists of restricted parties."""


@app.command("import")
@reports_errors
def import_(
    file: Annotated[
        Path, typer.Argument(help="JSON, CSV or TSV of the Consolidated Screening List, gzip or not.", dir_okay=False)
    ],
    data: _DataOption,
    dated: Annotated[
        str, typer.Option("--date", help="Date of the list, where the file itself gives none.", metavar="DATE")
    ] = "",
    smaller: Annotated[
        bool, typer.Option("--smaller", help="Take a list with less than 80 % of the entries of the current one.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Import a list. It becomes the current one when all of it has been read; a file that is broken changes nothing.

    The file is kept as it is, with its digest, beside the entries that were read from it. AuditSpan brings no list:
    download the Consolidated Screening List from trade.gov.

    \b
    auditspan lists import consolidated.json --data ./data
    auditspan lists import consolidated.csv.gz --date 2026-11-20 --data ./data
    """
    require_screening()
    from auditspan.screening.lists import import_list
    from auditspan.screening.screener import write_index

    with errors.status("Reading …") as shown:
        kept = import_list(
            file,
            DataDirectory(data).screening,
            dated=dated,
            smaller=smaller,
            progress=lambda count: shown.update(f"{count:,} entries read …"),
            prepare=write_index,
        )
    if as_json:
        print_json(_document(kept, current=True))
    else:
        console.print(f"Imported {kept.file}: {kept.entries:,} entries with {kept.names:,} names, now current.")
        _show(kept)


@app.command()
@reports_errors
def activate(
    data: _DataOption,
    reason: ReasonOption,
    token_file: TokenFileOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the current list into force: from now on each event's parties are screened against it.

    It becomes an artifact of the reference epoch, as packs do: what is sealed names it, and says of a party that it is
    like an entry, by which name, with which score. Every process that judges needs the extra `screening`. Take it back
    with `auditspan policy withdraw screening_list.json.gz …`, as `policy show` names it.

    Exit status: 0 it is in force, or will be; 1 refused, and nothing has changed unless the message says that it is
    journaled.

    \b
    auditspan lists activate --reason "list of 31 July" --data ./data --token-file ./officer.token
    auditspan lists activate --reason "list of 31 July" --data ./data --dry-run
    """
    require_screening()
    import hashlib

    from auditspan.policy.screening_list import kept_below
    from auditspan.screening.activated import artifact_of, keep_for_artifact
    from auditspan.screening.lists import current_list

    directory = existing(data)
    current = current_list(directory.screening)
    if current is None:
        raise AuditSpanError(f"There is no list in {directory.screening}.", remedy=_IMPORT_ONE)
    with errors.status("Packing …"):
        name, content = artifact_of(current, directory.screening)
        digest = hashlib.sha256(content).hexdigest()
        keep_for_artifact(current, directory.screening, kept_below(directory.reference), digest, name)
    bring_into_force(data, config, token_file, reason, dry_run, as_json, files={name: content})


@app.command()
@reports_errors
def show(
    data: _DataOption,
    everything: Annotated[bool, typer.Option("--all", help="Also the lists that were current before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the current list: its version, where it came from, how many entries of which list.

    \b
    auditspan lists show --data ./data
    auditspan lists show --all --data ./data --json
    """
    from auditspan.screening.lists import current_list, kept_lists

    folder = DataDirectory(data).screening
    current = current_list(folder)
    if current is None:
        raise AuditSpanError(f"There is no list in {folder}.", remedy=_IMPORT_ONE)
    shown = kept_lists(folder) if everything else [current]
    if as_json:
        print_json([_document(kept, kept.digest == current.digest) for kept in shown])
        return
    for kept in shown:
        console.print(f"{kept.file}, imported {kept.imported_at}{'' if kept.digest == current.digest else ', retired'}")
        _show(kept)


def _document(kept: KeptList, current: bool) -> dict[str, Any]:
    return {"version": kept.version, "current": current, **asdict(kept)}


def _show(kept: KeptList) -> None:
    from auditspan.screening.policies import policy_of

    rows = [
        {"list": code, "entries": f"{count:,}", "hit from": policy_of(code).threshold, "effect": policy_of(code).effect}
        for code, count in kept.lists.items()
    ]
    title = f"Version {kept.version}, dated {kept.dated or 'by nobody'}, {kept.format}"
    print_table(title, ["list", "entries", "hit from", "effect"], rows, prose="effect", lines=False)
    console.print(f"SHA-256 {kept.digest}", soft_wrap=True)
