"""YAML as policy data may use it: plain, bounded, and with the line of every value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import yaml

from .errors import PolicyError

__all__ = ["LARGEST_TEXT", "Document", "load"]

LARGEST_TEXT: Final = 4 * 1024 * 1024
_DEEPEST: Final = 24
_MOST_VALUES: Final = 600_000
"""A value takes half a kilobyte while it is read: a file of nothing but commas must not take the memory of all else."""

Path = tuple[str | int, ...]


# libyaml where PyYAML was built with it: a registry of thousands of parties loads many times faster.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_Safe):  # type: ignore[misc]
    """Safe YAML in which all is text but ``true``, ``false``, ``null`` and decimal integers: a date stays a text."""


_PlainLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|false)$", "tf"),
    ("tag:yaml.org,2002:int", r"^-?(?:0|[1-9][0-9]{0,15})$", "-0123456789"),
    ("tag:yaml.org,2002:null", r"^(?:null|)$", ["n", ""]),
):
    _PlainLoader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its data, and the line at which each path begins."""

    file: str
    data: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """Line of ``path``, or of its nearest ancestor."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def load(text: bytes, file: str) -> Document:
    """Parses ``text``.

    Raises:
        PolicyError: not UTF-8 YAML, too large, nested deeper than 24, more than 600,000 values, an anchor, alias or
            tag, a key twice.
    """
    if len(text) > LARGEST_TEXT:
        raise PolicyError(f"the file has {len(text)} bytes", file=file, remedy=f"Keep it below {LARGEST_TEXT} bytes.")
    try:
        decoded = text.decode("utf-8")
        _refuse_references(decoded, file)
        node = yaml.compose(decoded, Loader=_PlainLoader)
    except UnicodeDecodeError as error:
        raise PolicyError(f"byte {error.start} is not UTF-8", file=file, remedy="Save the file as UTF-8.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = 0 if mark is None else mark.line + 1
        raise PolicyError(f"not YAML: {error.problem}", file=file, line=line, remedy="Correct the syntax.") from error
    except yaml.YAMLError as error:
        raise PolicyError(f"not YAML: {error}", file=file, remedy="Correct the syntax.") from error
    lines: dict[Path, int] = {}
    data = None if node is None else _build(node, (), lines, file)
    return Document(file, data, lines)


def _refuse_references(text: str, file: str) -> None:
    depth = values = 0
    for event in yaml.parse(text, Loader=_PlainLoader):
        line = 0 if event.start_mark is None else event.start_mark.line + 1
        values += isinstance(event, yaml.NodeEvent)
        if values > _MOST_VALUES:
            raise PolicyError(
                f"more than {_MOST_VALUES:,} values", file=file, line=line, remedy="Split it, or remove what is empty."
            )
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise PolicyError(
                "anchors and aliases are not allowed", file=file, line=line, remedy="Write the value out."
            )
        if getattr(event, "tag", None):
            raise PolicyError("tags are not allowed", file=file, line=line, remedy="Remove the tag.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise PolicyError(f"nested deeper than {_DEEPEST}", file=file, line=line, remedy="Flatten the condition.")


def _build(node: yaml.Node, path: Path, lines: dict[Path, int], file: str) -> Any:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            raise PolicyError(
                "half a surrogate pair is no text", file=file, line=lines[path], remedy="Remove the escape."
            )
        match node.tag:
            case "tag:yaml.org,2002:bool":
                return node.value == "true"
            case "tag:yaml.org,2002:int":
                return int(node.value)
            case "tag:yaml.org,2002:null":
                return None
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, index), lines, file) for index, item in enumerate(node.value)]
    built: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise PolicyError("a key must be text", file=file, line=line, remedy="Use a plain key.")
        key = str(key_node.value)
        if key in built:
            raise PolicyError(f"the key {key!r} occurs twice", file=file, line=line, remedy="Remove one.")
        built[key] = _build(value_node, (*path, key), lines, file)
        lines[(*path, key)] = line
    return built
