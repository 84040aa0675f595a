"""Whose deployment this is, and what it asks of its officers. Directives bind an addressee: the exporter."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from .errors import PolicyError
from .facts import UNDECLARED
from .packs import Rule
from .parties import Parties, validate
from .yaml_text import load

__all__ = [
    "DEPLOYMENT",
    "deployment_artifact",
    "exporter_fact",
    "exporter_of",
    "needs_second_person",
    "unbound_letters",
]

DEPLOYMENT: Final = "deployment.yaml"
"""Name of the file among the artifacts of a reference; without it nobody is known to be the exporter, and an officer
clears alone."""


def deployment_artifact(exporter: str | None, second_person: bool = False) -> bytes | None:
    """The artifact that says that the party ``exporter`` runs this deployment, and whether clearing takes two officers.

    None where there is nothing to say.
    """
    said = [] if exporter is None else [f"exporter: {json.dumps(exporter, ensure_ascii=False)}\n"]
    said += ["clearance_second_person: true\n"] * second_person
    return "".join(said).encode() if said else None


def exporter_of(text: bytes | None, parties: Parties) -> str | None:
    """Id of the party that runs this deployment; None where no artifact says it.

    Raises:
        PolicyError: not as ``data/deployment.schema.json`` says, or a party that is not in the registry: a letter that
            binds a mistyped name would bind nobody.
    """
    if text is None:
        return None
    document = load(text, DEPLOYMENT)
    validate(document, "deployment.schema.json")
    if "exporter" not in document.data:
        return None
    exporter = str(document.data["exporter"])
    if parties.by_id(exporter) is None:
        raise PolicyError(
            f"the exporter {exporter!r} is no party of the registry",
            file=DEPLOYMENT,
            line=document.line(("exporter",)),
            remedy="Add the company to parties.yaml under this id, or correct the setting `policy.exporter`.",
        )
    return exporter


def needs_second_person(text: bytes | None) -> bool:
    """Whether clearing a hit takes two officers; one without an artifact that says so.

    Raises:
        PolicyError: not as ``data/deployment.schema.json`` says.
    """
    if text is None:
        return False
    document = load(text, DEPLOYMENT)
    validate(document, "deployment.schema.json")
    return bool(document.data.get("clearance_second_person", False))


def exporter_fact(exporter: str | None, rules: Iterable[Rule], parties: Parties, public: Collection[str]) -> str | None:
    """The fact ``exporter`` where an event does not say it: who runs this deployment, as far as letters ask for it.

    Where nobody says who that is, it is unknown (None) as soon as a letter may be meant for it, and the letter then
    leads to ``review``: one in a pack of this deployment's own, or one whose addressee is a party of the registry.
    Letters of the packs in ``public`` to companies that the registry does not know are reported of others.
    """
    if exporter is not None:
        return exporter
    letters = [rule for rule in rules if rule.addressee is not None]
    meant = any(rule.pack not in public or parties.by_id(rule.addressee) is not None for rule in letters)
    return None if meant else UNDECLARED


def unbound_letters(packs: Mapping[str, bytes], exporter: str | None) -> Iterator[PolicyError]:
    """Rules of ``packs`` (content by name, each of which loads) with an addressee, where none is known to bind."""
    if exporter is not None:
        return
    for name, content in packs.items():
        document = load(content, name)
        for index, rule in enumerate(document.data["rules"]):
            if "addressee" in rule:
                yield PolicyError(
                    f"the letter {rule['id']} binds {rule['addressee']!r}, and nothing says which company runs this "
                    "deployment, so that it would bind nobody",
                    file=name,
                    line=document.line(("rules", index, "addressee")),
                    remedy="Add the company to the registry, set `policy.exporter` to its party id, and start the "
                    "service again.",
                )
