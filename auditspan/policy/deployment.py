"""Whose deployment this is: the company that exports, a party of the registry. Directives bind an addressee.

And what this company asks: of its officers who clear hits, and of export requests, who may decide and what needs one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .errors import PolicyError
from .facts import UNDECLARED
from .packs import Rule
from .parties import Parties, validate
from .yaml_text import load

__all__ = [
    "DEPLOYMENT",
    "RequestDemands",
    "deployment_artifact",
    "exporter_fact",
    "exporter_of",
    "needs_second_person",
    "request_demands",
    "unbound_letters",
]

DEPLOYMENT: Final = "deployment.yaml"
"""Name of the file among the artifacts of a reference; without it nobody is known to be the exporter, and an officer
clears alone."""


@dataclass(frozen=True, slots=True)
class RequestDemands:
    """What a deployment demands of export requests.

    Args:
        approving_emitters: emitters whose ``export.decision`` counts; nobody's does where it is empty.
        required_for: classes of transfers that must name a request.
    """

    approving_emitters: frozenset[str] = frozenset()
    required_for: frozenset[str] = frozenset()

    @property
    def stated(self) -> bool:
        """Whether the company demands anything."""
        return bool(self.approving_emitters or self.required_for)


def deployment_artifact(
    exporter: str | None, demands: RequestDemands | None = None, *, second_person: bool = False
) -> bytes | None:
    """The artifact that says that the party ``exporter`` runs this deployment, what it demands of export requests, and
    whether clearing a hit takes two officers; None where there is nothing to say.

    It is YAML whose lines are JSON, and the same bytes for the same settings.
    """
    lines = [] if exporter is None else [f"exporter: {json.dumps(exporter, ensure_ascii=False)}\n"]
    if demands is not None and demands.stated:
        said = {
            "approving_emitters": sorted(demands.approving_emitters),
            "required_for": sorted(demands.required_for),
        }
        lines.append(f"requests: {json.dumps(said, ensure_ascii=False)}\n")
    if second_person:
        lines.append("clearance_second_person: true\n")
    return "".join(lines).encode() if lines else None


def request_demands(text: bytes | None) -> RequestDemands:
    """What the artifact ``text`` demands of export requests; nothing without it.

    Raises:
        PolicyError: not as ``data/deployment.schema.json`` says.
    """
    if text is None:
        return RequestDemands()
    document = load(text, DEPLOYMENT)
    validate(document, "deployment.schema.json")
    said = document.data.get("requests") or {}
    return RequestDemands(
        frozenset(map(str, said.get("approving_emitters", ()))), frozenset(map(str, said.get("required_for", ())))
    )


def exporter_of(text: bytes | None, parties: Parties) -> str | None:
    """Id of the party that runs this deployment; None where no artifact says so.

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
