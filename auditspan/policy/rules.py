"""What of a reference makes a determination out of facts: rule packs, Country Groups, and proposals that were adopted.

Registry, lists and addresses make facts out of events. Where the facts are there already, nothing of them is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from .adoptions import ADOPTIONS, adopted_packs
from .clearances import CLEARANCES
from .countries import COUNTRIES, GROUPS, Countries, countries_of
from .deployment import DEPLOYMENT
from .engine import Engine
from .errors import PolicyError
from .packs import Packs, compile_packs

__all__ = ["NEEDED", "NOT_PACKS", "NO_ADOPTIONS", "PARTIES", "Rules", "names_of_rules", "pack_names"]

PARTIES: Final = "parties.yaml"
"""Name of the party registry among the artifacts."""
NOT_PACKS: Final = frozenset({PARTIES, ADOPTIONS, CLEARANCES, DEPLOYMENT})
"""Artifacts that are YAML and no packs."""
NO_ADOPTIONS: Final = b"adopted: []\n"
NEEDED: Final = frozenset({COUNTRIES, GROUPS})
"""Artifacts without which there are no rules."""
_PACK: Final = ".yaml"
# A pack may read the terms of one that stands before it, and the law stands first.
_FIRST_PACK: Final = "us-ear.yaml"


def pack_names(names: Iterable[str]) -> list[str]:
    """The rule packs among artifacts of these names, in the order in which they are compiled."""
    packs = [name for name in names if name.endswith(_PACK) and name not in NOT_PACKS]
    return sorted(packs, key=lambda name: (name != _FIRST_PACK, name))


def names_of_rules(names: Iterable[str]) -> list[str]:
    """Of artifacts of these names those that `Rules.of` reads, sorted."""
    given = set(names)
    return sorted({*pack_names(given), *(given & {*NEEDED, ADOPTIONS})})


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules in force under an epoch: enough to make a determination again from its facts."""

    packs: Packs
    countries: Countries
    adopted: frozenset[str]

    @classmethod
    def of(cls, artifacts: Mapping[str, bytes]) -> Rules:
        """The rules among ``artifacts`` (content by name); others may stand beside them.

        Raises:
            PolicyError: an artifact is missing or broken; says which and where.
        """
        if missing := sorted(NEEDED - artifacts.keys()):
            raise PolicyError("the reference lacks it", file=missing[0], remedy="Add it to the artifacts.")
        packs = compile_packs([(name, artifacts[name]) for name in pack_names(artifacts)])
        adopted = adopted_packs(artifacts.get(ADOPTIONS, NO_ADOPTIONS), packs.versions)
        return cls(packs, countries_of(artifacts), adopted)

    def engine(self) -> Engine:
        """A new engine over these rules; one for each thread."""
        return Engine(self.packs, self.countries, adopted=self.adopted)
