"""What ``SUMMARY.html`` says, gathered while an export writes its files: nothing that is not in these files.

Memory does not depend on the number of leaves: groups, streams and lists are bounded, and what is beyond is counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from auditspan import semconv
from auditspan.ledger.payload_attributes import payload_attributes
from auditspan.semconv import EventClass

from .bounded import HOUR, Groups, Timeline
from .headers import is_log_leaf

__all__ = ["LogSeen", "Stream", "Summary"]

_MOST_STREAMS: Final = 5_000
_MOST_GAPS: Final = 200
_MOST_FLAGGED: Final = 500
_CLOSED: Final = str(EventClass.STREAM_CLOSED)
_QUARANTINED: Final = str(EventClass.QUARANTINED)
_LATER_FINDINGS: Final = (str(EventClass.EXPORT_FINDING), str(EventClass.SCREENING_RESCREENED))
_TOLD: Final = ("record_id", "class", "emitter", "destination", "determination", "rule_ids", "reference_epoch")

Times = tuple[int, int]


@dataclass(slots=True)
class Stream:
    """A stream of an emitter, as far as the package shows it."""

    first: int
    last: int
    leaves: int
    arrived: Times
    closed: bool


@dataclass(slots=True)
class LogSeen:
    """A data log of the package."""

    log_id: str
    partition: str
    begin: int
    end: int
    first: int | None = None
    last: int | None = None


@dataclass(slots=True)
class Summary:
    """Gathers. The data logs come one after the other, each begun with `log`; the control log comes when it comes."""

    logs: list[LogSeen] = field(default_factory=list)
    timeline: Timeline = field(default_factory=Timeline)
    classes: Groups[str] = field(default_factory=Groups)
    own_classes: Groups[str] = field(default_factory=Groups)
    control_classes: Groups[str] = field(default_factory=Groups)
    destinations: Groups[str | None] = field(default_factory=Groups)
    determinations: Groups[str | None] = field(default_factory=Groups)
    licenses: Groups[str] = field(default_factory=Groups)
    allocations: Groups[tuple[str | None, str]] = field(default_factory=Groups)
    later_findings: Groups[tuple[str, str]] = field(default_factory=Groups)
    fault_codes: Groups[str] = field(default_factory=Groups)
    quarantined: Groups[tuple[str | None, str]] = field(default_factory=Groups)
    reviews: Groups[tuple[str, str, bool]] = field(default_factory=Groups)
    emitters: Groups[str] = field(default_factory=Groups)
    streams: dict[tuple[str, str], Stream] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    flagged: list[dict[str, Any]] = field(default_factory=list)

    def log(self, log_id: str, partition: str, begin: int, end: int) -> None:
        """Begin a data log with the interval ``[begin, end)``."""
        self.logs.append(LogSeen(log_id, partition, begin, end))

    def shown(self, rows: pa.RecordBatch) -> None:
        """Leaves of a data log that the package shows: rows of ``events/``."""
        if not rows.num_rows:
            return
        table = pa.table(
            {
                **{name: rows[name] for name in ("leaf_index", "sequence", "flagged", "reference_epoch")},
                **{name: rows[name] for name in ("class", "emitter", "stream", "record_id", "determination")},
                "destination": rows["destination_country"],
                "rule_ids": rows["rule_ids"],
                "faults": rows["faults"],
                "arrival": rows["arrival_time"].cast(pa.int64()),
                "own": is_log_leaf(rows["header"]),
            }
        )
        self._leaves(table, shown=True)
        self._own_leaves(rows.filter(table["own"].combine_chunks()))
        self._licenses(rows)

    def withheld(self, index: pa.Array, parsed: pa.Table) -> None:
        """Leaves of which the package holds the header alone, as `auditspan.exporters.evidence.headers` parsed them."""
        if not parsed.num_rows:
            return
        texts = ("class", "emitter", "stream", "record_id", "determination", "destination")
        table = pa.table(
            {
                "leaf_index": index,
                **{name: parsed[name] for name in ("sequence", "flagged", "reference_epoch", "rule_ids", "faults")},
                **{name: _null_if_empty(parsed[name].cast(pa.string())) for name in texts},
                "arrival": parsed["arrival_time"],
                "own": pa.array([False] * parsed.num_rows),
            }
        )
        self._leaves(table, shown=False)

    def control(self, rows: pa.RecordBatch) -> None:
        """Leaves of the control log: rows of ``control/``."""
        if not rows.num_rows:
            return
        arrived = rows["arrival_time"].cast(pa.int64()).to_pylist()
        for name, at, header in zip(rows["class"].to_pylist(), arrived, rows["header"].to_pylist(), strict=True):
            when = (at or 0, at or 0)
            self.control_classes.add(name or "", 1, when, shown=True)
            if name == EventClass.LICENSE_ALLOCATION:
                for one in _list(_entry(header).get("allocations")):
                    self.allocations.add(
                        (_text(one.get("license")), _text(one.get("outcome")) or ""), 1, when, shown=True
                    )
            elif name in _LATER_FINDINGS:
                self.later_findings.add((name, _text(_entry(header).get("finding")) or ""), 1, when, shown=True)

    def _leaves(self, table: pa.Table, *, shown: bool) -> None:
        log = self.logs[-1]
        reach = pc.min_max(table["arrival"]).as_py()
        if reach["min"] is not None:
            self.timeline.reach(reach["min"], reach["max"])
            log.first = reach["min"] if log.first is None else min(log.first, reach["min"])
            log.last = reach["max"] if log.last is None else max(log.last, reach["max"])
        table = table.append_column("hour", pc.divide(table["arrival"], HOUR))
        keys = ["own", "class", "destination", "determination", "flagged", "emitter", "hour"]
        counted = table.group_by(keys, use_threads=False).aggregate(
            [([], "count_all"), ("arrival", "min"), ("arrival", "max")]
        )
        for row in counted.to_pylist():
            self._count(row, row["count_all"], (row["arrival_min"] or 0, row["arrival_max"] or 0), shown=shown)
        events = table.filter(pc.invert(table["own"]))
        self._streams(events)
        self._reasons(events, shown=shown)
        self._flagged(events, log.log_id, shown=shown)

    def _count(self, row: Mapping[str, Any], events: int, arrived: Times, *, shown: bool) -> None:
        if row["own"]:
            self.own_classes.add(row["class"] or "", events, arrived, shown=shown)
            return
        self.classes.add(row["class"] or "", events, arrived, shown=shown)
        self.destinations.add(row["destination"], events, arrived, shown=shown)
        self.determinations.add(row["determination"], events, arrived, shown=shown)
        if row["emitter"] is not None:
            self.emitters.add(row["emitter"], events, arrived, shown=shown)
        if row["hour"] is not None:
            self.timeline.add(row["hour"], row["emitter"], events, events if row["flagged"] else 0)
        self.counts["flagged"] += events if row["flagged"] else 0

    def _streams(self, events: pa.Table) -> None:
        rows = events.filter(pc.and_(pc.is_valid(events["sequence"]), pc.is_valid(events["stream"])))
        if not rows.num_rows:
            return
        rows = rows.append_column("closed", pc.fill_null(pc.equal(rows["class"], _CLOSED), False))
        measures = [("sequence", "min"), ("sequence", "max"), ("arrival", "min"), ("arrival", "max"), ("closed", "any")]
        grouped = rows.group_by(["emitter", "stream"], use_threads=False).aggregate([([], "count_all"), *measures])
        for row in grouped.to_pylist():
            key, arrived = (row["emitter"] or "", row["stream"]), (row["arrival_min"], row["arrival_max"])
            seen = self.streams.get(key)
            if seen is None:
                if len(self.streams) >= _MOST_STREAMS:
                    self.counts["leaves_of_other_streams"] += row["count_all"]
                    continue
                seen = self.streams[key] = Stream(row["sequence_min"], row["sequence_max"], 0, arrived, False)
            seen.first, seen.last = min(seen.first, row["sequence_min"]), max(seen.last, row["sequence_max"])
            seen.arrived = min(seen.arrived[0], arrived[0]), max(seen.arrived[1], arrived[1])
            seen.leaves += row["count_all"]
            seen.closed = seen.closed or row["closed_any"]

    def _reasons(self, events: pa.Table, *, shown: bool) -> None:
        """Why reviews are open, what was quarantined, and what was wrong with events as they were sent."""
        review = pc.fill_null(pc.equal(events["determination"], "review"), False)
        faulty = pc.greater(pc.fill_null(pc.list_value_length(events["faults"]), 0), 0)
        rows = events.filter(pc.or_(review, faulty))
        if not rows.num_rows:
            return
        texts = {
            name: pc.fill_null(pc.binary_join(rows[name].combine_chunks(), ", "), "") for name in ("rule_ids", "faults")
        }
        rows = pa.table(
            {
                **{name: rows[name] for name in ("class", "emitter", "determination", "flagged", "arrival")},
                **texts,
            }
        )
        keys = ["class", "emitter", "determination", "flagged", "rule_ids", "faults"]
        grouped = rows.group_by(keys, use_threads=False).aggregate(
            [([], "count_all"), ("arrival", "min"), ("arrival", "max")]
        )
        for row in grouped.to_pylist():
            number, arrived = row["count_all"], (row["arrival_min"] or 0, row["arrival_max"] or 0)
            for fault in row["faults"].split(", ") if row["faults"] else ():
                self.fault_codes.add(fault, number, arrived, shown=shown)
            if row["class"] == _QUARANTINED:
                self.quarantined.add((row["emitter"], row["faults"]), number, arrived, shown=shown)
            if row["determination"] == "review":
                self.reviews.add((row["rule_ids"], row["faults"], bool(row["flagged"])), number, arrived, shown=shown)

    def _flagged(self, events: pa.Table, log_id: str, *, shown: bool) -> None:
        room = _MOST_FLAGGED - len(self.flagged)
        if room <= 0:
            return
        rows = events.filter(pc.fill_null(events["flagged"], False)).slice(0, room)
        for row in rows.select(["leaf_index", "arrival", *_TOLD]).to_pylist():
            self.flagged.append({**row, "log_id": log_id, "shown": shown})

    def _own_leaves(self, rows: pa.RecordBatch) -> None:
        """Leaves that the log itself wrote: gaps, and the repetitions that a batch counts."""
        log = self.logs[-1]
        for index, name, header in zip(
            *(rows[name].to_pylist() for name in ("leaf_index", "class", "header")), strict=True
        ):
            if name == EventClass.BATCH:
                # The leaf that an interval begins with ends a batch whose leaves are not here.
                if not (index == log.begin and log.begin > 0):
                    self.counts["duplicates_suppressed"] += _integer(_body(header).get("duplicates"))
            elif name == EventClass.GAP:
                self.counts["gaps"] += 1
                if len(self.gaps) < _MOST_GAPS:
                    self.gaps.append({"log_id": log.log_id, "leaf_index": index, **_gap(_body(header))})
            elif name == EventClass.GAP_CLOSED:
                self.counts["gaps_closed"] += 1

    def _licenses(self, rows: pa.RecordBatch) -> None:
        """Licences as the events name them."""
        naming = rows.filter(pc.fill_null(pc.match_substring(rows["payload"], semconv.LICENSE), False))
        if not naming.num_rows:
            return
        named = payload_attributes(naming["payload"], {semconv.LICENSE: "string"})[semconv.LICENSE]
        table = pa.table({"license": named.cast(pa.string()), "arrival": naming["arrival_time"].cast(pa.int64())})
        grouped = table.group_by("license", use_threads=False).aggregate(
            [([], "count_all"), ("arrival", "min"), ("arrival", "max")]
        )
        for row in grouped.to_pylist():
            if row["license"]:
                arrived = (row["arrival_min"] or 0, row["arrival_max"] or 0)
                self.licenses.add(row["license"], row["count_all"], arrived, shown=True)


def _null_if_empty(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """As the typed columns of a package have it."""
    return pc.if_else(pc.equal(pc.binary_length(column), 0), pa.scalar(None, pa.string()), column)


def _body(header: bytes) -> dict[str, Any]:
    """The body of a leaf of the log itself; nothing where the store holds no such leaf."""
    try:
        body = json.loads(header)["body"]
    except (ValueError, KeyError, TypeError):
        return {}
    return body if isinstance(body, dict) else {}


def _entry(header: bytes) -> dict[str, Any]:
    """The body of the control entry in a leaf of the control log."""
    body = _body(header).get("body")
    return body if isinstance(body, dict) else {}


def _gap(body: Mapping[str, Any]) -> dict[str, Any]:
    lost = body.get("journal")
    if isinstance(lost, dict):
        return {
            "emitter": None,
            "stream": "entries of the journal",
            **{name: lost.get(name) for name in ("from", "to", "seen_at")},
        }
    return {name: _plain(body.get(name)) for name in ("emitter", "stream", "from", "to", "seen_at")}


def _plain(value: Any) -> Any:
    """A text of a header, as a typed column has it."""
    return f"sha256:{value.get('sha256')}" if isinstance(value, dict) else value


def _list(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
