"""Commands whose modules are imported when they are asked for.

A program of fifty commands takes a second to import them all, and a person or a script runs one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, ClassVar

import typer
import typer.main
from rich.markup import escape
from typer.core import TyperGroup

from auditspan.cli.output import fail, not_installed

__all__ = ["LoadedCommands", "LoadedGroup"]


class LoadedCommands(MutableMapping[str, Any]):
    """Commands by name, in order; each is imported when it is first looked up.

    Args:
        places: ``module:attribute`` of a function, or of a `typer.Typer` whose commands it groups, by name.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._commands: dict[str, Any] = dict(places)

    def __getitem__(self, name: str) -> Any:
        found = self._commands[name]
        if isinstance(found, str):
            found = self._commands[name] = _imported(name, found)
        return found

    def __setitem__(self, name: str, command: Any) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __contains__(self, name: object) -> bool:
        return name in self._commands

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)


class LoadedGroup(TyperGroup):
    """A group of `places` (`LoadedCommands`), which a subclass names."""

    places: ClassVar[Mapping[str, str]] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = LoadedCommands(self.places)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, without importing anything."""
        return list(self.commands)


def _imported(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    # Whatever is asked of a command that is not here, the answer is the same.
    settings: dict[str, Any] = {}
    try:
        found: typer.Typer | Callable[..., Any] = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        found, settings = _lacking(error), {"ignore_unknown_options": True, "allow_extra_args": True}
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
    else:
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(context_settings=settings)(found)
        command = typer.main.get_command(alone)
    command.name = name
    return command


def _lacking(error: ModuleNotFoundError) -> Callable[..., Any]:
    """A command in the place of one whose extra is not installed."""
    explained = not_installed(error)

    def lacking() -> None:
        fail(explained, as_json="--json" in sys.argv)

    # A help text is markup, in which [pipeline] would be a style.
    lacking.__doc__ = escape(f"Not installed here, {error.name} is missing: pip install 'auditspan[pipeline]'")
    return lacking
