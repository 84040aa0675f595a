"""Our table format: CSV under a head of ``# key: value`` lines that says what it is, how old, and where from."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .errors import PolicyError

__all__ = ["Row", "Table", "parse_table"]

_HEAD: Final = re.compile(r"^# ?([a-z_]+): *(.*)$")
_LARGEST: Final = 16 * 1024 * 1024
_REQUIRED: Final = ("table", "version", "source", "status")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its cells by column, and its line in the file."""

    cells: dict[str, str]
    line: int

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


@dataclass(frozen=True, slots=True)
class Table:
    """A parsed table with its head."""

    file: str
    head: dict[str, str]
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """What the table holds, such as ``accelerators``."""
        return self.head["table"]

    @property
    def version(self) -> str:
        """Its date."""
        return self.head["version"]

    def fault(self, row: Row, message: str, remedy: str) -> PolicyError:
        """An error that points at ``row``."""
        return PolicyError(message, file=self.file, line=row.line, remedy=remedy)

    def integer(self, row: Row, column: str, *, least: int = 0) -> int | None:
        """The integer in a cell; ``None`` when it is empty.

        Raises:
            PolicyError: no integer, below ``least``, or beyond 10^15.
        """
        text = row[column]
        if not text:
            return None
        if not re.fullmatch(r"-?\d{1,15}", text) or int(text) < least:
            raise self.fault(row, f"{column} is {text!r}", f"Give an integer from {least}, or leave it empty.")
        return int(text)


def parse_table(text: bytes, file: str, columns: Sequence[str]) -> Table:
    """Parses a table that must have ``columns``.

    Raises:
        PolicyError: not UTF-8, no head, a column missing, a row of another length, or larger than 16 MiB.
    """
    if len(text) > _LARGEST:
        raise PolicyError(f"the table has {len(text)} bytes", file=file, remedy=f"Keep it below {_LARGEST} bytes.")
    try:
        lines = text.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise PolicyError(f"byte {error.start} is not UTF-8", file=file, remedy="Save the file as UTF-8.") from error
    head: dict[str, str] = {}
    first = 0
    while first < len(lines) and lines[first].startswith("#"):
        if match := _HEAD.match(lines[first]):
            head.setdefault(match.group(1), match.group(2).strip())
        first += 1
    if missing := [key for key in _REQUIRED if not head.get(key)]:
        raise PolicyError(
            f"the head lacks {', '.join(missing)}", file=file, line=1, remedy="Add `# key: value` lines on top."
        )
    reader = csv.reader(io.StringIO("\n".join(lines[first:])), strict=True)
    try:
        header = next(reader, [])
        if lacking := [column for column in columns if column not in header]:
            raise PolicyError(f"no column {', '.join(lacking)}", file=file, line=first + 1, remedy="Add the column.")
        rows = []
        for cells in reader:
            line = first + reader.line_num
            if not cells:
                continue
            if len(cells) != len(header):
                raise PolicyError(
                    f"{len(cells)} cells under {len(header)} columns", file=file, line=line, remedy="Correct the row."
                )
            rows.append(Row(dict(zip(header, (cell.strip() for cell in cells), strict=True)), line))
    except csv.Error as error:
        raise PolicyError(
            f"not CSV: {error}", file=file, line=first + reader.line_num, remedy="Correct the quoting."
        ) from error
    return Table(file, head, tuple(rows))
