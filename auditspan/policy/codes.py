"""Codes and words that conditions of packs compare: each must be one that a fact can have.

Those are countries, Country Groups, and the words of closed vocabularies. Lists of parties are open: a registry may
name those of the vocabulary, and any that a pack compares; a name that nothing compares would match nothing, and clear.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from .countries import Countries
from .errors import PolicyError
from .facts import BASE_FACTS
from .parties import Parties
from .vocabulary import CLOSED, LISTINGS, WORDS
from .yaml_text import Document, Path, load

__all__ = ["atoms", "code_faults", "code_faults_of", "compared", "listing_faults"]

_LITERAL: Final = re.compile(r"'([^']*)'")
_NAME: Final = re.compile(r"'[^']*'|([A-Za-z_][A-Za-z0-9_]*)")
_COUNTRY: Final = re.compile(r"_(?:country|countries|nationality)$|^destination_candidates$")
_SPECIAL: Final = frozenset({"", "?"})
"""Values of such facts that are no country: no person, and evidence that names none."""


def atoms(document: Document) -> Iterator[tuple[Path, str]]:
    """Each expression in the conditions of a pack, with its path."""
    if not isinstance(document.data, dict):
        return
    for kind in ("definitions", "rules"):
        entries = document.data.get(kind)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict):
                yield from _atoms(entry.get("when"), (kind, index, "when"))
                yield from _of_requirements(entry.get("requirements"), (kind, index, "requirements"))
    yield from _of_requirements(document.data.get("exception_requirements"), ("exception_requirements",))


def _of_requirements(entries: Any, path: Path) -> Iterator[tuple[Path, str]]:
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            yield from _atoms(entry.get("when"), (*path, index, "when"))


def _atoms(node: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _atoms(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _atoms(value, (*path, index))


def code_faults(document: Document, countries: Countries) -> Iterator[PolicyError]:
    """Codes and words that no fact ever has: of no country, of one that is judged as another, of no group, no word."""
    groups = countries.group_names
    for path, text in atoms(document):
        names = {name for name in _NAME.findall(text) if name in BASE_FACTS}
        if len(names) != 1 or "(" in text:  # `startsWith('U')` compares with a part of a code
            continue
        (name,) = names
        for code in _LITERAL.findall(text):
            if name.endswith("_groups"):
                fault = None if code in groups else (f"there is no Country Group {code!r}", _NO_GROUP)
            elif name == "destination_subdivision":
                place = countries.place(code)
                subdivided = not code or (place is not None and bool(place.subdivision))
                fault = None if subdivided else (f"{code!r} is no subdivision that a fact has", _NO_SUBDIVISION)
            elif name in CLOSED and code not in WORDS[name]:
                fault = f"{code!r} is no word that {name} has", f"Its words are: {', '.join(WORDS[name])}."
            elif _COUNTRY.search(name) and code not in _SPECIAL:
                fault = _country_fault(code, countries)
            else:
                fault = None
            if fault is not None:
                yield PolicyError(
                    f"{text!r}: {fault[0]}", file=document.file, line=document.line(path), remedy=fault[1]
                )


_NO_GROUP: Final = "Use a group of the country groups table, such as D:5."
_NO_SUBDIVISION: Final = "Use an ISO 3166-2 code of Ukraine, such as UA-43."


def code_faults_of(packs: Mapping[str, bytes], countries: Countries) -> Iterator[PolicyError]:
    """The same of several packs, content by name, each of which loads."""
    for name, content in packs.items():
        yield from code_faults(load(content, name), countries)


def _country_fault(code: str, countries: Countries) -> tuple[str, str] | None:
    place = countries.place(code)
    if place is None or code != place.given:
        return f"{code!r} is no country", "Use an ISO 3166-1 alpha-2 code of the countries table, in capitals."
    if place.country != code:
        return (
            f"{code} is judged as {place.country}, so that no fact ever says {code}",
            f"Write {place.country}.",
        )
    return None


def compared(documents: Iterable[Document]) -> dict[str, frozenset[str]]:
    """The texts that conditions compare each fact with, by fact."""
    found: dict[str, set[str]] = {}
    for document in documents:
        for _, text in atoms(document):
            literals = _LITERAL.findall(text)
            for name in {name for name in _NAME.findall(text) if name in BASE_FACTS}:
                found.setdefault(name, set()).update(literals)
    return {name: frozenset(texts) for name, texts in found.items()}


def listing_faults(parties: Parties, compared_with: Mapping[str, frozenset[str]]) -> Iterator[PolicyError]:
    """Lists that a registry names and that are none: a party on one would count as on no list.

    Args:
        parties: the registry.
        compared_with: what packs compare, as `compared` says: those are lists too.
    """
    known = frozenset(WORDS["listings"]).union(*(compared_with.get(name, frozenset()) for name in LISTINGS))
    for listing in sorted(parties.listings.keys() - known, key=lambda one: (parties.listings[one], one)):
        yield PolicyError(
            f"there is no list {listing!r}, and no pack compares it",
            file=parties.file,
            line=parties.listings[listing],
            remedy=f"Lists are: {', '.join(sorted(known))}. One of your own needs a rule first.",
        )
