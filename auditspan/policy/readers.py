"""Which conditions read which facts: events in a row differ in few facts, and few conditions read those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .conditions import Condition, Truth
from .facts import FactValue

__all__ = ["Readers", "changed_names"]


class Readers:
    """Conditions by the facts that they read.

    Args:
        conditions: each with the names of the facts that it reads.
    """

    def __init__(self, conditions: Iterable[tuple[Condition, frozenset[str]]]) -> None:
        self._conditions: list[Condition] = []
        self._by_name: dict[str, set[int]] = {}
        for number, (condition, reads) in enumerate(conditions):
            self._conditions.append(condition)
            for name in reads:
                self._by_name.setdefault(name, set()).add(number)

    def hold_as_before(self, truths: Sequence[Truth], values: Mapping[str, FactValue], changed: Iterable[str]) -> bool:
        """Whether all conditions that read one of the ``changed`` facts come out as ``truths`` says, by number."""
        numbers = set().union(*(self._by_name.get(name, ()) for name in changed))
        return all(self._conditions[number](values) is truths[number] for number in numbers)


def changed_names(names: Sequence[str], before: Sequence[object], after: Sequence[object]) -> list[str]:
    """The names whose values differ, of two rows of values. A truth value and a number are not the same."""
    return [
        name
        for name, one, other in zip(names, before, after, strict=True)
        if one is not other and (one != other or type(one) is not type(other))
    ]
