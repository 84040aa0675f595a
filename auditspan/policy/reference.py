"""A reference: the immutable snapshot of packs, tables, registry and address database that determines a batch."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Final

from auditspan.canonical import JsonValue, canonical_json

from .accelerator_lines import COMPUTER_COLUMNS, LINE_COLUMNS, ComputerEccns, Lines
from .accelerators import ACCELERATOR_COLUMNS, INSTANCE_COLUMNS, NAME_COLUMNS, PERFORMANCE_COLUMNS, Accelerators
from .activation import Activation
from .addresses import AddressDatabase
from .adoptions import ADOPTIONS, adopted_packs
from .clearances import CLEARANCES, Clearances
from .countries import COUNTRY_COLUMNS, GROUP_COLUMNS, Countries
from .deployment import (
    DEPLOYMENT,
    RequestDemands,
    deployment_artifact,
    exporter_fact,
    exporter_of,
    needs_second_person,
    request_demands,
)
from .engine import Engine
from .errors import PolicyError
from .explain import Explainer
from .licenses import LICENSE_COLUMNS, LICENSES, Licenses
from .missing_facts import MissingFacts
from .owned_parties import Ownership
from .ownership_rules import OWNERSHIP_RULE_COLUMNS
from .packs import compile_packs
from .parties import Parties
from .regions import REGION_COLUMNS, Regions
from .rules import NO_ADOPTIONS, NOT_PACKS, PARTIES, pack_names
from .screening_list import SCREENING_LISTS, screening_list_of
from .software import software
from .tables import Table, parse_table
from .vocabulary import CLOSED, LISTINGS

__all__ = ["ADDRESSES", "PARTIES", "TABLES", "Artifact", "Reference", "software"]

OWNERSHIP_RULES: Final = "ownership_rules.csv"
"""Name of the table of lists that count under the rules on ownership."""

_TABLES: Final = {
    "accelerators.csv": ACCELERATOR_COLUMNS,
    "instance_types.csv": INSTANCE_COLUMNS,
    "countries.csv": COUNTRY_COLUMNS,
    "country_groups.csv": GROUP_COLUMNS,
    "cloud_regions.csv": REGION_COLUMNS,
}
# A reference that was sealed before these existed lacks them, and still loads.
_LATER_TABLES: Final = {
    "accelerator_performance.csv": PERFORMANCE_COLUMNS,
    "accelerator_names.csv": NAME_COLUMNS,
    "accelerator_lines.csv": LINE_COLUMNS,
    "computer_eccns.csv": COMPUTER_COLUMNS,
    OWNERSHIP_RULES: OWNERSHIP_RULE_COLUMNS,
}
# Nothing ships in their place: a reference has them where an officer activated them.
_OFFICERS_TABLES: Final = {LICENSES: LICENSE_COLUMNS}
ADDRESSES: Final = "ip_country.mmdb.gz"
"""Name of the address database among the artifacts, whatever the file was called."""
_SHIPPED_ADDRESSES: Final = "ip_country_cc0.mmdb.gz"
_SHIPPED_PACKS: Final = ("us-ear.yaml", "directives.yaml", "controlled-ai-assets.yaml", "company-policy.yaml")
_PUBLIC_LETTERS: Final = frozenset(name.removesuffix(".yaml") for name in _SHIPPED_PACKS)
_NO_PARTIES: Final = b"parties: []\n"
TABLES: Final[Mapping[str, tuple[str, ...]]] = {**_TABLES, **_LATER_TABLES, **_OFFICERS_TABLES}
"""Tables among the artifacts, by name, with the columns that each must have."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One part of a reference, named by its content: ``kind`` is ``pack``, ``table``, ``parties``,
    ``addresses``, ``adoptions``, ``clearances``, ``deployment`` or ``screening_list``.
    """

    name: str
    kind: str
    version: str
    sha256: str
    content: bytes

    def to_json(self) -> dict[str, JsonValue]:
        """The artifact without its content."""
        return {"name": self.name, "kind": self.kind, "version": self.version, "sha256": self.sha256}


class Reference:
    """A snapshot with its number as an epoch. Build it with :meth:`load` or :meth:`packaged`.

    Attributes:
        number: of the epoch, from 1.
        artifacts: its parts, sorted by name.
        digest: ``hex(SHA-256(JCS(to_control_body())))`` (evidence format, section 11).
        packs, countries, accelerators, regions, parties, addresses: what the artifacts hold.
        ownership: what follows from the owners of the parties.
        accelerator_lines, computer_eccns: the lines of 3A090 (``None`` in a reference from before), and 4A090.
        licenses: the register of export licenses; None where no officer activated one.
        adopted: packs whose proposals bind as company policy.
        screening: the screening list; None without one.
        exporter: id of the party that runs this deployment; None when the artifacts do not say.
        clearance_second_person: whether clearing a hit of a screening takes two officers.
        clearances: hits that officers cleared.
        request_demands: what the deployment demands of export requests.
        exporter_fact: what the fact ``exporter`` is where an event does not say it (``deployment.exporter_fact``).
        activation: who brought it into force.
    """

    def __init__(
        self,
        artifacts: Mapping[str, bytes],
        number: int,
        activation: Activation | None = None,
        folder: Path | None = None,
    ) -> None:
        if number < 1:
            raise ValueError(f"an epoch is numbered from 1, not {number}")
        self.number = number
        activation = activation or Activation()
        self.activation = activation if activation.software else replace(activation, software=software())
        tables = {name: parse_table(_need(artifacts, name), name, columns) for name, columns in _TABLES.items()}
        tables |= {
            name: parse_table(artifacts[name], name, TABLES[name])
            for name in (_LATER_TABLES.keys() | _OFFICERS_TABLES.keys()) & artifacts.keys()
        }
        self.countries = Countries(tables["countries.csv"], tables["country_groups.csv"])
        self.accelerators = Accelerators(
            tables["accelerators.csv"],
            tables["instance_types.csv"],
            tables.get("accelerator_performance.csv"),
            tables.get("accelerator_names.csv"),
        )
        lines = tables.get("accelerator_lines.csv")
        self.accelerator_lines = None if lines is None else Lines(lines)
        self.computer_eccns = ComputerEccns(tables.get("computer_eccns.csv"))
        licenses = tables.get(LICENSES)
        self.licenses = None if licenses is None else Licenses(licenses, self.accelerators)
        self.regions = Regions(tables["cloud_regions.csv"], self.countries)
        self.parties = Parties(_need(artifacts, PARTIES), PARTIES, self.countries)
        self._ownership_rules = tables.get(OWNERSHIP_RULES)
        self.ownership = Ownership(self.parties, self._ownership_rules)
        self.addresses = AddressDatabase(_need(artifacts, ADDRESSES), ADDRESSES)
        self.screening = screening_list_of(artifacts, self.countries, folder)
        self.exporter = exporter_of(artifacts.get(DEPLOYMENT), self.parties)
        self.clearance_second_person = needs_second_person(artifacts.get(DEPLOYMENT))
        self.clearances = Clearances.of(
            artifacts.get(CLEARANCES), second_person=self.clearance_second_person, countries=self.countries
        )
        self.request_demands = request_demands(artifacts.get(DEPLOYMENT))
        packs = pack_names(artifacts)
        self.packs = compile_packs([(name, artifacts[name]) for name in packs])
        self.exporter_fact = exporter_fact(self.exporter, self.packs.rules, self.parties, _PUBLIC_LETTERS)
        self.adopted = adopted_packs(artifacts.get(ADOPTIONS, NO_ADOPTIONS), self.packs.versions)
        known = {*TABLES, *NOT_PACKS, ADDRESSES, *SCREENING_LISTS, *packs}
        if strange := sorted(set(artifacts) - known):
            raise PolicyError(
                "nothing here is read from it", file=strange[0], remedy="Packs end in .yaml; leave other files out."
            )
        self.artifacts: tuple[Artifact, ...] = tuple(
            self._artifact(name, artifacts[name], tables) for name in sorted(artifacts)
        )
        self.digest = hashlib.sha256(canonical_json(self.to_control_body())).hexdigest()

    @classmethod
    def load(
        cls,
        artifacts: Mapping[str, bytes],
        number: int,
        activation: Activation | None = None,
        folder: Path | None = None,
    ) -> Reference:
        """The reference that ``artifacts`` (content by name) are; without ``activation`` a start of this software's.

        Args:
            artifacts: content by name.
            number: of the epoch.
            activation: who brings it into force.
            folder: where artifacts are kept, and what is read from a screening list beside them. Without one it is
                read for this one reference.

        Raises:
            PolicyError: an artifact is missing, broken or unknown; says which, where, and what to do.
        """
        return cls(artifacts, number, activation, folder)

    @classmethod
    def packaged(cls, parties: bytes | None = None, number: int = 1) -> Reference:
        """The data that ship with the package and the registry ``parties`` (none = nobody is known)."""
        return cls(cls.packaged_artifacts(parties), number)

    @staticmethod
    def packaged_artifacts(
        parties: bytes | None = None,
        exporter: str | None = None,
        demands: RequestDemands | None = None,
        *,
        clearance_second_person: bool = False,
    ) -> dict[str, bytes]:
        """The artifacts, content by name, that `packaged` is made of.

        ``exporter`` is who runs the deployment, ``demands`` what it demands of export requests. With
        ``clearance_second_person`` clearing a hit of a screening takes two officers.
        """
        folder = resources.files("auditspan.policy.data")
        artifacts = {name: folder.joinpath(name).read_bytes() for name in (*_TABLES, *_LATER_TABLES, *_SHIPPED_PACKS)}
        artifacts[ADDRESSES] = folder.joinpath(_SHIPPED_ADDRESSES).read_bytes()
        artifacts[PARTIES] = _NO_PARTIES if parties is None else parties
        deployment = deployment_artifact(exporter, demands, second_person=clearance_second_person)
        if deployment is not None:
            artifacts[DEPLOYMENT] = deployment
        return artifacts

    def opened(self) -> Reference:
        """Itself, ready to judge: a screening list is read here, which takes up to 20 seconds the first time.

        Raises:
            PolicyError: it cannot be read here, or the extra ``screening`` is not installed.
        """
        if self.screening is not None:
            self.screening.open()
        return self

    def with_parties(self, parties: Parties) -> Reference:
        """A copy that judges with another registry, to try it: its artifacts and digest are still those of this one."""
        other = copy.copy(self)
        other.parties = parties
        other.ownership = Ownership(parties, self._ownership_rules)
        return other

    def to_control_body(self) -> dict[str, JsonValue]:
        """The body of ``audit.reference.activated`` (evidence format, section 11)."""
        return self.activation.body(self.number, [artifact.to_json() for artifact in self.artifacts])

    def engine(self) -> Engine:
        """A new engine over this reference; one for each thread."""
        boundaries = (*self.ownership.boundaries, *self.clearances.boundaries)
        return Engine(self.packs, self.countries, adopted=self.adopted, boundaries=boundaries)

    def explainer(self) -> Explainer:
        """Renders determinations made under this reference."""
        return Explainer(self.packs, self.countries, self.parties, self.ownership)

    def quotes(self, fact: str, text: str) -> bool:
        """Whether a pack compares the open fact ``fact`` (a list, an end use) with the word ``text``."""
        if fact in CLOSED:
            return False
        names = LISTINGS if fact in LISTINGS else {fact}
        return any(text in self.packs.compared.get(name, ()) for name in names)

    def missing_facts(self) -> MissingFacts:
        """Finds what determinations made under this reference lack."""
        return MissingFacts(self.packs)

    def _artifact(self, name: str, content: bytes, tables: Mapping[str, Table]) -> Artifact:
        digest = hashlib.sha256(content).hexdigest()
        if name in tables:
            kind, version = "table", tables[name].version
        elif name == PARTIES:
            kind, version = "parties", self.parties.version or digest[:12]
        elif name == ADDRESSES:
            kind, version = "addresses", self.addresses.built_on
        elif self.screening is not None and name == self.screening.name:
            kind, version = "screening_list", self.screening.version
        elif name == ADOPTIONS:
            kind, version = "adoptions", digest[:12]
        elif name == CLEARANCES:
            kind, version = "clearances", digest[:12]
        elif name == DEPLOYMENT:
            kind, version = "deployment", digest[:12]
        else:
            kind, version = "pack", self.packs.version_of_file[name]
        return Artifact(name, kind, version, digest, content)


def _need(artifacts: Mapping[str, bytes], name: str) -> bytes:
    try:
        return artifacts[name]
    except KeyError:
        raise PolicyError("the reference lacks it", file=name, remedy="Add it to the artifacts.") from None
