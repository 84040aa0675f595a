"""What a replay reports: where journal, store and signatures do not say the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["EXIT_DIFFERENT", "EXIT_IDENTICAL", "EXIT_INCOMPLETE", "Fault", "Findings", "LogReport", "ReplayReport"]

EXIT_IDENTICAL: Final = 0
EXIT_DIFFERENT: Final = 1
EXIT_INCOMPLETE: Final = 2

_MOST_KEPT: Final = 1000
"""Faults of a log that are named one by one; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One difference. ``leaf`` is the index in the log, None where a fault is of no leaf.

    Codes: ``leaf.missing``, ``leaf.duplicate``, ``leaf.extra``, ``leaf.differs`` (the header), ``payload.differs``,
    ``salt.differs``, ``facts.differs``, ``column.differs``, ``determination.differs``, ``checkpoint.malformed``,
    ``checkpoint.origin``, ``checkpoint.signature``, ``checkpoint.differs``, ``root.differs``, ``node.differs``,
    ``journal.short``.
    """

    partition: str
    log_id: str
    leaf: int | None
    code: str
    column: str | None
    expected: str
    actual: str


class Findings:
    """Collects the faults and notes of one log."""

    def __init__(self, partition: str, log_id: str) -> None:
        self._partition = partition
        self._log_id = log_id
        self._leaves: set[int] = set()
        self.faults: list[Fault] = []
        self.counts: dict[str, int] = {}
        self.notes: list[str] = []
        self.incomplete: list[str] = []

    def add(
        self,
        code: str,
        leaf: int | None,
        expected: object,
        actual: object,
        *,
        column: str | None = None,
        count: int = 1,
    ) -> None:
        """Note ``count`` faults that ``leaf`` begins."""
        self.counts[code] = self.counts.get(code, 0) + count
        if leaf is not None and len(self._leaves) < _MOST_KEPT:
            self._leaves.add(leaf)
        if len(self.faults) < _MOST_KEPT:
            fault = Fault(self._partition, self._log_id, leaf, code, column, str(expected), str(actual))
            self.faults.append(fault)

    def note(self, text: str) -> None:
        """Say something that is no fault, once."""
        if text not in self.notes:
            self.notes.append(text)

    def not_derived(self, text: str) -> None:
        """Say what could not be derived again, once: without faults the replay is incomplete then."""
        if text not in self.incomplete:
            self.incomplete.append(text)

    def any_between(self, begin: int, end: int) -> bool:
        """Whether a fault of a leaf in ``[begin, end)`` is known."""
        return any(begin <= leaf < end for leaf in self._leaves)

    @property
    def too_many(self) -> bool:
        """Whether going on would only add to what nobody reads."""
        return len(self.faults) >= _MOST_KEPT


@dataclass(frozen=True, slots=True)
class LogReport:
    """One log. ``replayed_from`` is the first leaf that the journal could give again, equal to ``leaves`` when none."""

    partition: str
    log_id: str
    leaves: int
    replayed_from: int
    batches: int
    entries: int
    root: str
    checkpoints: int
    signed_to: int
    faults: list[Fault]
    fault_counts: dict[str, int]
    notes: list[str]
    not_derived: list[str]

    @property
    def state(self) -> str:
        """``identical``, ``different`` or ``incomplete``."""
        if self.fault_counts:
            return "different"
        return "incomplete" if self.not_derived else "identical"


@dataclass(slots=True)
class ReplayReport:
    """The whole deployment, the control log first."""

    deployment: str
    journal: str
    logs: list[LogReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 identical, 1 different, 2 nothing differs but not every leaf could be derived again."""
        states = {log.state for log in self.logs}
        if "different" in states:
            return EXIT_DIFFERENT
        return EXIT_INCOMPLETE if "incomplete" in states else EXIT_IDENTICAL

    @property
    def verdict(self) -> str:
        """One word for `exit_code`."""
        return {EXIT_IDENTICAL: "IDENTICAL", EXIT_DIFFERENT: "DIFFERENT", EXIT_INCOMPLETE: "INCOMPLETE"}[self.exit_code]

    def to_json(self) -> dict[str, Any]:
        """The report as a program reads it."""
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "deployment": self.deployment,
            "journal": self.journal,
            "notes": self.notes,
            "logs": [
                {
                    "partition": log.partition,
                    "log_id": log.log_id,
                    "state": log.state,
                    "leaves": log.leaves,
                    "replayed_from": log.replayed_from,
                    "batches": log.batches,
                    "entries": log.entries,
                    "root": log.root,
                    "checkpoints": log.checkpoints,
                    "signed_to": log.signed_to,
                    "fault_counts": log.fault_counts,
                    "faults": [
                        {
                            "code": fault.code,
                            "partition": fault.partition,
                            "log_id": fault.log_id,
                            "leaf": fault.leaf,
                            "column": fault.column,
                            "expected": fault.expected,
                            "actual": fault.actual,
                        }
                        for fault in log.faults
                    ],
                    "notes": log.notes,
                    "not_derived": log.not_derived,
                }
                for log in self.logs
            ],
        }
