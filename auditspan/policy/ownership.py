"""What follows from shares: how much of a party listed ones own, and who stands above it. Pure arithmetic.

The 50 per cent rule (OFAC's guidance of 2014-08-13; the Affiliates Rule, 90 FR 47201) adds up the shares of all owners
that count, and is recursive: a party that they own up to the line counts with the whole of its own shares in the next
step, and one that they own less of does not count at all. Of owners in a circle only those count that owners outside
of it, or listed ones in it, make count: the least fixed point.

What nobody knows, a share that is null or a part of a party that no owner is named for, may be anybody's. So every
amount has two ends: what surely belongs to owners that count, and what may.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .owners import WHOLE

__all__ = ["Amount", "Root", "Share", "aggregate", "closure", "open_part", "roots_of"]

Node = str
"""A party or an owner, by a name of its own."""

_HALF: Final = WHOLE // 2


@dataclass(frozen=True, slots=True)
class Share:
    """A share of something at one moment: in millionths of a per cent, None where not known."""

    owner: Node
    held: int | None


OwnersOf = Callable[[Node], Sequence[Share]]
"""The owners of a node at one moment; none where no owner is known of it at any time."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of a node owners that count have together, in millionths of a per cent.

    Attributes:
        low, high: what surely is theirs, and what may be.
        order: the nodes that surely count, in the order in which they came to.
        possible: the nodes that may count, these included.
    """

    low: int
    high: int
    order: Mapping[Node, int]
    possible: Mapping[Node, int]

    def per_cent(self, line: int) -> int | None:
        """The amount as one number in per cent, rounded down: for comparison with ``line`` (millionths of a per cent).

        Surely at the line or above: what is sure. Surely below: the most that it can be. None where it may be both.
        """
        if self.low >= line:
            return self.low // (WHOLE // 100)
        return self.high // (WHOLE // 100) if self.high < line else None


@dataclass(frozen=True, slots=True)
class Root:
    """Who stands above a node, the node itself where nobody does. ``country`` is None where it is not known."""

    node: Node
    country: str | None


def closure(node: Node, owners_of: OwnersOf) -> dict[Node, Sequence[Share]]:
    """``node`` and all that own of it, directly or through others, each with its owners."""
    found: dict[Node, Sequence[Share]] = {}
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found[each] = owners_of(each)
            waiting += [share.owner for share in reversed(found[each])]
    return found


def open_part(shares: Sequence[Share]) -> int:
    """What of a node nobody is known to own; 0 where no owners are stated at all."""
    return WHOLE - sum(share.held or 0 for share in shares) if shares else 0


def aggregate(
    node: Node,
    graph: Mapping[Node, Sequence[Share]],
    counts: Callable[[Node], bool | None],
    line: int,
    stated: Callable[[Node], int] = lambda node: 0,
) -> Amount:
    """How much of ``node`` owners that count have together.

    Args:
        node: one of ``graph``.
        graph: its `closure`.
        counts: whether a node counts by itself, being listed; None where it cannot be told.
        line: from which amount on what is owned counts as its owners do.
        stated: an amount that is stated of a node, beside its owners: the greater stands.
    """
    owned: dict[Node, list[tuple[Node, int]]] = {}
    for each, shares in graph.items():
        for share in shares:
            if share.held:
                owned.setdefault(share.owner, []).append((each, share.held))
    unknown = {each: open_part(shares) for each, shares in graph.items()}
    sure, order = _least(graph, owned, lambda each: counts(each) is True or stated(each) >= line, {}, line)
    may, possible = _least(graph, owned, lambda each: counts(each) is not False or stated(each) >= line, unknown, line)
    return Amount(max(sure.get(node, 0), stated(node)), max(may.get(node, 0), stated(node)), order, possible)


def _least(
    graph: Iterable[Node],
    owned: Mapping[Node, Sequence[tuple[Node, int]]],
    seed: Callable[[Node], bool],
    begin: Mapping[Node, int],
    line: int,
) -> tuple[dict[Node, int], dict[Node, int]]:
    """The least fixed point: amounts by node, and the nodes that count, in order."""
    amounts = dict(begin)
    order: dict[Node, int] = {}
    waiting = deque(each for each in graph if seed(each) or amounts.get(each, 0) >= line)
    while waiting:
        each = waiting.popleft()
        if each in order:
            continue
        order[each] = len(order)
        for other, held in owned.get(each, ()):
            amounts[other] = amounts.get(other, 0) + held
            if amounts[other] >= line and other not in order:
                waiting.append(other)
    return amounts, order


def roots_of(
    graph: Mapping[Node, Sequence[Share]],
    known: Callable[[Node], Root | None],
    country: Callable[[Node], str | None] = lambda node: None,
) -> dict[Node, Root]:
    """Who stands above each node, its ultimate parent, as far as that can be told.

    Whoever has more than half of a node, alone or through others below it, stands above it; where nobody can have as
    much as half, nobody does. In between, and in a circle that nobody outside of it stands above, it cannot be told.

    Args:
        graph: the `closure` of a node.
        known: who is stated to stand above a node, and of one without owners who does; None where nobody knows.
        country: of a node, for one that nobody stands above.
    """
    roots: dict[Node, Root] = {}
    owned: dict[Node, list[Node]] = {}
    for each, shares in graph.items():
        for share in shares:
            owned.setdefault(share.owner, []).append(each)
    stated = {each: known(each) for each in graph}
    waiting = deque(graph)
    while waiting:
        each = waiting.popleft()
        if each in roots:
            continue
        root = stated[each] or (_root(each, graph[each], roots, country) if graph[each] else None)
        if root is not None:
            roots[each] = root
            waiting.extend(other for other in owned.get(each, ()) if other not in roots)
    return roots


def _root(
    node: Node, shares: Sequence[Share], roots: Mapping[Node, Root], country: Callable[[Node], str | None]
) -> Root | None:
    groups: dict[Node, int] = {}
    countries: dict[Node, set[str | None]] = {}
    unknown = open_part(shares)
    for share in shares:
        root = roots.get(share.owner)
        if root is None:
            unknown += share.held or 0
        else:
            groups[root.node] = groups.get(root.node, 0) + (share.held or 0)
            countries.setdefault(root.node, set()).add(root.country)
    for above, held in groups.items():
        if held > _HALF:
            found = countries[above]
            return Root(above, found.pop() if len(found) == 1 else None)
    if max(groups.values(), default=0) + unknown >= _HALF:
        return None
    return Root(node, country(node))
