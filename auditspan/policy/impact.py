"""Which stored events would be judged otherwise under other packs, or at another date.

Each distinct stored facts document is judged once more at each rule time that makes a difference. What was resolved
when the event was sealed, such as the specification of an accelerator, is taken as it was; and where evidence
conflicted, the place that was judged is judged again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from auditspan.store.contract import Store

from .recompute import Recomputer, Stated, UnreadableFacts, stated_by, stated_in
from .reference import Reference
from .stored_determinations import Group, Interval, StoredDeterminations

__all__ = ["Change", "ImpactReport", "impact"]

_MOST_KINDS: Final = 5_000
"""Kinds of change that are told apart; what is beyond them is counted together."""


@dataclass(slots=True)
class Change:
    """Events that change in the same way, with the first of them as an example. Times in nanoseconds."""

    before: str
    after: str
    flagged_before: bool
    flagged_after: bool
    rules_added: tuple[str, ...]
    rules_removed: tuple[str, ...]
    also: tuple[str, ...]
    """What else changes: ``text``, ``enforced``, ``eccn``."""
    log_id: str
    leaf: int
    record_id: str
    first: int
    last: int
    events: int = 0

    def to_json(self, moment: Callable[[int], Any]) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "events": self.events,
            "before": self.before,
            "after": self.after,
            "flagged_before": self.flagged_before,
            "flagged_after": self.flagged_after,
            "rules_added": list(self.rules_added),
            "rules_removed": list(self.rules_removed),
            "also": list(self.also),
            "example": {"record_id": self.record_id, "log_id": self.log_id, "leaf": self.leaf},
            "first": moment(self.first),
            "last": moment(self.last),
        }


@dataclass(slots=True)
class ImpactReport:
    """What would change.

    Attributes:
        events: looked at.
        documents: distinct documents judged, each at its rule time.
        unreadable: events whose facts document is none.
        changes: in order of events, most first.
        in_shadow: proposals that would stand beside, by rule and outcome, and did not: events.
        not_told_apart: events that change in yet other ways than the 5,000 that are told apart.
    """

    events: int = 0
    documents: int = 0
    unreadable: int = 0
    changes: list[Change] = field(default_factory=list)
    in_shadow: dict[tuple[str, str], int] = field(default_factory=dict)
    not_told_apart: int = 0

    @property
    def changed(self) -> int:
        """Events of which anything changes."""
        return sum(change.events for change in self.changes) + self.not_told_apart


@dataclass(frozen=True, slots=True)
class _Judged:
    before: Stated
    after: Stated
    shadow: tuple[tuple[str, str], ...]


def impact(
    store: Store,
    reference: Reference,
    interval: Interval,
    at: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImpactReport:
    """Judges the stored events of ``interval`` under ``reference``, each at its own rule time, or all at ``at``.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    recomputer = Recomputer(reference)
    boundaries = recomputer.engine.boundaries if at is None else (at,)
    groups = StoredDeterminations(store, boundaries, lambda document, times: _judged(recomputer, document, times))
    report = ImpactReport()
    kinds: dict[tuple[Any, ...], Change] = {}
    for group, judged in groups.walk(interval, progress):
        report.events += group.events
        if judged is None:
            report.unreadable += group.events
            continue
        for named in judged.shadow:
            report.in_shadow[named] = report.in_shadow.get(named, 0) + group.events
        _count(report, kinds, group, judged)
    report.documents = groups.judged
    report.changes = sorted(kinds.values(), key=lambda change: (-change.events, change.log_id, change.leaf))
    return report


def _judged(recomputer: Recomputer, document: bytes, times: Sequence[int]) -> _Judged | None:
    try:
        before = stated_in(document)
        determinations = recomputer.determinations(document, times)
    except UnreadableFacts:
        return None
    shadow = {
        (entry.rule.id, entry.outcome)
        for determination in determinations
        for entry in determination.verdict.entries
        if entry.authority == "proposal"
    }
    # Canonical JSON: what names a rule is written in one way.
    new = (named for named in shadow if f'"id":"{named[0]}","outcome":"{named[1]}"'.encode() not in document)
    return _Judged(before, stated_by(determinations), tuple(sorted(new)))


def _count(report: ImpactReport, kinds: dict[tuple[Any, ...], Change], group: Group, judged: _Judged) -> None:
    before, after = judged.before, judged.after
    new = after.at_least_review if group.demands_review else after.governing
    also = tuple(name for name in ("text", "enforced", "eccn") if getattr(before, name) != getattr(after, name))
    added = tuple(sorted(set(after.rule_ids) - set(group.rule_ids)))
    removed = tuple(sorted(set(group.rule_ids) - set(after.rule_ids)))
    kind = (group.determination, new, group.flagged, after.flagged, added, removed, also)
    if not (added or removed or also) and kind[0] == kind[1] and kind[2] == kind[3]:
        return
    change = kinds.get(kind)
    if change is None:
        if len(kinds) >= _MOST_KINDS:
            report.not_told_apart += group.events
            return
        change = kinds[kind] = Change(*kind, group.log_id, group.leaf, group.record_id, group.first, group.last)
    change.events += group.events
    change.first, change.last = min(change.first, group.first), max(change.last, group.last)
