"""The facts of a registry's parties that follow from their owners, at a rule time."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .errors import PolicyError
from .facts import FactValue
from .owners import Owner, plain_name
from .ownership import Amount, Root, Share, aggregate, closure, roots_of
from .ownership_rules import AFFILIATES, BLOCKING, OwnershipRule, ownership_rules
from .parties import Parties, Party, party_facts
from .tables import Table

__all__ = ["NOBODY", "Ownership", "Standing"]

NOBODY: Final = "nobody"
"""The owner of what belongs to somebody, and the registry does not say to whom."""

_MOST_REMEMBERED: Final = 50_000


@dataclass(frozen=True, slots=True)
class Standing:
    """Who owns a party at one moment.

    Attributes:
        graph: the party, its owners, theirs and so on, each with its owners; nodes are those of `Owner.node`.
        amounts: what owners that count under a rule have of it, by the name of the rule.
        roots: who stands above each node, where that can be told.
    """

    node: str
    graph: Mapping[str, Sequence[Share]]
    amounts: Mapping[str, Amount]
    roots: Mapping[str, Root]


@dataclass(frozen=True, slots=True)
class _Facts:
    listed: int | None = None
    blocked: int | None = None
    parent_country: str | None = None


class Ownership:
    """The owners of the parties of a registry. Pure: the same party and moment give the same facts.

    Args:
        parties: the registry.
        rules: the table of which lists count; None in a reference from before there was one.

    Raises:
        PolicyError: the registry names owners, and there is no such table, or a faulty one.
    """

    def __init__(self, parties: Parties, rules: Table | None) -> None:
        self._parties = parties
        owned = [party for party in parties if party.owners]
        if owned and rules is None:
            raise PolicyError(
                "the registry names owners, and nothing says which of them count",
                file="ownership_rules.csv",
                remedy="Add this table to the artifacts, or leave `owners` out.",
            )
        self.rules: Mapping[str, OwnershipRule] = {} if rules is None else ownership_rules(rules)
        self._named: dict[str, Owner] = {}
        self._listings: dict[str, frozenset[str]] = {}
        for owner in (owner for party in owned for owner in party.owners if owner.party is None):
            known = self._named.get(owner.node)
            if known is None or known.country is None:
                self._named[owner.node] = owner
            self._listings[owner.node] = self._listings.get(owner.node, frozenset()).union(owner.listings)
        dates = {instant for party in owned for owner in party.owners for instant in (owner.start, owner.end)}
        self.boundaries: tuple[int, ...] = tuple(sorted(instant for instant in dates if instant))
        """Moments, in nanoseconds, at which a share changes hands: between two of them no fact here changes."""
        self._remembered: dict[tuple[int, str], _Facts] = {}

    def facts(self, role: str, party: Party, at: int | None) -> dict[str, FactValue]:
        """What the registry says of a party as the facts of its role, at a rule time; None where it does not know.

        Without a rule time, what depends on one is not known.
        """
        facts = party_facts(role, party)
        if not party.owners:
            return facts
        found = _Facts() if at is None and self.boundaries else self._facts(party, at or 0)
        facts[f"{role}_blocked_ownership"] = found.blocked
        if party.parent is None:
            facts[f"{role}_parent_country"] = found.parent_country
        if role == "end_user":
            facts["listed_ownership"] = found.listed
        return facts

    def _facts(self, party: Party, at: int) -> _Facts:
        key = bisect.bisect_right(self.boundaries, at), party.id
        known = self._remembered.get(key)
        if known is None:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            standing = self.standing(party, at)
            listed, blocked = (
                standing.amounts[name].per_cent(self.rules[name].line) for name in (AFFILIATES, BLOCKING)
            )
            root = standing.roots.get(standing.node)
            known = self._remembered[key] = _Facts(listed, blocked, root.country if root else None)
        return known

    def standing(self, party: Party, at: int) -> Standing:
        """Who owns a party at ``at`` (nanoseconds). In time and memory linear in the shares above it."""
        node = f"party:{party.id}"
        graph = closure(node, lambda each: self._shares(each, at))
        amounts = {
            name: aggregate(
                node, graph, self._counts_under(rule), rule.line, self.stated if name == AFFILIATES else _nothing
            )
            for name, rule in self.rules.items()
        }
        return Standing(node, graph, amounts, roots_of(graph, self.stated_root, self.country))

    def _counts_under(self, rule: OwnershipRule) -> Callable[[str], bool | None]:
        return lambda node: rule.counts(self.listings(node))

    def _shares(self, node: str, at: int) -> Sequence[Share]:
        party = self.party(node)
        if party is None or not party.owners:
            return ()
        held = [Share(owner.node, owner.share) for owner in party.owners if owner.holds_at(at)]
        return held or [Share(NOBODY, None)]

    # What is known of a node

    def party(self, node: str) -> Party | None:
        """The party of the registry that a node is."""
        kind, _, identifier = node.partition(":")
        return self._parties.by_id(identifier) if kind == "party" else None

    def name(self, node: str) -> str:
        """What a node is called."""
        party = self.party(node)
        if party is not None:
            return f"{party.name} ({party.id})"
        owner = self._named.get(node)
        return owner.name if owner else node.partition(":")[2]

    def country(self, node: str) -> str | None:
        """Where a node has its headquarters or residence."""
        known = self.party(node) or self._named.get(node)
        return known.country if known else None

    def listings(self, node: str) -> tuple[str, ...]:
        """The lists that a node stands on, sorted."""
        party = self.party(node)
        return party.listings if party else tuple(sorted(self._listings.get(node, ())))

    def stated(self, node: str) -> int:
        """What listed parties own of a node by the officer's own word, in millionths of a per cent."""
        party = self.party(node)
        return party.listed_ownership * 1_000_000 if party else 0

    def stated_root(self, node: str) -> Root | None:
        """Who stands above a node without anything to work out; an owner that is no party has nobody above it."""
        party = self.party(node)
        if party is None:
            return None if node == NOBODY else Root(node, self.country(node))
        if party.parent is None:
            return None
        if plain_name(party.parent.name) == plain_name(party.name):
            return Root(node, party.parent.country)
        above = self._parties.named(party.parent.name)
        return Root(f"party:{above.id}" if above else f"name:{plain_name(party.parent.name)}", party.parent.country)


def _nothing(_: str) -> int:
    return 0
