"""``auditspan inventory``: what accelerators someone holds, and what they are under the rules of a day."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from auditspan.cli.inventory_report import document, print_document, show
from auditspan.cli.output import JsonOption, console, reports_errors
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.policy.countries import Place
    from auditspan.policy.reference import Reference

__all__ = ["EXIT_REJECTED", "app"]

EXIT_REJECTED: Final = 3
"""Some rows were rejected; all others are classified, and recorded where that was asked for."""

_STANDARD_INPUT: Final = "-"

app = typer.Typer(no_args_is_help=True, help="Accelerators that someone holds: classified, summed, recorded.")


class Format(StrEnum):
    """Of an inventory file."""

    AUTO = "auto"
    CSV = "csv"
    JSON = "json"
    KUBERNETES = "kubernetes"
    NVIDIA_SMI = "nvidia-smi"


@app.callback()
def _group() -> None:
    """Inventories of accelerators."""


@app.command()
@reports_errors
def classify(
    file: Annotated[
        str,
        typer.Argument(
            help="CSV, JSON, `nvidia-smi -q -x` or `kubectl get nodes -o json`; - reads it from standard input."
        ),
    ],
    destination: Annotated[
        str | None, typer.Option(help="Country of what the file places nowhere, ISO 3166-1 alpha-2.", metavar="CC")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="Day, or minute, of the rules: YYYY-MM-DD[Thh:mm], Washington time; default now.", metavar="DATE"
        ),
    ] = None,
    format: Annotated[
        Format, typer.Option(help="What the file is; default: found out from its content.")
    ] = Format.AUTO,
    parties: Annotated[
        Path | None, typer.Option(help="Party registry, for end users; default DIR/parties.yaml.", dir_okay=False)
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write an accelerator.inventory event for each item.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="Data directory of the service to record with.", file_okay=False)
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Collector to record with; default AUDITSPAN_ENDPOINT.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option(help="Who counted, as audit.actor.id; default user:NAME of this user.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Classify an inventory: model, TPP, paragraph and margin of each item, totals, what is close and what is unknown.

    What the tables do not know is undetermined, never clear. With --record each item becomes an event that the
    collector has acknowledged; the token is read from AUDITSPAN_TOKEN or AUDITSPAN_TOKEN_FILE.

    Exit status 0 when every row was read, 3 when some were rejected (the others are classified all the same), 1 when
    the file cannot be read or an event was not acknowledged, 2 when the command line is wrong.

    \b
    auditspan inventory classify holdings.csv --destination SG
    kubectl get nodes -o json | auditspan inventory classify - --json
    AUDITSPAN_TOKEN=… auditspan inventory classify holdings.csv --record --data ./data
    """
    from auditspan.inventory import Classifier, read_inventory, totals

    if (data or endpoint or actor) and not record and (endpoint or actor):
        raise AuditSpanError("--endpoint and --actor say how to record.", remedy="Add --record, or leave them out.")
    if data is not None and endpoint is not None:
        raise AuditSpanError("It must be clear where to record.", remedy="Give either --data DIR or --endpoint URL.")
    reference = _reference(parties, data)
    place = _place(reference, destination)
    instant = _instant(at)
    with _opened(file) as source:
        inventory = read_inventory(source, _name(file), reference.countries, format.value)
    classifier = Classifier(reference, instant, place)
    found = [classifier.classify(item) for item in inventory.items]
    items = [item for item in found if item is not None]
    skipped = inventory.skipped + len(found) - len(items)
    recorded = 0
    if record:
        from auditspan.cli.inventory_recording import record_items

        recorded = record_items(items, data=data, endpoint=endpoint, actor=actor)
    sums = totals(items)
    if as_json:
        print_document(document(inventory, items, sums, skipped, instant, recorded if record else None))
    else:
        show(_name(file), inventory, items, sums, skipped, instant)
        if record:
            console.print(f"Recorded {recorded} accelerator.inventory events.")
    if inventory.rejected:
        raise typer.Exit(EXIT_REJECTED)


def _name(file: str) -> str:
    return "standard input" if file == _STANDARD_INPUT else file


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    if file == _STANDARD_INPUT:
        return nullcontext(sys.stdin.buffer)
    return Path(file).open("rb")


def _reference(parties: Path | None, data: Path | None) -> Reference:
    from auditspan.policy.reference import Reference

    chosen = parties
    if chosen is None and data is not None and (data / "parties.yaml").is_file():
        chosen = data / "parties.yaml"
    return Reference.packaged(chosen.read_bytes() if chosen is not None else None)


def _place(reference: Reference, destination: str | None) -> Place | None:
    if destination is None:
        return None
    place = reference.countries.place(destination)
    if place is None:
        raise AuditSpanError(
            f"--destination {destination!r} is no country.", remedy="Give an ISO 3166-1 alpha-2 code, such as SG."
        )
    return place


def _instant(at: str | None) -> int:
    from auditspan.policy.rule_time import parse_instant

    if at is None:
        return int(datetime.now(UTC).timestamp()) * 1_000_000_000
    try:
        return parse_instant(at)
    except ValueError as error:
        raise AuditSpanError(f"--at {error}.", remedy="Write 2026-11-01, or 2026-11-01T09:30.") from error
