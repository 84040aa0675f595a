"""The Consolidated Screening List as CSV or TSV, read row by row; several values of a cell stand between semicolons."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Final

from .csl_fields import entry_from
from .entries import Entry
from .errors import ListError
from .importer import ListHead, TextSource

__all__ = ["CslTable"]

_AGAIN: Final = "The file is truncated or damaged: download it again. The list that was imported last stays."


class CslTable:
    """`auditspan.screening.importer.Importer` of the tables; the header line tells commas from tabs."""

    name = "consolidated-screening-list-table"

    def recognises(self, start: str, file: str) -> bool:
        """By its header."""
        header = start.splitlines()[0].lower() if start else ""
        return "source" in header and "name" in header

    def entries(self, source: TextSource, head: ListHead) -> Iterator[Entry]:
        """See the contract."""
        lines = source.lines()
        first = next(lines, "")
        delimiter = "\t" if first.count("\t") > first.count(",") else ","
        columns = [name.strip().strip('"').lower() for name in first.rstrip("\r\n").split(delimiter)]
        if missing := [name for name in ("source", "name") if name not in columns]:
            raise ListError(
                f"it has no column {', '.join(missing)}",
                file=source.file,
                line=1,
                remedy="Import the file as it was downloaded, with its header line.",
            )
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        number = 0
        while True:
            begin = reader.line_num + 2
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise ListError(
                    f"it is no CSV: {error}", file=source.file, line=begin, record=number + 1, remedy=_AGAIN
                ) from error
            if cells is None:
                return
            if not cells:
                continue
            number += 1
            if len(cells) != len(columns):
                raise ListError(
                    f"it has {len(cells)} cells under {len(columns)} columns",
                    file=source.file,
                    line=begin,
                    record=number,
                    remedy=_AGAIN,
                )
            yield entry_from(dict(zip(columns, cells, strict=True)), number, source.file, begin)
