"""Which lists count under which rule on ownership, and from which share on: the ownership rules table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .errors import PolicyError
from .owners import WHOLE
from .tables import Table

__all__ = ["AFFILIATES", "BLOCKING", "OWNERSHIP_RULE_COLUMNS", "OwnershipRule", "ownership_rules"]

OWNERSHIP_RULE_COLUMNS: Final = ("rule", "list", "line", "source", "status")

AFFILIATES: Final = "affiliates"
"""The Affiliates Rule of BIS (90 FR 47201)."""
BLOCKING: Final = "blocking"
"""OFAC's rule on what blocked persons own."""


class OwnershipRule:
    """One of the rules.

    Attributes:
        name: `AFFILIATES` or `BLOCKING`.
        line: share from which what is owned counts as its owners do, in millionths of a per cent.
    """

    def __init__(self, name: str, line: int, counted: Iterable[str], not_counted: Iterable[str]) -> None:
        self.name = name
        self.line = line
        self._counted = frozenset(counted)
        self._known = self._counted | frozenset(not_counted)

    def counts(self, listings: Iterable[str]) -> bool | None:
        """Whether who stands on these lists counts by itself; None where a list is one that the table does not have."""
        found = frozenset(listings)
        return True if found & self._counted else None if found - self._known else False


def ownership_rules(table: Table) -> dict[str, OwnershipRule]:
    """The rules of the table, by name.

    Raises:
        PolicyError: an unknown rule or one without a list that counts, a list twice, another line than 1 to 100 or
            two of them in one rule.
    """
    lines: dict[str, int] = {}
    lists: dict[str, dict[str, bool]] = {AFFILIATES: {}, BLOCKING: {}}
    for row in table.rows:
        rule, name = row["rule"], row["list"]
        if rule not in lists:
            raise table.fault(row, f"there is no rule {rule!r} on ownership", f"Write {AFFILIATES} or {BLOCKING}.")
        if not name or name in lists[rule]:
            raise table.fault(row, f"the list {name!r} stands there twice or has no name", "Give each list one row.")
        line = table.integer(row, "line", least=1)
        lists[rule][name] = line is not None
        if line is None:
            continue
        if line > 100 or lines.setdefault(rule, line) != line:
            raise table.fault(row, f"line is {line}", "Give one line for each rule, in per cent, at most 100.")
    for rule in lists:
        if rule not in lines:
            raise PolicyError(
                f"the rule {rule!r} has no list that counts", file=table.file, line=1, remedy="Add a row with a line."
            )
    return {
        rule: OwnershipRule(
            rule,
            line * (WHOLE // 100),
            (name for name, counts in lists[rule].items() if counts),
            (name for name, counts in lists[rule].items() if not counts),
        )
        for rule, line in lines.items()
    }
