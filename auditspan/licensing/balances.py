"""Balances of licenses: a fold over the rounds of allocations in the order of the control log.

A ``license.allocation`` entry is one **round**: it is numbered, and holds what one look at the data logs came to. Of
several with one number the first in the control log counts, and one whose number is not the next does not: whoever
wrote it had not seen the round before it. So each round rests on exactly the balances that those before it left, and
two that both believe they own the control log cannot allocate twice (docs/decisions/0012-license-allocation.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from auditspan.canonical import JsonValue
from auditspan.policy.licenses import Licenses

from .allocation import Allocation, AllocationOutcome, Balance, Event, judge

__all__ = ["MOST_IN_A_ROUND", "Balances", "balances", "round_of"]

MOST_IN_A_ROUND: Final = 16
"""Allocations of one round: a control entry must fit a leaf of 65,535 bytes."""
_LONGEST_ID: Final = 128
_NO_LICENSE: Final = ""


class Balances:
    """What the rounds so far come to.

    Attributes:
        number: of the last round that counts; 0 before the first.
        considered: by data log, the leaf before which every event was considered.
        of: by license number; events that named a license that no register has are counted under the empty text.
    """

    def __init__(self) -> None:
        self.number = 0
        self.considered: dict[str, int] = {}
        self.of: dict[str, Balance] = {}

    def copy(self) -> Balances:
        """An independent copy."""
        made = Balances()
        made.number, made.considered, made.of = self.number, dict(self.considered), dict(self.of)
        return made

    def apply(self, body: Mapping[str, Any]) -> bool:
        """Take a round in, by the body of its control entry; whether it counts."""
        if int(body["number"]) != self.number + 1:
            return False
        self.number += 1
        for one in body["allocations"]:
            covered = one["outcome"] == AllocationOutcome.COVERED
            self._take(one["license"], int(one["quantity"] or 0) if covered else 0)
        for log_id, leaf in body["considered"].items():
            self.considered[log_id] = max(self.considered.get(log_id, 0), int(leaf))
        return True

    def take(self, allocation: Allocation) -> int:
        """Take one allocation in; its sequence in its license, from 1."""
        return self._take(allocation.license, allocation.taken)

    def _take(self, number: str | None, taken: int) -> int:
        name = number if number is not None else _NO_LICENSE
        before = self.of.get(name, Balance())
        self.of[name] = Balance(before.sequence + 1, before.used + taken)
        return before.sequence + 1


def balances(bodies: Iterable[Mapping[str, Any]]) -> Balances:
    """The balances after these rounds, in the order of the control log."""
    found = Balances()
    for body in bodies:
        found.apply(body)
    return found


def round_of(
    before: Balances, events: Sequence[tuple[Event, Licenses]], considered: Mapping[str, int]
) -> dict[str, JsonValue] | None:
    """The next round: what these events come to, in this order; None where none of them asks for a license.

    Args:
        before: is not changed.
        events: each with the register of its reference epoch, `MOST_IN_A_ROUND` at most.
        considered: by data log, the leaf before which every event is among ``events`` or was considered earlier.
    """
    after = before.copy()
    allocations: list[JsonValue] = []
    for event, register in events:
        found = judge(event, register, after.of)
        if found is None:
            continue
        allocations.append(
            {
                "license": found.license,
                "sequence": after.take(found),
                "log_id": event.log_id,
                "leaf_index": event.leaf_index,
                "record_id": event.record_id[:_LONGEST_ID],
                "outcome": str(found.outcome),
                "quantity": found.quantity,
                "remaining": found.remaining,
                "reference_epoch": event.epoch,
                "why": found.why,
            }
        )
    if not allocations:
        return None
    return {"number": before.number + 1, "considered": dict(considered), "allocations": allocations}
