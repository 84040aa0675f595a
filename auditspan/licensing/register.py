"""A register of licenses as an officer has it, CSV or JSON, made into the artifact that an epoch names.

Both forms say the same columns (`auditspan.policy.licenses.LICENSE_COLUMNS`). The artifact is made of what was read,
so that two files that say the same make the same artifact.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from auditspan.policy.errors import PolicyError
from auditspan.policy.licenses import LICENSE_COLUMNS, License, license_from

__all__ = ["LARGEST_REGISTER", "artifact_of", "read_register"]

LARGEST_REGISTER: Final = 4 << 20
"""Bytes that a file may have."""
_MOST: Final = 10_000
_LISTS: Final = frozenset({"consignees", "end_users", "items"})
_JSON_LIST: Final = re.compile(r'\s*(?:\{\s*"licenses"\s*:\s*)?\[')


def read_register(content: bytes, file: str) -> tuple[License, ...]:
    """The licenses of a file, sorted by number: JSON where it begins like it, and CSV otherwise.

    Raises:
        PolicyError: with file, line and remedy, for the first fault; nothing is taken from a file that has one.
    """
    if len(content) > LARGEST_REGISTER:
        raise PolicyError(
            f"more than {LARGEST_REGISTER} bytes", file=file, remedy="A register has at most 10,000 licenses."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PolicyError(f"byte {error.start} is not UTF-8", file=file, remedy="Save the file as UTF-8.") from error
    rows = _json_rows(text, file) if text.lstrip()[:1] in ("{", "[") else _csv_rows(text, file)
    found: dict[str, License] = {}
    for cells, line in rows:

        def fault(message: str, remedy: str, line: int = line) -> PolicyError:
            return PolicyError(message, file=file, line=line, remedy=remedy)

        if len(found) >= _MOST:
            raise fault(f"more than {_MOST} licenses", "Leave out those that nothing is shipped under any more.")
        one = license_from(cells, fault, line)
        before = found.get(one.number.casefold())
        if before is not None:
            raise fault(f"the license {one.number} stands in line {before.line} already", "Remove one.")
        found[one.number.casefold()] = one
    if not found:
        raise PolicyError(
            "it has no license",
            file=file,
            line=1,
            remedy="Give one at least; `auditspan policy withdraw licenses.csv` takes the register back.",
        )
    return tuple(sorted(found.values(), key=lambda one: one.number))


def artifact_of(licenses: Sequence[License]) -> bytes:
    """The register as the artifact ``licenses.csv``."""
    body = io.StringIO()
    writer = csv.DictWriter(body, LICENSE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(one.cells() for one in licenses)
    version = hashlib.sha256(body.getvalue().encode()).hexdigest()[:12]
    source = "register of the deployment's officers"
    head = f"# table: licenses\n# version: {version}\n# source: {source}\n# status: in force\n"
    return (head + body.getvalue()).encode()


def _csv_rows(text: str, file: str) -> Iterator[tuple[Mapping[str, str], int]]:
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    reader = csv.reader(io.StringIO("\n".join(lines[first:])), strict=True)
    line = first + 1
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_columns(header, file, line, required=True)
        while True:
            line = first + reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            if not cells or (len(cells) == 1 and cells[0].startswith("#")):
                continue
            if len(cells) != len(header):
                raise PolicyError(
                    f"{len(cells)} cells under {len(header)} columns", file=file, line=line, remedy="Correct the row."
                )
            yield dict(zip(header, cells, strict=True)), line
    except csv.Error as error:
        raise PolicyError(f"not CSV: {error}", file=file, line=line, remedy="Correct the quoting.") from error


def _json_rows(text: str, file: str) -> Iterator[tuple[Mapping[str, str], int]]:
    """The entries of the list one by one, because a whole document does not say in which line an entry stands."""
    begin = _JSON_LIST.match(text)
    if begin is None:
        raise PolicyError(
            "no list of licenses", file=file, line=1, remedy='Write [{"number": …}, …], or {"licenses": [{…}, …]}.'
        )
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    at, more = _skip(text, begin.end()), False
    line, counted = 1, 0
    while text[at : at + 1] != "]" or more:
        line, counted = line + text.count("\n", counted, at), at
        try:
            entry, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise PolicyError(f"not JSON: {error.msg}", file=file, line=error.lineno, remedy="Correct it.") from error
        except (RecursionError, ValueError) as error:
            raise PolicyError(
                "nested too deeply, or a number with thousands of digits", file=file, line=line, remedy="Correct it."
            ) from error
        yield _cells(entry, file, line), line
        at = _skip(text, at)
        more = text[at : at + 1] == ","
        if more:
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise PolicyError(
                "not JSON: a list that does not end", file=file, line=text.count("\n", 0, at) + 1, remedy="Correct it."
            )
    rest = text[at + 1 :].strip()
    if rest != ("}" if begin.group().lstrip().startswith("{") else ""):
        raise PolicyError(
            "something stands after the list of licenses",
            file=file,
            line=text.count("\n", 0, at) + 1,
            remedy="Remove it: a register is one list.",
        )


class _Pairs(list[tuple[str, Any]]):
    """An object as it is written: a key that stands twice is to be seen."""


def _cells(entry: Any, file: str, line: int) -> dict[str, str]:
    if not isinstance(entry, _Pairs):
        raise PolicyError("an entry is no object", file=file, line=line, remedy='Write {"number": …, …}.')
    _check_columns([name for name, _ in entry], file, line)
    return {name: _cell(name, value, file, line) for name, value in entry}


def _cell(name: str, value: Any, file: str, line: int) -> str:
    if value is None:
        return ""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if name in _LISTS and isinstance(value, list) and all(isinstance(one, str) and ";" not in one for one in value):
        return ";".join(value)
    raise PolicyError(
        f"{name} is neither text nor a number{' nor a list of texts without `;`' if name in _LISTS else ''}",
        file=file,
        line=line,
        remedy="Correct it.",
    )


def _check_columns(names: Sequence[str], file: str, line: int, *, required: bool = False) -> None:
    for place, name in enumerate(names):
        if name not in LICENSE_COLUMNS:
            near = get_close_matches(name, LICENSE_COLUMNS, n=1)
            raise PolicyError(
                f"there is no column {name[:80]!r}",
                file=file,
                line=line,
                remedy=f"Did you mean {near[0]}?" if near else f"There are {', '.join(LICENSE_COLUMNS)}.",
            )
        if name in names[:place]:
            raise PolicyError(f"{name} stands twice", file=file, line=line, remedy="Remove one.")
    if required and (missing := [name for name in ("number", "end_users", "items", "valid_to") if name not in names]):
        raise PolicyError(
            f"no column {', '.join(missing)}", file=file, line=line, remedy=f"Columns: {', '.join(LICENSE_COLUMNS)}."
        )


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\r", "\n"):
        at += 1
    return at
