"""A parsed pack written out again, so that a part of it can be replaced and a fault still be said of its own line.

JSON is YAML: each value stands on a line of its own, and what lies on a line is known by its path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from .yaml_text import Path

__all__ = ["replaced", "value_at", "written"]

_NOT_PRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""JSON lets them stand, YAML takes them for ends of lines or refuses them."""


def written(data: Any) -> tuple[bytes, list[Path]]:
    """``data`` as text, and the path of what begins on each line."""
    pieces: list[str] = []
    paths: list[Path] = []
    for path, piece in _pieces(data, ()):
        pieces.append(piece)
        paths.append(path)
    return "\n".join(pieces).encode(), paths


def _pieces(node: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(node, dict):
        yield path, "{"
        for position, (key, value) in enumerate(node.items()):
            inner = _pieces(value, (*path, key))
            first_path, first = next(inner)
            yield first_path, f"{',' if position else ''} {_text(key)}: {first}"
            yield from inner
        yield path, "}"
    elif isinstance(node, list):
        yield path, "["
        for position, value in enumerate(node):
            inner = _pieces(value, (*path, position))
            first_path, first = next(inner)
            yield first_path, f"{',' if position else ''} {first}"
            yield from inner
        yield path, "]"
    else:
        yield path, _text(node)


def _text(value: Any) -> str:
    # Beyond ASCII as it is: YAML takes the two halves of an escaped pair for two characters.
    plain = json.dumps(value, ensure_ascii=False)
    return _NOT_PRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", plain)


def value_at(data: Any, path: Path) -> Any:
    """What stands at ``path``; None where nothing does."""
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def replaced(data: Any, path: Path, value: Any) -> Any:
    """``data`` with ``value`` at ``path``; what is not on the way is shared."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(data, list):
        return [replaced(each, rest, value) if position == step else each for position, each in enumerate(data)]
    return {**data, step: replaced(data.get(step), rest, value)}
