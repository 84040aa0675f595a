"""The chain of owners that leads to a determination, in words: who holds which share, through whom, on which list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from .facts import FactValue
from .owned_parties import NOBODY, Ownership, Standing
from .owners import as_per_cent
from .ownership import Amount, open_part
from .ownership_rules import AFFILIATES, BLOCKING

__all__ = ["AMOUNTS", "OWNERSHIP_FACTS", "PARENTS", "OwnershipWords"]

_ROLES: Final = ("end_user", "actor")
_WHO: Final = {AFFILIATES: "listed parties", BLOCKING: "blocked persons"}
_RULE_OF: Final = {
    "listed_ownership": AFFILIATES,
    "end_user_blocked_ownership": BLOCKING,
    "actor_blocked_ownership": BLOCKING,
}
AMOUNTS: Final = frozenset(_RULE_OF)
"""Facts of how much owners that count have."""
PARENTS: Final = frozenset(f"{role}_parent_country" for role in _ROLES)
"""Facts of who stands above a party."""
OWNERSHIP_FACTS: Final = AMOUNTS | PARENTS
"""Facts that may follow from owners."""

_DEEPEST: Final = 6
_MOST: Final = 24
"""Shares that one sentence names; of what is more it says how many."""


class OwnershipWords:
    """Says why facts that follow from owners are what they are.

    Args:
        ownership: of the registry.
        country: a country as a person reads it.
    """

    def __init__(self, ownership: Ownership, country: Callable[[str], str]) -> None:
        self._ownership = ownership
        self._country = country

    def sentences(self, values: Mapping[str, FactValue], at: int, wanted: frozenset[str] | set[str]) -> list[str]:
        """One sentence for each of the facts ``wanted`` that follows from the owners of a party at ``at``.

        What ``values`` have otherwise than the registry is somebody else's word, and not explained by it.
        """
        found: dict[str, None] = {}
        for role in _ROLES:
            party = self._ownership.party(f"party:{values.get(f'{role}_party')}")
            if party is None or not party.owners:
                continue
            facts = self._ownership.facts(role, party, at)
            standing: Standing | None = None
            for name in _of_role(role):
                if name not in wanted or name not in facts or values.get(name) != facts[name]:
                    continue
                standing = standing or self._ownership.standing(party, at)
                if name in _RULE_OF:
                    found |= dict.fromkeys(self._amount(standing, _RULE_OF[name]))
                elif party.parent is None:
                    found[self._parent(standing)] = None
        return list(found)

    def _amount(self, standing: Standing, rule: str) -> list[str]:
        amount, line = standing.amounts[rule], self._ownership.rules[rule].line
        who, name = _WHO[rule], self._ownership.name(standing.node)
        if amount.high == 0:
            return []
        stated = self._ownership.stated(standing.node) if rule == AFFILIATES else 0
        said = _Chain(self, standing, amount, rule).links(standing.node)
        if stated and stated == amount.low:
            said = [f"{as_per_cent(stated)} per cent by the word of the registry", *said]
        parts = f": {'; '.join(said)}" if said else ""
        if amount.low >= line or amount.low == amount.high:
            more = "" if amount.low == amount.high else f", and up to {as_per_cent(amount.high)} may be theirs"
            return [f"{who.capitalize()} own {as_per_cent(amount.low)} per cent of {name} together{more}{parts}."]
        surely = f", {as_per_cent(amount.low)} surely" if amount.low else ""
        return [f"Up to {as_per_cent(amount.high)} per cent of {name} may belong to {who}{surely}{parts}."]

    def _parent(self, standing: Standing) -> str:
        name, root = self._ownership.name(standing.node), standing.roots.get(standing.node)
        if root is None:
            return f"Who stands above {name} cannot be told{self._open_roots(standing)}."
        if root.node == standing.node:
            return f"Nobody has as much as half of {name}: it has no parent."
        order = {node: place for place, node in enumerate(standing.roots) if standing.roots[node].node == root.node}
        place = f" of {self._country(root.country)}" if root.country else ", of a country unknown"
        links = _Chain(self, standing, Amount(0, 0, order, order), None, root.node).links(standing.node)
        return f"The ultimate parent of {name} is {self._ownership.name(root.node)}{place}: {'; '.join(links)}."

    def _open_roots(self, standing: Standing) -> str:
        """Whose part of it leaves open who stands above."""
        shares = standing.graph[standing.node]
        unknown = [
            f"nor above {self._ownership.name(share.owner)}, which has {as_per_cent(share.held)} per cent of it"
            for share in shares
            if share.held and share.owner not in standing.roots
        ]
        rest = self.rest(standing, standing.node)
        halves = [
            f"{self._ownership.name(share.owner)} has {as_per_cent(share.held)} per cent of it"
            for share in shares
            if share.held and share.owner in standing.roots
        ]
        return f": {'; '.join([*unknown, *halves, *rest][:_MOST])}"

    def rest(self, standing: Standing, node: str) -> list[str]:
        """What of a node is anybody's."""
        shares = standing.graph[node]
        left = open_part(shares)
        if not left:
            return []
        unknown = [self._ownership.name(one.owner) for one in shares if one.held is None and one.owner != NOBODY]
        whose = f", the share of {' and of '.join(unknown[:3])} not being known" if unknown else ""
        return [f"{as_per_cent(left)} per cent without an owner that is known{whose}"]

    def described(self, node: str) -> str:
        """A node with the lists it stands on."""
        listings = self._ownership.listings(node)
        return self._ownership.name(node) + (f", on {', '.join(listings)}" if listings else "")

    def stated(self, node: str, rule: str) -> str | None:
        """What the officer states of a node that makes it count."""
        stated = self._ownership.stated(node) if rule == AFFILIATES else 0
        if stated < self._ownership.rules[rule].line:
            return None
        return f"{as_per_cent(stated)} per cent listed by the word of the registry"

    def by_itself(self, node: str, rule: str) -> bool:
        """Whether a node counts, or may count, for the lists it stands on."""
        return self._ownership.rules[rule].counts(self._ownership.listings(node)) is not False


class _Chain:
    """The shares of those that count, and of those that may, each with what makes it so in brackets.

    Args:
        words: renders nodes.
        standing: who owns whom.
        amount: the nodes that count, in order, and that may.
        rule: which rule they count under; None where ``above`` is what they have in common.
    """

    def __init__(
        self, words: OwnershipWords, standing: Standing, amount: Amount, rule: str | None, above: str | None = None
    ) -> None:
        self._words = words
        self._standing = standing
        self._amount = amount
        self._rule = rule
        self._above = above
        self._left = _MOST

    def links(self, node: str, depth: int = 0) -> list[str]:
        """The shares of ``node`` that count, greatest first."""
        held = sorted(
            ((share.held, share.owner) for share in self._standing.graph[node] if share.held),
            key=lambda one: -one[0],
        )
        counted = [one for one in held if one[1] in self._amount.possible]
        said: list[str] = []
        for amount, owner in counted:
            if self._left <= 0:
                said.append(f"and {len(counted) - len(said)} more")
                break
            self._left -= 1
            said.append(
                f"{as_per_cent(amount)} per cent {self._words.described(owner)}{self._inside(node, owner, depth)}"
            )
        if self._rule is not None and not (node in self._amount.order and depth):
            said += self._words.rest(self._standing, node)
        return said

    def _inside(self, node: str, owner: str, depth: int) -> str:
        if owner == self._above or depth >= _DEEPEST:
            return ""
        if self._rule is not None:
            if self._words.by_itself(owner, self._rule):
                return ""
            if stated := self._words.stated(owner, self._rule):
                return f" [{stated}]"
        sure = owner in self._amount.order
        order = self._amount.order if sure else self._amount.possible
        # Only what came to count before: that is what made it count, and a circle ends.
        if order[owner] >= order.get(node, len(order) + 1):
            return " [in a circle]"
        inner = self.links(owner, depth + 1)
        if not inner:
            return ""
        return f" [{'owned' if sure else 'may be owned'} {', '.join(inner)}]"


def _of_role(role: str) -> tuple[str, ...]:
    if role == "end_user":
        return ("listed_ownership", "end_user_blocked_ownership", "end_user_parent_country")
    return ("actor_blocked_ownership", "actor_parent_country")
