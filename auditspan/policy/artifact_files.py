"""An officer's files beside the artifacts that ship or are in force: what each is, and whose place it takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Final, Literal

from .adoptions import ADOPTIONS
from .clearances import CLEARANCES
from .deployment import DEPLOYMENT
from .errors import PolicyError
from .reference import PARTIES, TABLES
from .yaml_text import load

__all__ = ["Kind", "kind_of", "packs_of", "with_files"]

Kind = Literal["pack", "table", "parties", "adoptions", "clearances", "golden"]

_NO_PACKS: Final = frozenset({PARTIES, ADOPTIONS, CLEARANCES, DEPLOYMENT})
_TABLE_LINE: Final = re.compile(rb"^# ?table: *([a-z_]+)[ \t\r]*$", re.MULTILINE)
_HEAD: Final = 4096
_KEYS: Final[dict[str, Kind]] = {
    "cases": "golden",
    "parties": "parties",
    "adopted": "adoptions",
    "clearances": "clearances",
    "rules": "pack",
}


def kind_of(file: str, content: bytes) -> tuple[Kind, str]:
    """What ``content`` is, and the name of the artifact that it would be.

    A pack is named by its id, whatever its file is called.

    Raises:
        PolicyError: it is none of what a reference is made of, nor a file of golden cases; or no YAML.
    """
    if file.lower().endswith(".csv"):
        return "table", _table_name(file, content)
    data = load(content, file).data
    for key, kind in _KEYS.items():
        if isinstance(data, dict) and key in data:
            names = {
                "parties": PARTIES,
                "adoptions": ADOPTIONS,
                "clearances": CLEARANCES,
                "golden": PurePath(file).name,
            }
            name = names.get(kind) or f"{data.get('pack') or PurePath(file).stem}.yaml"
            if kind == "pack" and name in _NO_PACKS:
                raise PolicyError(f"{data['pack']!r} is no id for a pack", file=file, line=1, remedy="Choose another.")
            return kind, name
    raise PolicyError(
        "this is neither a pack nor a table, registry, list of adoptions or clearances, or file of golden cases",
        file=file,
        line=1,
        remedy="A pack has `pack:` and `rules:`, a registry `parties:`, adoptions `adopted:`, clearances "
        "`clearances:`, golden cases `cases:`.",
    )


def with_files(base: Mapping[str, bytes], files: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """The artifacts ``base`` with ``files`` (path and content) added; one of the same pack or name takes its place.

    Raises:
        PolicyError: a file is no artifact, or two are the same one.
    """
    artifacts, given = dict(base), dict[str, str]()
    for file, content in files:
        kind, name = kind_of(file, content)
        if kind == "golden":
            raise PolicyError("golden cases are no part of a reference", file=file, remedy="Give a pack or a table.")
        if name in given:
            raise PolicyError(f"{given[name]} is the same {kind}", file=file, remedy="Leave one out.")
        given[name] = file
        artifacts[name] = content
    return artifacts


def packs_of(artifacts: Mapping[str, bytes]) -> dict[str, bytes]:
    """The packs among ``artifacts``."""
    return {name: content for name, content in artifacts.items() if name.endswith(".yaml") and name not in _NO_PACKS}


def _table_name(file: str, content: bytes) -> str:
    found = _TABLE_LINE.search(content[:_HEAD])
    name = f"{found.group(1).decode()}.csv" if found else PurePath(file).name
    if name not in TABLES:
        raise PolicyError(
            f"there is no table {name.removesuffix('.csv')!r}",
            file=file,
            line=1,
            remedy=f"Its first line says which it is, such as `# table: accelerators`; there are {', '.join(TABLES)}.",
        )
    return name
