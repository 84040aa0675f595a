"""Policy as data: declared facts, dated rule packs, tables with source and date, and the engine over them.

What is named here is imported when it is asked for: whoever makes a determination again needs no registry or addresses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .engine import Determination, Engine
    from .errors import PolicyError
    from .facts import BASE_FACTS, FactSet
    from .reference import PARTIES, Artifact, Reference

__all__ = ["BASE_FACTS", "PARTIES", "Artifact", "Determination", "Engine", "FactSet", "PolicyError", "Reference"]

_PLACES: Final = {
    "BASE_FACTS": "facts",
    "PARTIES": "rules",
    "Artifact": "reference",
    "Determination": "engine",
    "Engine": "engine",
    "FactSet": "facts",
    "PolicyError": "errors",
    "Reference": "reference",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)
