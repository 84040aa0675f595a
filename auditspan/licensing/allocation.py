"""What one event takes of one license: pure, and the same for whoever asks again.

The terms of a license are the register's of the event's own reference epoch: a license that is registered later does
not cover what was exported before.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from auditspan.policy.accelerator_names import normal_name
from auditspan.policy.licenses import MODEL_PREFIX, TRANSFER, License, Licenses, is_license_number
from auditspan.policy.owners import plain_name
from auditspan.policy.rule_time import WASHINGTON
from auditspan.semconv import EventClass

__all__ = ["Allocation", "AllocationOutcome", "Balance", "Event", "Named", "allocate", "candidates", "judge"]

_TRANSFERS: Final = frozenset({EventClass.MODEL_TRANSFER, EventClass.ACCELERATOR_TRANSFER})
_SHOWN: Final = 60


class AllocationOutcome(StrEnum):
    """What came of an event that asked for a license."""

    COVERED = "covered"
    EXHAUSTED = "exhausted"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_END_USER = "wrong_end_user"
    WRONG_ITEM = "wrong_item"
    WRONG_EXPORTER = "wrong_exporter"
    WRONG_CONSIGNEE = "wrong_consignee"
    UNKNOWN_LICENSE = "unknown_license"
    UNKNOWN_QUANTITY = "unknown_quantity"


@dataclass(frozen=True, slots=True)
class Named:
    """A party of an event: ``said`` as it is shown (empty: nobody is named), ``names`` all that it goes by."""

    said: str = ""
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, *names: str | None) -> Named:
        """The party that goes by these names, the first of which is shown."""
        given = [name for name in names if name]
        return cls(given[0], frozenset(map(plain_name, given))) if given else cls()

    def is_among(self, names: tuple[str, ...]) -> bool:
        """Whether one of ``names`` is one of its own, case and surrounding space aside."""
        return any(plain_name(name) in self.names for name in names)


@dataclass(frozen=True, slots=True)
class Event:
    """A sealed event that needs a license.

    Attributes:
        log_id, leaf_index: where it is sealed.
        epoch: number of the reference epoch that judged it.
        times: rule times in nanoseconds; a license must be valid at each of them.
        consignee: who receives it; the end user where no other is named.
        eccn: of the item, as determined or else declared; empty: not known.
        accelerator: model of the accelerator as in the accelerators table; empty: none, or not known.
        model: name of the AI model; empty: none, or not known.
        quantity: accelerators; None: not known.
        declared: what ``export_control.license`` says; None: nothing.
    """

    log_id: str
    leaf_index: int
    record_id: str
    event_class: str
    epoch: int
    times: tuple[int, ...]
    exporter: Named
    end_user: Named
    consignee: Named
    eccn: str
    accelerator: str
    model: str
    quantity: int | None
    declared: str | None


@dataclass(frozen=True, slots=True)
class Balance:
    """What was taken of a license: how many events asked, and how many units those took that it covers."""

    sequence: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class Allocation:
    """What came of it.

    Attributes:
        license: number as the register has it; None where the register has none such.
        quantity: units that the event takes, or would take; None: not known.
        remaining: units left after it; None: the license has no limit, or is not known.
        why: a sentence.
    """

    license: str | None
    outcome: AllocationOutcome
    quantity: int | None
    remaining: int | None
    why: str

    @property
    def taken(self) -> int:
        """Units by which the balance changes."""
        return (self.quantity or 0) if self.outcome is AllocationOutcome.COVERED else 0


def judge(event: Event, register: Licenses, balance_of: dict[str, Balance]) -> Allocation | None:
    """What the register gives the event; None where no license is asked for.

    The license that the event declares, or, where it declares none, the first that covers it of those that name its end
    user and its item, the one that ends first before others. Where none of them does, the last one says why. An event
    that declares an exception takes no license.

    Args:
        event: sealed, and determined to need a license.
        register: of its reference epoch.
        balance_of: what was taken before, by number.
    """
    if event.declared is not None:
        if not is_license_number(event.declared):
            return None
        declared = register.find(event.declared)
        if declared is None:
            return Allocation(
                None,
                AllocationOutcome.UNKNOWN_LICENSE,
                None,
                None,
                f"The register of reference epoch {event.epoch} has no license {_short(event.declared)}.",
            )
        return allocate(declared, balance_of.get(declared.number, Balance()), event)
    found = None
    for license_ in candidates(event, register):
        found = allocate(license_, balance_of.get(license_.number, Balance()), event)
        if found.outcome is AllocationOutcome.COVERED:
            break
    return found


def candidates(event: Event, register: Licenses) -> Iterator[License]:
    """Licenses that name the event's end user and item: the one that ends first before others, then by number."""
    return (one for one in register if event.end_user.is_among(one.end_users) and _names_item(one, event))


def allocate(license_: License, balance: Balance, event: Event) -> Allocation:
    """Whether ``license_`` covers ``event`` after ``balance`` was taken of it, and why."""
    limit = license_.quantity
    left = None if limit is None else max(0, limit - balance.used)
    quantity = 1 if license_.unit == TRANSFER else event.quantity
    name = f"License {license_.number}"

    def refused(outcome: AllocationOutcome, why: str) -> Allocation:
        return Allocation(license_.number, outcome, quantity, left, f"{name} {why}")

    if min(event.times) < license_.begins:
        return refused(
            AllocationOutcome.NOT_YET_VALID,
            f"is valid from {license_.valid_from}, and the event is of {_day(min(event.times))}.",
        )
    if max(event.times) >= license_.ends:
        return refused(
            AllocationOutcome.EXPIRED,
            f"was valid to {license_.valid_to}, and the event is of {_day(max(event.times))}.",
        )
    if license_.exporter and not event.exporter.is_among((license_.exporter,)):
        who = _short(event.exporter.said) or "nobody that the deployment names: set policy.exporter"
        return refused(
            AllocationOutcome.WRONG_EXPORTER, f"is {_short(license_.exporter)}'s, and the exporter is {who}."
        )
    if not _names_item(license_, event):
        item = event.accelerator or event.model or "an item that is not known"
        said = f"{_short(item)}{f' ({_short(event.eccn)})' if event.eccn else ''}"
        return refused(AllocationOutcome.WRONG_ITEM, f"covers {_listed(license_.items)}, and the item is {said}.")
    if not event.end_user.is_among(license_.end_users):
        who = _short(event.end_user.said) or "not known"
        return refused(
            AllocationOutcome.WRONG_END_USER, f"names {_listed(license_.end_users)}, and the end user is {who}."
        )
    if license_.consignees and event.event_class in _TRANSFERS and not event.consignee.is_among(license_.consignees):
        who = _short(event.consignee.said) or "not known"
        return refused(
            AllocationOutcome.WRONG_CONSIGNEE,
            f"names {_listed(license_.consignees)} as consignee, and the consignee is {who}.",
        )
    if not quantity:
        return refused(
            AllocationOutcome.UNKNOWN_QUANTITY,
            f"counts {_units(license_, 2)}, and how many the event is about is not known.",
        )
    if left is not None and quantity > left:
        return refused(
            AllocationOutcome.EXHAUSTED,
            f"has {left} of {limit} {_units(license_, limit or 0)} left, and the event takes {quantity}.",
        )
    if left is None:
        why = f"covers {quantity} {_units(license_, quantity)}, and has no limit."
    else:
        left -= quantity
        why = f"covers {quantity} {_units(license_, quantity)}, and {_left(left, limit)}."
    return Allocation(license_.number, AllocationOutcome.COVERED, quantity, left, f"{name} {why}")


def _names_item(license_: License, event: Event) -> bool:
    return any(_is(item, event) for item in license_.items)


def _is(item: str, event: Event) -> bool:
    if item.startswith(MODEL_PREFIX):
        return bool(event.model) and plain_name(item[len(MODEL_PREFIX) :]) == plain_name(event.model)
    if event.eccn and (event.eccn == item or event.eccn.startswith(f"{item}.")):
        return True
    return bool(event.accelerator) and normal_name(item) == normal_name(event.accelerator)


def _units(license_: License, count: int) -> str:
    return license_.unit if count == 1 else f"{license_.unit}s"


def _left(left: int, limit: int | None) -> str:
    return f"{left} of {limit} {'is' if left == 1 else 'are'} left"


def _day(time: int) -> str:
    """The day in Washington, by which a license begins and ends."""
    return datetime.datetime.fromtimestamp(time // 10**9, WASHINGTON).date().isoformat()


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(map(_short, names[:2]))
    return shown if len(names) <= 2 else f"{shown} and {len(names) - 2} more"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
