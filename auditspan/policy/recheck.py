"""Every determination of a stored interval made again, from the stored facts and the epoch that its batch names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from auditspan.semconv import DETERMINED
from auditspan.store.contract import Store

from .recompute import Recomputer, UnreadableFacts, differences, stated_in
from .stored_determinations import Group, Interval, StoredDeterminations
from .stored_epochs import EpochNotKept, StoredEpochs

__all__ = ["Differing", "RecheckReport", "recheck"]

EXIT_IDENTICAL: Final = 0
EXIT_DIFFERENT: Final = 1
EXIT_INCOMPLETE: Final = 2

_MOST_KEPT: Final = 1_000
_EPOCHS: Final = """
SELECT reference_epoch AS epoch, count() AS events FROM auditspan.events
WHERE facts != '' AND events.arrival_time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
  AND events.arrival_time < fromUnixTimestamp64Nano({until:Int64}, 'UTC')
GROUP BY epoch ORDER BY epoch
"""
_WITHOUT_FACTS: Final = """
SELECT log_id, reference_epoch AS epoch, count() AS events, min(leaf_index) AS leaf,
       argMin(record_id, leaf_index) AS record, argMin(determination, leaf_index) AS determined
FROM auditspan.events
WHERE facts = '' AND determination != '' AND class IN {classes:Array(String)}
  AND events.arrival_time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
  AND events.arrival_time < fromUnixTimestamp64Nano({until:Int64}, 'UTC')
GROUP BY log_id, epoch ORDER BY log_id, epoch
"""
_NAMED: Final = """
SELECT DISTINCT JSONExtractInt(header, 'body', 'epoch', 'number') AS epoch,
       JSONExtractString(header, 'body', 'epoch', 'digest') AS digest
FROM auditspan.events WHERE class = 'audit.batch' AND payload = '' ORDER BY epoch, digest
"""


@dataclass(frozen=True, slots=True)
class Differing:
    """Events of one log that were judged alike, and come out otherwise: the first of them is named."""

    log_id: str
    leaf: int
    record_id: str
    events: int
    epoch: int
    fields: tuple[tuple[str, Any, Any], ...]
    """Name, stored value, value made again."""

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "log_id": self.log_id,
            "leaf": self.leaf,
            "record_id": self.record_id,
            "events": self.events,
            "epoch": self.epoch,
            "fields": [{"field": name, "stored": stored, "recomputed": again} for name, stored, again in self.fields],
        }


@dataclass(slots=True)
class RecheckReport:
    """What a recheck found.

    Attributes:
        events: determinations made again.
        documents: distinct documents among them, each at its rule time; once more where memory was short.
        differing: at most 1,000, and how many events in all.
        not_recomputed: why events of an epoch could not be judged again, and how many there are.
    """

    events: int = 0
    documents: int = 0
    differing: list[Differing] = field(default_factory=list)
    differing_events: int = 0
    epochs: dict[int, int] = field(default_factory=dict)
    not_recomputed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 identical, 1 different, 2 nothing differs and not all could be judged again."""
        if self.differing_events:
            return EXIT_DIFFERENT
        return EXIT_INCOMPLETE if self.not_recomputed else EXIT_IDENTICAL

    @property
    def verdict(self) -> str:
        """In one word."""
        return ("identical", "different", "incomplete")[self.exit_code]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "verdict": self.verdict,
            "events": self.events,
            "documents": self.documents,
            "epochs": [{"epoch": number, "events": events} for number, events in sorted(self.epochs.items())],
            "differing_events": self.differing_events,
            "differing": [each.to_json() for each in self.differing],
            "not_recomputed": self.not_recomputed,
        }


def recheck(
    store: Store,
    epochs: StoredEpochs,
    interval: Interval,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RecheckReport:
    """Makes every determination of ``interval`` again and compares bytes; nothing is written.

    Compared are the facts document, and what the header says beside it: determination, flag, destination, ECCN, rules.
    An event with a determination and without facts differs.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    report = RecheckReport()
    _without_facts(store, interval, report)
    named: dict[int, set[str]] = {}
    for row in store.query(_NAMED).to_pylist():
        named.setdefault(row["epoch"], set()).add(row["digest"])
    found = store.query(_EPOCHS, interval.parameters()).to_pylist()
    total, before = sum(row["events"] for row in found), 0
    for row in found:
        number = row["epoch"]

        def advance(done: int, _: int, before: int = before) -> None:
            progress(min(before + done, total), total)

        try:
            if named.get(number, set()) - {epochs.digest(number)}:
                raise EpochNotKept(
                    f"batches name another epoch {number} than the control log activated",
                    remedy="Look into it: auditspan replay --verify.",
                )
            _epoch(store, epochs, number, interval, report, advance)
        except EpochNotKept as error:
            report.not_recomputed.append(
                {"epoch": number, "events": row["events"], "reason": error.message, "remedy": error.remedy}
            )
        before += row["events"]
    return report


def _without_facts(store: Store, interval: Interval, report: RecheckReport) -> None:
    """What was judged always has its facts: where they are gone, the determination rests on nothing.

    A span in quarantine or of an unknown class is to be reviewed and was not judged (evidence format, section 6).
    """
    classes = sorted(map(str, DETERMINED))
    for row in store.query(_WITHOUT_FACTS, {**interval.parameters(), "classes": classes}).to_pylist():
        fields = (("facts", None, "the facts document"), ("header.determination", row["determined"], None))
        report.differing_events += row["events"]
        if len(report.differing) < _MOST_KEPT:
            report.differing.append(
                Differing(row["log_id"], row["leaf"], row["record"], row["events"], row["epoch"], fields)
            )


def _epoch(
    store: Store,
    epochs: StoredEpochs,
    number: int,
    interval: Interval,
    report: RecheckReport,
    progress: Callable[[int, int], None],
) -> None:
    recomputer = Recomputer(epochs.reference(number))
    groups = StoredDeterminations(store, recomputer.engine.boundaries, lambda doc, at: _judged(recomputer, doc, at))
    for group, (fields, says) in groups.walk(Interval(interval.since, interval.until, number), progress):
        report.events += group.events
        report.epochs[number] = report.epochs.get(number, 0) + group.events
        differing = fields if says is None else (*fields, *_header(group, says))
        if not differing:
            continue
        report.differing_events += group.events
        if len(report.differing) < _MOST_KEPT:
            report.differing.append(
                Differing(group.log_id, group.leaf, group.record_id, group.events, number, differing)
            )
    report.documents += groups.judged


_Fields = tuple[tuple[str, Any, Any], ...]
_Judged = tuple[_Fields, "tuple[Any, Any, Any, Any, Any, Any] | None"]


def _judged(recomputer: Recomputer, document: bytes, times: Sequence[int]) -> _Judged:
    """Where a document differs from itself judged again, and what it makes a header say."""
    try:
        stated = stated_in(document)
        again = recomputer.document(document, times)
    except UnreadableFacts as error:
        return (("facts", error.message, None),), None
    says = (
        stated.governing, stated.at_least_review, stated.flagged, stated.destination, stated.eccn, stated.rule_ids,
    )  # fmt: skip
    return tuple(differences(document, again)), says


def _header(group: Group, says: tuple[Any, ...]) -> list[tuple[str, Any, Any]]:
    """Where a header says something else than its document."""
    governing, at_least_review, flagged, destination, eccn, rule_ids = says
    wanted = at_least_review if group.demands_review else governing
    pairs = (
        ("header.determination", group.determination, wanted),
        ("header.flagged", group.flagged, flagged),
        ("header.destination", group.destination, destination),
        ("header.eccn", group.eccn, eccn),
        ("header.rule_ids", list(group.rule_ids), list(rule_ids)),
    )
    return [(name, stored, said) for name, stored, said in pairs if stored != said]
