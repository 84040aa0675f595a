"""Faults and the report of a verification (evidence format, section 15)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Final

__all__ = ["Fault", "Faults", "Leaf", "Report", "StreamSeen", "shown"]

_MOST_KEPT: Final = 1_000
_MOST_KEPT_OF_ONE_CODE: Final = 200
_LONGEST_SHOWN: Final = 400
_INCOMPLETE: Final = "file.missing"

Leaf = tuple[str, int]
"""A leaf: its log id and its index."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: its code, the leaf where one can be named, what was expected and what is there."""

    code: str
    leaf: Leaf | None
    expected: str
    actual: str

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the JSON report."""
        leaf = None if self.leaf is None else {"log_id": self.leaf[0], "leaf_index": self.leaf[1]}
        return {"code": self.code, "leaf": leaf, "expected": self.expected, "actual": self.actual}


class Faults:
    """All faults are counted; a bounded number is kept, so that a hostile package cannot exhaust the verifier."""

    def __init__(self) -> None:
        self.kept: list[Fault] = []
        self.by_code: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many faults were found."""
        return self.by_code.total()

    def add(self, code: str, leaf: Leaf | None, expected: object, actual: object, *, count: int = 1) -> None:
        """Note a fault. ``count`` says how many of its kind it stands for."""
        if len(self.kept) < _MOST_KEPT and self.by_code[code] < _MOST_KEPT_OF_ONE_CODE:
            self.kept.append(Fault(code, leaf, shown(expected), shown(actual)))
        self.by_code[code] += count

    def extend(self, found: Faults) -> None:
        """Add what was found elsewhere, in its order."""
        kept = Counter(fault.code for fault in self.kept)
        for fault in found.kept:
            if len(self.kept) < _MOST_KEPT and kept[fault.code] < _MOST_KEPT_OF_ONE_CODE:
                self.kept.append(fault)
                kept[fault.code] += 1
        self.by_code.update(found.by_code)

    def room(self, code: str) -> int:
        """How many more faults of this code would be kept: callers name that many and count the rest."""
        return max(0, min(_MOST_KEPT - len(self.kept), _MOST_KEPT_OF_ONE_CODE - self.by_code[code]))


def shown(value: object) -> str:
    """A value of a hostile package as short text without control characters."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = value if isinstance(value, str) else str(value)
    clean = "".join(character if character.isprintable() else "\ufffd" for character in text[: _LONGEST_SHOWN + 1])
    return clean if len(clean) <= _LONGEST_SHOWN else f"{clean[:_LONGEST_SHOWN]}…"


@dataclass(slots=True)
class StreamSeen:
    """What the interval holds of one stream of an emitter."""

    emitter: str
    stream: str
    first: int
    last: int
    leaves: int
    closed: bool = False


@dataclass(slots=True)
class Report:
    """Result of a verification. ``verdict`` is VALID, INVALID or INCOMPLETE; ``exit_code`` 0, 1 or 2.

    Every list is bounded; the ``counts`` are exact.
    """

    verifier: str
    package: str
    package_digest: str | None = None
    deployment: str | None = None
    exported_at: int | None = None
    query: dict[str, Any] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    trusted_keys: list[str] = field(default_factory=list)
    """Ids of the keys that ``trust.json`` holds; ``keys`` are those of them that signed the manifest."""
    leaves_expected: int | None = None
    """Leaves of the data logs' intervals, as the manifest states these; ``counts`` has those that were found."""
    request: dict[str, Any] | None = None
    """The sealed request that the package answers."""
    recovery: dict[str, Any] | None = None
    """The deployment that this one goes on for, because it lost signed leaves, and what is left of its logs."""
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    anchors: dict[str, Any] = field(default_factory=dict)
    consistency: list[dict[str, Any]] = field(default_factory=list)
    """By log, whether it only grew since the checkpoint of an earlier package."""
    logs: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    determinations: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    streams: list[StreamSeen] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    """Records that came again: suppressed ones by batch, and leaves that repeat or contradict another."""
    unclosed_streams: list[dict[str, Any]] = field(default_factory=list)
    dangling_intents: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    not_proven: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    fault_counts: dict[str, int] = field(default_factory=dict)
    largest_clock_skew_seconds: float | None = None

    @property
    def verdict(self) -> str:
        """VALID, INVALID, or INCOMPLETE: a file named in the manifest is absent and nothing else is wrong."""
        if not self.fault_counts:
            return "VALID"
        return "INCOMPLETE" if set(self.fault_counts) == {_INCOMPLETE} else "INVALID"

    @property
    def exit_code(self) -> int:
        """0 valid, 1 invalid, 2 incomplete."""
        return {"VALID": 0, "INVALID": 1, "INCOMPLETE": 2}[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("streams", "faults")}
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            **values,
            "exported_at": None if self.exported_at is None else str(self.exported_at),
            "streams": [asdict(stream) for stream in self.streams],
            "faults": [fault.to_dict() for fault in self.faults],
            "faults_total": sum(self.fault_counts.values()),
        }

    def to_json(self) -> str:
        """The report as one JSON document."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
