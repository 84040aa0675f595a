"""Proposals that an officer adopted: they bind as company policy from the epoch on whose artifacts say so."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

import yaml

from .errors import PolicyError
from .parties import validate
from .yaml_text import Document, load

__all__ = ["ADOPTIONS", "adopted_packs", "check_adopters", "with_adoption"]

ADOPTIONS: Final = "adoptions.yaml"
"""Name of the file among the artifacts of a reference; without it nothing is adopted."""

_NOTHING: Final = b"adopted: []\n"
_WIDEST: Final = 1 << 20


def adopted_packs(text: bytes, packs: Collection[str]) -> frozenset[str]:
    """Ids of the packs whose proposals are adopted; each with the officer and the reason in the file.

    Raises:
        PolicyError: not as ``data/adoptions.schema.json`` says, or a pack that is not among ``packs``.
    """
    document = _loaded(text)
    for index, entry in enumerate(document.data["adopted"]):
        if entry["pack"] not in packs:
            raise PolicyError(
                f"there is no pack {entry['pack']!r} to adopt",
                file=ADOPTIONS,
                line=document.line(("adopted", index, "pack")),
                remedy="Add the pack to the artifacts, or remove the adoption.",
            )
    return frozenset(entry["pack"] for entry in document.data["adopted"])


def with_adoption(text: bytes | None, pack: str, officer: str, reason: str) -> bytes:
    """``text`` with the pack adopted by ``officer``; the same when it is adopted already.

    Raises:
        PolicyError: ``text`` is not as ``data/adoptions.schema.json`` says.
    """
    entries = list(_loaded(text or _NOTHING).data["adopted"])
    if any(entry["pack"] == pack for entry in entries):
        return text or _NOTHING
    entries.append({"pack": pack, "by": officer, "reason": reason})
    # A long reason stays on its line, as a person would write it.
    return yaml.safe_dump({"adopted": entries}, sort_keys=False, allow_unicode=True, width=_WIDEST).encode()


def check_adopters(text: bytes, before: bytes | None, officer: str) -> None:
    """Refuse an adoption in somebody else's name that was not there before: a credential says who adopts.

    Raises:
        PolicyError: at its line, or not as ``data/adoptions.schema.json`` says.
    """
    known = {_key(entry) for entry in _loaded(before or _NOTHING).data["adopted"]}
    document = _loaded(text)
    for index, entry in enumerate(document.data["adopted"]):
        if entry["by"] != officer and _key(entry) not in known:
            raise PolicyError(
                f"{entry['pack']!r} is adopted by {entry['by']!r}, and the credential is that of {officer!r}",
                file=ADOPTIONS,
                line=document.line(("adopted", index, "by")),
                remedy="Each officer adopts with the own credential: auditspan policy adopt PACK --reason TEXT",
            )


def _loaded(text: bytes) -> Document:
    document = load(text, ADOPTIONS)
    validate(document, "adoptions.schema.json")
    return document


def _key(entry: dict[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True)
