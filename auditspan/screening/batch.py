"""Parties of a CSV file, to be screened one after the other."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import ListError, ScreeningError
from .importer import TextSource
from .name_form import KINDS
from .screener import Hit, Party, Screener

__all__ = ["Row", "count_rows", "screen_rows"]

_COLUMNS: Final = ("name", "country", "address", "identifiers", "kind", "id")


@dataclass(frozen=True, slots=True)
class Row:
    """A row with its hits; or with what is wrong with it, and then it was not screened."""

    line: int
    id: str
    party: Party
    hits: tuple[Hit, ...] = ()
    error: str = ""


def count_rows(path: Path) -> int:
    """About how many rows a file has, for a progress bar."""
    return max(sum(chunk.count("\n") for chunk in TextSource(path).chunks()) - 1, 0)


def screen_rows(path: Path, screener: Screener, is_country: Callable[[str], bool]) -> Iterator[Row]:
    """Screens each row of a CSV file: ``name``, and where they are known country, address, identifiers, kind, id.

    A row whose country is none, by ``is_country``, is not screened: it would be another country than that of every
    entry, and lower each score.

    Raises:
        ListError: the file has no column name, is no CSV, or not in UTF-8.
    """
    source = TextSource(path)
    reader = csv.reader(source.lines(), strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        if "name" not in columns:
            raise ListError(
                "it has no column name",
                file=source.file,
                line=1,
                remedy=f"The header has name, and of {', '.join(_COLUMNS[1:])} what is known.",
            )
        for cells in reader:
            if any(cell.strip() for cell in cells):
                row = dict(zip(columns, map(str.strip, cells), strict=False))
                yield _screened(row, reader.line_num, screener, is_country)
    except csv.Error as error:
        raise ListError(
            f"it is no CSV: {error}", file=source.file, line=reader.line_num, remedy="Correct the quoting."
        ) from error


def _screened(row: dict[str, str], line: int, screener: Screener, is_country: Callable[[str], bool]) -> Row:
    kind = row.get("kind", "").lower()
    party = Party(
        row.get("name", ""),
        row.get("country", ""),
        row.get("address", ""),
        tuple(filter(None, map(str.strip, row.get("identifiers", "").split(";")))),
        kind if kind in KINDS else "",
    )
    identity = row.get("id", "")
    if kind not in KINDS:
        return Row(line, identity, party, error=f"kind is {kind[:40]!r}: write {', '.join(KINDS[:-1])}, or nothing")
    if party.country and not is_country(party.country):
        error = f"country is {party.country[:40]!r}: write an ISO 3166-1 alpha-2 code, such as DE, or nothing"
        return Row(line, identity, party, error=error)
    try:
        return Row(line, identity, party, screener.screen(party))
    except ScreeningError as error:
        return Row(line, identity, party, error=str(error))
