"""Proposals that an officer adopted: they bind as company policy from the epoch on whose artifacts say so."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from .errors import PolicyError
from .parties import validate
from .yaml_text import load

__all__ = ["ADOPTIONS", "adopted_packs"]

ADOPTIONS: Final = "adoptions.yaml"
"""Name of the file among the artifacts of a reference; without it nothing is adopted."""


def adopted_packs(text: bytes, packs: Collection[str]) -> frozenset[str]:
    """Ids of the packs whose proposals are adopted; each with the officer and the reason in the file.

    Raises:
        PolicyError: not as ``data/adoptions.schema.json`` says, or a pack that is not among ``packs``.
    """
    document = load(text, ADOPTIONS)
    validate(document, "adoptions.schema.json")
    for index, entry in enumerate(document.data["adopted"]):
        if entry["pack"] not in packs:
            raise PolicyError(
                f"there is no pack {entry['pack']!r} to adopt",
                file=ADOPTIONS,
                line=document.line(("adopted", index, "pack")),
                remedy="Add the pack to the artifacts, or remove the adoption.",
            )
    return frozenset(entry["pack"] for entry in document.data["adopted"])
