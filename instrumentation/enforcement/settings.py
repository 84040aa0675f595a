"""Which classes are enforced, what refuses them, and what happens when nobody can say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ...semconv import EventClass

__all__ = ["ENFORCEABLE", "REFUSING", "DecideWith", "EnforcementSettings", "WithoutDecision"]

ENFORCEABLE: Final = frozenset(
    {EventClass.MODEL_TRANSFER.value, EventClass.ACCELERATOR_PROVISION.value, EventClass.ACCELERATOR_TRANSFER.value}
)
"""Classes whose hooks ask before they act. An access has begun when it is known, and is recorded only."""

REFUSING: Final = frozenset({"prohibited", "license_required", "review", "flagged"})
"""What may refuse: a governing outcome, or ``flagged`` for whatever a rule flags."""


class WithoutDecision(StrEnum):
    """What becomes of an action when no decision can be had."""

    OPEN = "open"
    """It goes on, and its records say why there was no decision."""

    CLOSED = "closed"
    """It is refused."""


class DecideWith(StrEnum):
    """Who decides."""

    SERVICE = "service"
    """``/v1/decide`` of the collector that the records go to."""

    PROCESS = "process"
    """This process, with the ``pipeline`` extra, from a data directory on this machine."""


@dataclass(frozen=True, slots=True)
class EnforcementSettings:
    """Settings of enforcement; part of ``InstrumentationSettings``."""

    classes: frozenset[str] = frozenset()
    """Event classes that are enforced; the others are recorded and never refused."""

    outcomes: frozenset[str] = frozenset({"prohibited", "license_required"})
    """What refuses, of ``REFUSING``."""

    without_decision: WithoutDecision = WithoutDecision.OPEN
    decide_with: DecideWith = DecideWith.SERVICE
    endpoint: str = ""
    """Base URL of the service that decides; ``/v1/decide`` is added. Empty: that of the records."""

    data_directory: str = ""
    """With ``process``: the data directory whose reference epoch decides."""

    timeout: float = 1.0
    """Seconds for the service's whole answer, all addresses of its name together. A decision in this process waits for
    nobody, and is not cut off.
    """

    largest_age: float = 3600.0
    """Seconds since the epoch was last known to be in force, beyond which it counts as stale; 0: no matter how old."""

    break_glass_reason: str = ""
    """Where set, refusals do not stop this process, and every record of one that did not carries this reason."""

    def covers(self, event_class: str) -> bool:
        """Whether this class is enforced."""
        return event_class in self.classes

    def closes(self, event_class: str) -> bool:
        """Whether an action of this class is refused when no decision can be had."""
        return self.covers(event_class) and self.without_decision is WithoutDecision.CLOSED
