"""The party registry: who stands behind a credential or a name, where, and under which ultimate parent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import jsonschema

from .countries import Countries
from .errors import PolicyError
from .facts import FactValue
from .owners import Owner, OwnerReader, plain_name
from .vocabulary import word
from .yaml_text import Document, Path, load

__all__ = ["Parent", "Parties", "Party", "Related", "party_facts", "validate"]

_CHINESE: Final = frozenset({"CN", "MO"})
SELF: Final = "self"
"""``ultimate_parent: self`` says that a party has no parent; leaving it out says that it is not known."""


@dataclass(frozen=True, slots=True)
class Parent:
    """An ultimate parent."""

    name: str
    country: str | None


@dataclass(frozen=True, slots=True)
class Related:
    """Somebody who stands in a party's supply chain: as what, and under which name."""

    kind: str
    name: str
    country: str | None


@dataclass(frozen=True, slots=True)
class Party:
    """A party as the registry has it. What is ``None`` the registry does not know.

    Attributes:
        nationality: of a person, the country of the most recent citizenship or permanent residency.
        government_affiliated: of a government, or a laboratory affiliated to one.
        listed_ownership: per cent that listed parties own together; 0 where the registry names none.
        relations: kinds of relation in its supply chain, with the country of each.
        exempt: a directive exempts it by name.
        owners: who owned and owns it, with dates; empty where the registry does not say.
        red_flags: what of it nobody has cleared up.
        related: those of its relations that have a name, which a screening list may have as well.
    """

    id: str
    name: str
    country: str | None
    parent: Parent | None
    listings: tuple[str, ...]
    nationality: str | None = None
    government_affiliated: bool | None = None
    listed_ownership: int = 0
    relations: tuple[tuple[str, str], ...] = ()
    exempt: bool = False
    owners: tuple[Owner, ...] = ()
    red_flags: tuple[str, ...] = ()
    related: tuple[Related, ...] = ()

    @property
    def chinese_relations(self) -> tuple[str, ...]:
        """Kinds of relation to parties of China or Macau, sorted."""
        return tuple(sorted({kind for kind, country in self.relations if country in _CHINESE}))


def party_facts(role: str, party: Party) -> dict[str, FactValue]:
    """What the registry states of a party as the facts of its role; None where it does not know.

    What follows from its owners is `owned_parties.Ownership`'s to say.
    """
    facts: dict[str, FactValue] = {
        f"{role}_country": party.country,
        f"{role}_parent_country": party.parent.country if party.parent else None,
        f"{role}_listings": party.listings,
    }
    if party.nationality is not None:
        facts[f"{role}_nationality"] = party.nationality
    if role == "actor":
        return {**facts, "actor_exempt": party.exempt}
    if party.red_flags:
        facts["red_flags"] = party.red_flags
    return {
        **facts,
        "end_user_government_affiliated": party.government_affiliated,
        "listed_ownership": party.listed_ownership,
        "chinese_relations": party.chinese_relations,
    }


class Parties:
    """An immutable registry: by credential fingerprint, by id, and by name (case and surrounding space aside).

    Args:
        text: YAML, or a document of which the part ``parties`` is the registry.
        file: its name, for errors.
    """

    def __init__(self, text: bytes | Document, file: str, countries: Countries) -> None:
        document = load(text, file) if isinstance(text, bytes) else text
        validate(document, "parties.schema.json")
        self._by_id: dict[str, Party] = {}
        self._by_name: dict[str, Party | None] = {}
        self._by_credential: dict[str, Party] = {}
        self.listings: dict[str, int] = {}
        """The lists that parties and owners stand on, each with the line where it is first named."""
        entries = document.data["parties"] or ()
        owners = OwnerReader(document, entries, countries)
        for index, entry in enumerate(entries):
            path: Path = ("parties", index)
            party = _party(document, path, entry, countries, owners.owners(path, entry))
            if party.id in self._by_id:
                raise _fault(document, (*path, "id"), f"the party {party.id!r} occurs twice")
            self._by_id[party.id] = party
            for listing in party.listings:
                self.listings.setdefault(listing, document.line((*path, "listings")))
            for number, owner in enumerate(party.owners):
                for listing in owner.listings:
                    self.listings.setdefault(listing, document.line((*path, "owners", number, "listings")))
            # A name that two parties share identifies neither.
            name = plain_name(party.name)
            self._by_name[name] = None if name in self._by_name else party
            for credential in entry.get("credentials") or ():
                if credential in self._by_credential:
                    raise _fault(
                        document, (*path, "credentials"), f"the credential {credential!r} belongs to two parties"
                    )
                self._by_credential[credential] = party
        self.version = str(document.data.get("version") or "")
        self.file = file

    def of_actor(self, actor: str | None) -> Party | None:
        """The party of ``audit.actor.id``: a credential fingerprint, or a party id."""
        return (self._by_credential.get(actor) or self._by_id.get(actor)) if actor else None

    def named(self, text: str | None) -> Party | None:
        """The party with this id, or else with this name."""
        if not text:
            return None
        return self._by_id.get(text) or self._by_name.get(plain_name(text))

    def __iter__(self) -> Iterator[Party]:
        return iter(self._by_id.values())

    def by_id(self, identifier: str | None) -> Party | None:
        """The party with this id."""
        return self._by_id.get(identifier) if identifier else None


def _party(
    document: Document, path: Path, entry: dict[str, Any], countries: Countries, owners: tuple[Owner, ...]
) -> Party:
    given = entry.get("ultimate_parent")
    country = _country(document, (*path, "country"), entry.get("country"), countries)
    parent = None
    if given == SELF:
        parent = Parent(entry["name"], country)
    elif isinstance(given, dict):
        parent = Parent(given["name"], _country(document, (*path, "ultimate_parent"), given.get("country"), countries))
    relations = [
        Related(
            relation["kind"],
            relation.get("name", ""),
            _country(document, (*path, "relations", index, "country"), relation["country"], countries),
        )
        for index, relation in enumerate(entry.get("relations") or ())
    ]
    return Party(
        entry["id"],
        entry["name"],
        country,
        parent,
        # Lists of one's own keep their names.
        tuple(sorted({word("end_user_listings", name) or name for name in entry.get("listings") or ()})),
        _country(document, (*path, "nationality"), entry.get("nationality"), countries),
        entry.get("government_affiliated"),
        entry.get("listed_ownership", 0),
        tuple(sorted((one.kind, one.country) for one in relations if one.country)),
        entry.get("exempt", False),
        owners,
        tuple(sorted(entry.get("red_flags") or ())),
        tuple(one for one in relations if one.name),
    )


def _country(document: Document, path: Path, text: str | None, countries: Countries) -> str | None:
    if text is None:
        return None
    place = countries.place(text)
    if place is None:
        raise _fault(
            document, path, f"{text!r} is no country", "Use an ISO 3166-1 alpha-2 code, or leave it out when unknown."
        )
    return place.country


def _fault(document: Document, path: Path, message: str, remedy: str = "Remove one.") -> PolicyError:
    return PolicyError(message, file=document.file, line=document.line(path), remedy=remedy)


def validate(document: Document, schema: str) -> None:
    """Checks a document against a JSON Schema that ships with the package.

    Raises:
        PolicyError: at the line of the first fault.
    """
    text = resources.files("auditspan.policy.data").joinpath(schema).read_bytes()
    errors = sorted(
        jsonschema.Draft202012Validator(json.loads(text)).iter_errors(document.data),
        key=lambda e: list(map(str, e.path)),
    )
    if errors:
        error = jsonschema.exceptions.best_match(errors)
        path: Path = tuple(error.absolute_path)
        place = "/".join(map(str, path)) or "the file"
        raise PolicyError(
            f"{place}: {error.message[:300]}",
            file=document.file,
            line=document.line(path),
            remedy=f"Write it as {schema} says.",
        )
