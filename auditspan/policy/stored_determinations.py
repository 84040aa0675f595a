"""Stored determinations, each distinct one once: events that were judged alike are counted by the store.

Leaves are looked at in windows, so that memory is constant in their number; a document that occurs in many windows is
fetched and judged once, as long as no more than `MOST_REMEMBERED` are met in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from auditspan.store.contract import Store

from .recompute import times_of

__all__ = ["Group", "Interval", "StoredDeterminations"]

R = TypeVar("R")

MOST_REMEMBERED: Final = 50_000
_WINDOW: Final = 250_000
_DOCUMENTS: Final = 500
"""Fetched at once; a document has some 4 kB."""
_NEVER: Final = -1

_LOGS: Final = """
SELECT log_id, min(leaf_index) AS first, max(leaf_index) + 1 AS end, count() AS events
FROM auditspan.events
WHERE facts != '' AND events.arrival_time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
  AND events.arrival_time < fromUnixTimestamp64Nano({until:Int64}, 'UTC')
  AND ({epoch:Int64} < 0 OR reference_epoch = {epoch:Int64})
GROUP BY log_id ORDER BY log_id
"""

_WHERE: Final = """
WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64} AND leaf_index < {end:UInt64} AND facts != ''
  AND events.arrival_time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
  AND events.arrival_time < fromUnixTimestamp64Nano({until:Int64}, 'UTC')
  AND ({epoch:Int64} < 0 OR reference_epoch = {epoch:Int64})
"""

_KEY: Final = "lower(hex(sipHash128(facts)))"

# Every fault but this one demands at least a review (evidence format, section 5).
_GROUPS: Final = f"""
SELECT {_KEY} AS document, time_basis,
       roundDown(ifNull(toUnixTimestamp64Nano(events.event_time), toInt64(0)), {{times:Array(Int64)}}) AS at_event,
       roundDown(ifNull(toUnixTimestamp64Nano(events.arrival_time), toInt64(0)), {{times:Array(Int64)}}) AS at_arrival,
       length(faults) > countEqual(faults, 'time.end_before_start') AS demands_review,
       determination, flagged, destination_country AS destination, eccn, arrayStringConcat(rule_ids, '\\n') AS rules,
       count() AS events, min(leaf_index) AS leaf, argMin(record_id, leaf_index) AS record,
       toUnixTimestamp64Nano(min(assumeNotNull(events.arrival_time))) AS first,
       toUnixTimestamp64Nano(max(assumeNotNull(events.arrival_time))) AS last
FROM auditspan.events {_WHERE}
GROUP BY document, time_basis, at_event, at_arrival, demands_review, determination, flagged, destination, eccn, rules
ORDER BY leaf
"""  # noqa: S608 - composed of constants; values are parameters

_CONTENT: Final = f"""
SELECT {_KEY} AS document, CAST(any(facts), 'String') AS content
FROM auditspan.events {_WHERE} AND {_KEY} IN {{documents:Array(String)}}
GROUP BY document
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Interval:
    """Arrival times ``[since, until)`` in nanoseconds, of one reference epoch or of all (-1)."""

    since: int = 0
    until: int = 2**63 - 1
    epoch: int = -1

    def parameters(self) -> dict[str, int]:
        """For the statements here."""
        return {"since": self.since, "until": self.until, "epoch": self.epoch}


@dataclass(frozen=True, slots=True)
class Group:
    """Events of one log that were judged alike, in one window of leaves.

    Attributes:
        times: rule times, each the start of the span of ``boundaries`` that the event's own lies in.
        demands_review: a fault raises the determination to at least ``review``.
        determination, flagged, destination, eccn, rule_ids: what the headers say.
        leaf, record_id: of the first of them.
        first, last: arrival times, nanoseconds.
    """

    log_id: str
    times: tuple[int, ...]
    demands_review: bool
    determination: str
    flagged: bool
    destination: str | None
    eccn: str | None
    rule_ids: tuple[str, ...]
    events: int
    leaf: int
    record_id: str
    first: int
    last: int


class StoredDeterminations(Generic[R]):
    """Goes through stored determinations and has each distinct one judged.

    Args:
        store: only read.
        boundaries: instants, in order, between which a judgement does not depend on the rule time.
        judge: is given a facts document and its rule times.
    """

    def __init__(
        self,
        store: Store,
        boundaries: Sequence[int],
        judge: Callable[[bytes, tuple[int, ...]], R],
        window: int = _WINDOW,
    ) -> None:
        self._store = store
        self._boundaries = list(boundaries)
        self._judge = judge
        self._window = window
        self._known: dict[tuple[str, tuple[int, ...]], R] = {}
        self.judged = 0
        """Documents judged; the rest came from memory."""

    def walk(
        self, interval: Interval, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[tuple[Group, R]]:
        """Each group of an interval with its judgement. ``progress`` is told events done, of how many.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        logs = self._store.query(_LOGS, interval.parameters()).to_pylist()
        total = sum(log["events"] for log in logs)
        done = 0
        for log in logs:
            for begin in range(log["first"], log["end"], self._window):
                end = min(begin + self._window, log["end"])
                window = {"log_id": log["log_id"], "begin": begin, "end": end, **interval.parameters()}
                for group, judgement in self._in_window(window):
                    yield group, judgement
                    done += group.events
                progress(min(done, total), total)

    def _in_window(self, window: dict[str, Any]) -> Iterator[tuple[Group, R]]:
        rows = self._store.query(_GROUPS, {**window, "times": self._boundaries})
        waiting: dict[str, list[Group]] = {}
        for row in rows.to_pylist():
            group, document = _group(window["log_id"], row), row["document"]
            known = self._known.get((document, group.times), _NEVER)
            if known is not _NEVER:
                yield group, known  # type: ignore[misc]
                continue
            waiting.setdefault(document, []).append(group)
            if len(waiting) >= _DOCUMENTS:
                yield from self._fetched(window, waiting)
                waiting = {}
        if waiting:
            yield from self._fetched(window, waiting)

    def _fetched(self, window: dict[str, Any], waiting: dict[str, list[Group]]) -> Iterator[tuple[Group, R]]:
        found = self._store.query(_CONTENT, {**window, "documents": sorted(waiting)})
        for row in found.to_pylist():
            for group in waiting[row["document"]]:
                key = row["document"], group.times
                if key not in self._known:
                    if len(self._known) >= MOST_REMEMBERED:
                        self._known.clear()
                    self.judged += 1
                    self._known[key] = self._judge(row["content"].encode(), group.times)
                yield group, self._known[key]


def _group(log_id: str, row: dict[str, Any]) -> Group:
    return Group(
        log_id,
        times_of(row["time_basis"], row["at_event"], row["at_arrival"]),
        bool(row["demands_review"]),
        row["determination"],
        bool(row["flagged"]),
        row["destination"] or None,
        row["eccn"] or None,
        tuple(row["rules"].split("\n")) if row["rules"] else (),
        row["events"],
        row["leaf"],
        row["record"],
        row["first"],
        row["last"],
    )
