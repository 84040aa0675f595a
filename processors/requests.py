"""Follows export requests: joins sealed transfers and decisions with their request, and seals what is wrong with them.

What it reads of leaves goes into the table ``auditspan.request_records``, so that a trail is found by the id of its
request; what it finds goes into the control log as ``export.finding``. Both say how far it has come: a restart, or the
next owner of the control log, goes on there. A record is judged once every data log has passed its arrival by `GRACE`,
so that a decision which arrived before it, in whatever log, is sealed by then.
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from auditspan.canonical import JsonValue
from auditspan.requests.findings import CITATION, Finding
from auditspan.requests.join import GRACE, MOST_RECORDS, judge
from auditspan.requests.reading import LEAVES, REQUEST_KEY, request_records
from auditspan.requests.records import TRANSFERS, Record, record_of
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .control_entries import ACTOR
from .followers import Following
from .request_terms import RequestTerms, Terms, TermsUnavailable
from .restore import is_closed

__all__ = ["RequestFollower", "finding_body"]

_log = logging.getLogger(__name__)

_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the logs."""
_ROUND: Final = 0.25
"""Seconds after which a round begins no further page: it runs in the thread that signs."""
_LEAVES_AT_ONCE: Final = 100_000
"""Leaves that one look for records goes through."""
_ROWS_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 16 << 20
"""Bytes of payloads that are read at once; of more only where one payload alone is larger."""
_JUDGED_AT_ONCE: Final = 100
_TRAILS_AT_ONCE: Final = 10

_PEOPLE: Final = [str(EventClass.EXPORT_REQUEST), str(EventClass.EXPORT_DECISION)]
_LAST_BATCH: Final = """
SELECT header FROM auditspan.events
WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64} AND class = 'audit.batch' AND payload = ''
ORDER BY leaf_index DESC LIMIT 1
"""
_FIND: Final = """
SELECT leaf_index, length(payload) AS bytes FROM auditspan.events
WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64} AND leaf_index < {end:UInt64}
  AND class IN {classes:Array(String)} AND payload != ''
  AND (class IN {always:Array(String)} OR position(payload, {key:String}) > 0)
ORDER BY leaf_index LIMIT {most:UInt64}
"""
_READ: Final = """
SELECT toString(events.log_id) AS log_id, leaf_index, record_id, toString(class) AS class, toString(emitter) AS emitter,
       toString(actor_id) AS actor_id, toString(outcome) AS outcome,
       ifNull(toUnixTimestamp64Nano(events.event_time), toInt64(0)) AS event_time,
       ifNull(toUnixTimestamp64Nano(events.arrival_time), toInt64(0)) AS arrival_time,
       toString(time_basis) AS time_basis, reference_epoch, target_id, payload
FROM auditspan.events WHERE log_id = {log_id:String} AND leaf_index IN {leaves:Array(UInt64)} ORDER BY leaf_index
"""
_RECORD: Final = """
toString(r.log_id) AS log_id, r.leaf_index AS leaf_index, record_id, toString(class) AS event_class, request_id,
toString(emitter) AS emitter, actor_id AS actor, toUnixTimestamp64Nano(r.arrival_time) AS arrival,
toUnixTimestamp64Nano(r.began) AS began, toString(outcome) AS outcome, intent_id, reference_epoch AS epoch,
target_id AS target, artifact_digest, model, accelerator_model, quantity, toString(destination) AS destination,
consignee, end_user, final_recipient, license, toString(approval) AS approval, authority, valid_until, conditions
"""
_PAGE: Final = f"""
SELECT DISTINCT {_RECORD} FROM auditspan.request_records AS r
WHERE r.log_id = {{log_id:String}} AND r.leaf_index >= {{begin:UInt64}} ORDER BY leaf_index LIMIT {{most:UInt64}}
"""  # noqa: S608 - composed of constants; values are parameters
_TRAILS: Final = f"""
SELECT DISTINCT {_RECORD} FROM auditspan.request_records AS r
WHERE request_id IN {{ids:Array(String)}}
ORDER BY request_id, arrival, log_id, leaf_index LIMIT {{most:UInt64}} BY request_id
"""  # noqa: S608
_READ_TO: Final = """
SELECT toString(log_id) AS log, max(leaf_index) + 1 AS next FROM auditspan.request_records GROUP BY log
"""
_JUDGED_TO: Final = """
SELECT log_id, leaf_index, groupArray(finding) AS kinds FROM auditspan.findings
GROUP BY log_id, leaf_index ORDER BY log_id, leaf_index DESC LIMIT 1 BY log_id
"""


class RequestFollower:
    """See `auditspan.processors.followers.Follower`."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._terms = RequestTerms(following.control_log, following.reference)
        self._restored = False
        self._next: dict[str, int] = {}
        """Of each log the leaf from which on it is not read."""
        self._kept: dict[str, int] = {}
        """Of each log one past the last record in the table."""
        self._judged: dict[str, int] = {}
        """Of each log the leaf from which on records are not judged."""
        self._found: dict[tuple[str, int], frozenset[str]] = {}
        """What was found of the records at which judging begins."""
        self._sealed: dict[str, tuple[int, int]] = {}
        """Of each log how many leaves it had when it was looked at, and its watermark (ns) then."""
        self._ended: set[str] = set()
        """Closed logs: nothing is waited for in them."""
        self._looked = 0.0
        self._told = ""

    def run_once(self, store: Store) -> int:
        """Read what was sealed, and journal what is wrong with what is due; how many findings."""
        now = time.monotonic()
        if self._looked and now - self._looked < _LOOK_EVERY:
            return 0
        if not self._restored:
            self._restore(store)
        for log_id in self._following.data_logs:
            self._look(store, log_id)
        deadline = now + _ROUND
        found = 0
        try:
            for log_id in self._following.data_logs:
                while self._read(store, log_id) and time.monotonic() < deadline:
                    pass
            found = self._judge(store, deadline)
            self._told = ""
        except TermsUnavailable as error:
            if self._told != str(error):
                _log.warning("Export requests are judged later: %s", error)
            self._told = str(error)
        # One that stopped at its deadline goes on in the next round.
        self._looked = time.monotonic() if time.monotonic() < deadline else 0.0
        return found

    def _restore(self, store: Store) -> None:
        for row in store.query(_READ_TO).to_pylist():
            self._next[row["log"]] = self._kept[row["log"]] = int(row["next"])
        for row in store.query(_JUDGED_TO).to_pylist():
            place = str(row["log_id"]), int(row["leaf_index"])
            self._judged[place[0]] = place[1]
            self._found[place] = frozenset(row["kinds"])
        self._restored = True

    # Reading

    def _look(self, store: Store, log_id: str) -> None:
        """Note what the log had sealed and how far it had come, before anything of it is read."""
        if log_id in self._ended:
            return
        size, watermark = self._sealed.get(log_id, (0, 0))
        # With a bound the engine opens the part that holds the last leaves, and none of the others.
        rows = store.query(_LAST_BATCH, {"log_id": log_id, "begin": max(size - 1, 0)}).to_pylist()
        if rows:
            body = json.loads(rows[0]["header"])["body"]
            size, watermark = int(body["first_leaf"]) + int(body["sealed"]) + 1, int(body["watermark"])
            if body["from"] == body["to"] and is_closed(store, log_id):
                self._ended.add(log_id)
        self._sealed[log_id] = size, watermark

    def _read(self, store: Store, log_id: str) -> bool:
        """Read one page of a log; whether there may be more."""
        begin, (end, _) = self._next.get(log_id, 0), self._sealed[log_id]
        if begin >= end:
            return False
        self._terms.look(store)
        stop = min(end, begin + _LEAVES_AT_ONCE)
        always = [*_PEOPLE, *self._terms.required(store)]
        parameters: dict[str, Any] = {"log_id": log_id, "begin": begin, "end": stop, "most": _ROWS_AT_ONCE}
        parameters |= {"classes": [*_PEOPLE, *map(str, sorted(TRANSFERS))], "always": always, "key": REQUEST_KEY}
        found = store.query(_FIND, parameters).to_pylist()
        leaves = _within(found)
        if leaves:
            rows = store.query(_READ, {"log_id": log_id, "leaves": leaves})
            records = self._concerned(store, request_records(rows.select(list(LEAVES))))
            if records.num_rows:
                store.keep_request_records(records)
                self._kept[log_id] = int(records["leaf_index"][-1].as_py()) + 1
        all_read = len(leaves) == len(found) < _ROWS_AT_ONCE
        self._next[log_id] = stop if all_read else leaves[-1] + 1
        return self._next[log_id] < end

    def _concerned(self, store: Store, records: pa.Table) -> pa.Table:
        """Without transfers that name no request where none was demanded."""
        rows = zip(*(records[name].to_pylist() for name in ("request_id", "class", "reference_epoch")), strict=True)
        wanted = [
            bool(request_id) or name in _PEOPLE or name in self._terms.demands(epoch, store).required_for
            for request_id, name, epoch in rows
        ]
        return records.filter(pa.array(wanted, pa.bool_()))

    # Judging

    def _judge(self, store: Store, deadline: float) -> int:
        waiting = [log for log in self._following.data_logs if self._judged.get(log, 0) < self._kept.get(log, 0)]
        if not waiting:
            return 0
        mark = self._watermark()
        journaled = 0
        for log_id in waiting:
            while time.monotonic() < deadline and self._judged.get(log_id, 0) < self._kept[log_id]:
                page = self._page(store, log_id)
                # In order of leaves, so that a place says how far it has come.
                due = list(itertools.takewhile(lambda record: record.arrival + GRACE <= mark, page))
                if due:
                    journaled += self._findings(store, due)
                    self._judged[log_id] = due[-1].leaf_index + 1
                if len(due) < len(page):
                    break
        return journaled

    def _watermark(self) -> int:
        """What every log that still grows has passed (ns), as far as all that was sealed by then is read."""
        marks = [2**63 - 1]
        for log_id, (size, watermark) in self._sealed.items():
            if self._next.get(log_id, 0) < size:
                return 0
            if log_id not in self._ended:
                marks.append(watermark)
        return min(marks)

    def _page(self, store: Store, log_id: str) -> list[Record]:
        begin = self._judged.get(log_id, 0)
        rows = store.query(_PAGE, {"log_id": log_id, "begin": begin, "most": _JUDGED_AT_ONCE})
        return [record_of(row) for row in rows.to_pylist()]

    def _findings(self, store: Store, records: Sequence[Record]) -> int:
        self._terms.look(store)
        trails = self._trails(store, {record.request_id for record in records if record.request_id})
        entries: list[tuple[str, str, JsonValue]] = []
        for record in records:
            terms = self._terms.of(record.epoch, store)
            place = record.log_id, record.leaf_index
            # Without an id it has no trail but itself.
            trail = trails.get(record.request_id) or self._with_authority(store, [record])
            this = next((one for one in trail if (one.log_id, one.leaf_index) == place), record)
            known = self._found.get(place, frozenset())
            for finding in judge(this, trail, terms.party):
                if finding.kind not in known:
                    entries.append((EventClass.EXPORT_FINDING, ACTOR, finding_body(this, finding, terms)))
        if entries:
            self._following.entries.append_all(entries)
        return len(entries)

    def _trails(self, store: Store, ids: set[str]) -> dict[str, list[Record]]:
        wanted, found = sorted(ids), dict[str, list[Record]]()
        for start in range(0, len(wanted), _TRAILS_AT_ONCE):
            part = wanted[start : start + _TRAILS_AT_ONCE]
            rows = store.query(_TRAILS, {"ids": part, "most": MOST_RECORDS + 1}).to_pylist()
            for record in self._with_authority(store, map(record_of, rows)):
                found.setdefault(record.request_id, []).append(record)
        return found

    def _with_authority(self, store: Store, records: Iterable[Record]) -> list[Record]:
        return [
            replace(one, authorised=one.emitter in self._terms.demands(one.epoch, store).approving_emitters)
            if one.is_decision
            else one
            for one in records
        ]


def finding_body(record: Record, finding: Finding, terms: Terms) -> dict[str, JsonValue]:
    """Body of ``export.finding`` (evidence format, section 11)."""
    decision = finding.decision
    return {
        "finding": finding.kind.value,
        "request_id": record.request_id,
        "log_id": record.log_id,
        "leaf_index": record.leaf_index,
        "record_id": record.record_id,
        "class": record.event_class,
        "actor": record.actor,
        "recipient": record.recipient,
        "decided": _decided(decision),
        "decision_record_id": decision.record_id if decision is not None else "",
        "why": finding.why,
        "authority": "company_policy" if terms.demands.stated else "proposal",
        "citation": CITATION,
    }


def _decided(decision: Record | None) -> str:
    if decision is None:
        return ""
    parts = [decision.approval or "nothing", f"by {decision.authority or decision.actor or decision.emitter}"]
    parts += [f"for {decision.recipient}"] if decision.recipient else []
    parts += [f"{decision.quantity:,}"] if decision.quantity is not None else []
    parts += [f"until {decision.valid_until}"] if decision.valid_until else []
    return ", ".join(parts)


def _within(found: Sequence[Mapping[str, Any]]) -> list[int]:
    """The first leaves whose payloads together have no more than `_BYTES_AT_ONCE`; one at least."""
    total, chosen = 0, list[int]()
    for row in found:
        total += int(row["bytes"])
        if chosen and total > _BYTES_AT_ONCE:
            break
        chosen.append(int(row["leaf_index"]))
    return chosen
