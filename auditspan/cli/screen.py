"""``auditspan screen``: is this party on a list? One, many from a file, and how well pairs are told apart."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from auditspan.cli.output import JsonOption, console, errors, plain, print_json, print_table, reports_errors
from auditspan.cli.progress_bar import progress_bar
from auditspan.cli.screen_clear import clear, clearances, second, unclear
from auditspan.cli.screening_extra import require_screening
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from auditspan.cli.clearances_in_force import Screened
    from auditspan.screening.evaluation import Judged
    from auditspan.screening.screener import Hit

__all__ = ["EXIT_REJECTED", "ScreenGroup", "app"]

EXIT_REJECTED: Final = 3
"""Some rows could not be screened; all others are."""


class ScreenGroup(TyperGroup):
    """A group whose default command is ``name``: ``auditspan screen NAME`` is ``auditspan screen name NAME``."""

    default = "name"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command before what names none."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ScreenGroup, no_args_is_help=True, help="Is this party on a list? `auditspan screen NAME --data DIR`."
)

_DataOption = Annotated[Path, typer.Option("--data", help="Data directory with the list.", file_okay=False)]


class KindName(StrEnum):
    """What a name is the name of."""

    ORGANIZATION = "organization"
    PERSON = "person"
    VESSEL = "vessel"


@app.callback()
def _group() -> None:
    """Screening of parties."""


@app.command("name")
@reports_errors
def name_(
    name: Annotated[str, typer.Argument(help="Name of the party, in any script.")],
    data: _DataOption,
    country: Annotated[str, typer.Option(help="Its country, ISO 3166-1 alpha-2.", metavar="CC")] = "",
    address: Annotated[str, typer.Option(help="Its address, in one line.")] = "",
    identifier: Annotated[
        list[str] | None, typer.Option("--id", help="A registration, passport or IMO number; may be repeated.")
    ] = None,
    kind: Annotated[KindName | None, typer.Option(help="What it is, where that is known.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Screen one party against the current list. The word `name` itself may be left out.

    Each hit says which entry of which list, the alias that matched, the score and its parts, and what the list means. A
    hit is a likeness of names, no finding that the party is the listed one: a person must look. One that an officer
    cleared (`auditspan screen clear`) is shown as cleared, and is not counted.

    \b
    auditspan screen "Huawei Technologies" --data ./data
    auditspan screen name "Cambricon Hong Kong" --country CN --data ./data --json
    """
    require_screening()
    from auditspan.cli.clearances_in_force import clearances_in_force, with_clearances
    from auditspan.cli.party_countries import PartyCountries
    from auditspan.screening.screener import Party, open_screener

    countries = PartyCountries()
    country = countries.checked(country)
    screener = open_screener(DataDirectory(data).screening, countries.judged_as)
    party = Party(name, country, address, tuple(identifier or ()), kind.value if kind else "")
    hits = with_clearances(screener.screen(party), party, clearances_in_force(DataDirectory(data)))
    if as_json:
        print_json([hit.document() for hit in hits])
        return
    _show(hits)
    standing = sum(hit.cleared is None for hit in hits)
    cleared = f", {len(hits) - standing} cleared" if standing < len(hits) else ""
    console.print(f"{standing} hit{'' if standing == 1 else 's'}{cleared} on list {screener.list.version}.")


@app.command()
@reports_errors
def batch(
    file: Annotated[
        Path, typer.Argument(help="CSV with a column name; also country, address, identifiers (;), kind, id.")
    ],
    data: _DataOption,
    as_json: JsonOption = False,
) -> None:
    """Screen every party of a CSV file, with progress on standard error.

    A row that cannot be screened is reported with its line, and the others are screened. Exit status 3 when there was
    one. With --json one document a row is printed, as a line.

    \b
    auditspan screen batch customers.csv --data ./data
    auditspan screen batch customers.csv --data ./data --json
    """
    require_screening()
    from auditspan.cli.clearances_in_force import clearances_in_force, with_clearances
    from auditspan.cli.party_countries import PartyCountries
    from auditspan.screening.batch import count_rows, screen_rows
    from auditspan.screening.screener import open_screener

    countries = PartyCountries()
    screener = open_screener(DataDirectory(data).screening, countries.judged_as)
    cleared = clearances_in_force(DataDirectory(data))
    rows = hit = rejected = 0
    with progress_bar() as progress:
        task = progress.add_task("screening", total=count_rows(file))
        for row in screen_rows(file, screener, countries.knows):
            hits = with_clearances(row.hits, row.party, cleared)
            standing = [each.hit for each in hits if each.cleared is None]
            rows, hit, rejected = rows + 1, hit + bool(standing), rejected + bool(row.error)
            progress.update(task, completed=rows)
            if as_json:
                document = {"line": row.line, "id": row.id, "name": row.party.name, "error": row.error or None}
                sys.stdout.write(json.dumps({**document, "hits": [each.document() for each in hits]}) + "\n")
            elif row.error:
                errors.print(plain(f"line {row.line}: {row.error}"), soft_wrap=True)
            elif standing:
                best = standing[0]
                more = f", and {len(standing) - 1} more" if len(standing) > 1 else ""
                console.print(
                    plain(
                        f"line {row.line}: {row.party.name}: {best.list} {best.listed_as} "
                        f"({best.matched_name}, {best.score:.2f}){more}"
                    ),
                    soft_wrap=True,
                )
    errors.print(f"{rows} parties on list {screener.list.version}: {hit} with a hit, {rejected} not screened.")
    if rejected:
        raise typer.Exit(EXIT_REJECTED)


@app.command()
@reports_errors
def evaluate(
    file: Annotated[Path, typer.Argument(help="CSV with the columns query, candidate, is_match and kind.")],
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of a match; default the one of each kind that ships.")
    ] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="Also list the pairs that were judged wrongly.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score labelled pairs of names or addresses: precision, recall and F1, overall and per kind.

    Each pair is scored alone; no list is needed. kind is organization, person, vessel, address or empty.

    \b
    auditspan screen evaluate labelled.csv
    auditspan screen evaluate labelled.csv --threshold 0.8 --json
    """
    require_screening()
    from auditspan.screening.evaluation import evaluate as quality_of
    from auditspan.screening.evaluation import judge, read_pairs
    from auditspan.screening.policies import kind_thresholds

    judged = [judge(pair, threshold) for pair in read_pairs(file)]
    if not judged:
        raise AuditSpanError(f"{file.name} has no pair.", remedy="Give a row for each pair below the header.")
    found = quality_of(judged)
    used: dict[str, float] = {
        kind or "unknown": kind_thresholds()[kind] if threshold is None else threshold
        for kind in sorted({each.pair.kind for each in judged})
    }
    mistaken = [each for each in judged if each.matches != each.pair.is_match]
    if as_json:
        overall, *kinds = [(name, quality.document()) for name, quality in found.items()]
        print_json(
            {
                "file": file.name,
                "thresholds": used,
                "overall": overall[1],
                "kinds": dict(kinds),
                **({"wrong": [_wrong(each) for each in mistaken]} if wrong else {}),
            }
        )
        return
    rows = [
        {
            "kind": name,
            "pairs": quality.pairs,
            "threshold": used.get(name, "by kind" if len(set(used.values())) > 1 else next(iter(used.values()))),
            "precision": f"{quality.precision:.3f}",
            "recall": f"{quality.recall:.3f}",
            "F1": f"{quality.f1:.3f}",
        }
        for name, quality in found.items()
    ]
    print_table(f"{file.name}: {len(judged)} pairs", [*rows[0]], rows, lines=False)
    if wrong:
        for each in mistaken:
            said = "missed" if each.pair.is_match else "no match"
            console.print(
                plain(f"line {each.pair.line}, {said}, {each.score:.2f}: {each.pair.query} | {each.pair.candidate}"),
                soft_wrap=True,
            )


app.command()(clear)
app.command()(second)
app.command()(unclear)
app.command()(clearances)


def _wrong(each: Judged) -> dict[str, Any]:
    pair = each.pair
    return {
        "line": pair.line, "query": pair.query, "candidate": pair.candidate, "kind": pair.kind,
        "is_match": pair.is_match, "score": round(each.score, 4),
    }  # fmt: skip


def _show(screened: Sequence[Screened]) -> None:
    if not screened:
        return
    rows = [
        {
            "score": f"{hit.score:.2f}\n≥ {hit.threshold:.2f}",
            "list, entry": f"{hit.list}\n{hit.entry_id}",
            "listed as; matched": f"{hit.listed_as}\n{hit.role}: {hit.matched_name}",
            "parts": "\n".join([*_parts(hit), *_cleared(each)]),
        }
        for each in screened
        for hit in (each.hit,)
    ]
    print_table("", ["score", "list, entry", "listed as; matched", "parts"], rows, prose="listed as; matched")
    for code, (effect, citation, status) in {
        hit.list: (hit.effect, hit.citation, hit.effect_status) for hit in (each.hit for each in screened)
    }.items():
        unsure = "" if status == "verified" else ", unverified"
        console.print(f"{code}: {effect} ({citation or 'no citation'}{unsure}).", soft_wrap=True)


def _cleared(each: Screened) -> list[str]:
    one = each.cleared
    return [] if one is None else [f"cleared by {one.by}{f', {one.second}' if one.second else ''} until {one.until}"]


def _parts(hit: Hit) -> list[str]:
    said = [f"{part} {value:+.2f}" if part != "name" else f"name {value:.2f}" for part, value in hit.parts.items()]
    if hit.weak:
        said.append("weak name")
    return said + [f"other {conflict.replace('_', ' ')}" for conflict in hit.conflicts]
