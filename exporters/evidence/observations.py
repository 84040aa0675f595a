"""What an interval holds that is no fault and that an auditor must see: streams, gaps, dangling intents and such."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .columns import one_array
from .headers import ParsedHeaders
from .report import Report, StreamSeen, shown
from .windows import Window

__all__ = ["Observations"]

_MOST: Final = 10_000
_MOST_INTENTS: Final = 1_000_000
_DIGITS: Final = 16
"""Of 2^53 - 1, the last sequence."""
_STARTED: Final = "started"
_CLOSED: Final = "audit.stream.closed"
_REPEATED: Final = pa.array(["duplicate_suspect", "identity.conflict"])
"""Faults of leaves that repeat another one, or contradict it."""
_LAST_SEQUENCE: Final = 2**53 - 1
_INTENT_KEY: Final = b"\x0a\x0faudit.intent.id"
_INTENT: Final = re.compile(rb"\x0a\x0faudit\.intent\.id\x12[\x02-\x7f]\x0a([\x01-\x7f])", re.DOTALL)


class Observations:
    """Gathered over all data logs, in bounded memory; exact counts, bounded lists."""

    def __init__(self) -> None:
        self.classes: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.streams: dict[tuple[str, str], StreamSeen] = {}
        self.gaps: list[dict[str, Any]] = []
        self.duplicates: list[dict[str, Any]] = []
        self._begins: dict[str, int] = {}
        self._late: dict[tuple[Any, Any], list[tuple[int, int]]] = {}
        self._started: dict[str, tuple[str, int]] = {}
        self._finished: set[str] = set()
        self._skew = 0
        self.intents_complete = True

    def window(self, log_id: str, window: Window, parsed: ParsedHeaders) -> None:
        """Take note of a window."""
        table = parsed.table
        classes = one_array(table["class"])
        for entry in pc.value_counts(classes.indices).to_pylist():
            number = entry["values"]
            name = None if number is None else classes.dictionary[number].as_py()
            self.classes[name or "unreadable"] += entry["counts"]
        self._streams(table)
        self._clock(table)
        self._intents(log_id, window, table)
        self._repeated(log_id, window, table)
        begin = self._begins.setdefault(log_id, int(window.index[0])) if len(window.index) else 0
        for row, leaf in parsed.log_leaves.items():
            if leaf["class"] == "audit.batch":
                # The leaf that an interval begins with ends a batch whose leaves are not here.
                if window.index[row] != begin or begin == 0:
                    self._suppressed(log_id, int(window.index[row]), leaf["body"].get("duplicates"))
            elif leaf["class"] == "audit.gap":
                self.counts["gaps"] += 1
                lost = leaf["body"].get("journal")
                if isinstance(lost, dict):
                    first, end = _run(lost)
                    self.counts["journal_entries_lost"] += max(end - first, 0)
                if len(self.gaps) < _MOST:
                    said = _lost(lost) if isinstance(lost, dict) else _short(leaf["body"])
                    self.gaps.append({"log_id": log_id, "leaf_index": int(window.index[row]), **said})
            elif leaf["class"] == "audit.gap.closed":
                self.counts["gaps_closed"] += 1
                if self.counts["gaps_closed"] <= _MOST:
                    body = _short(leaf["body"])
                    self._late.setdefault((body["emitter"], body["stream"]), []).append(_run(leaf["body"]))

    def _suppressed(self, log_id: str, leaf: int, records: object) -> None:
        if isinstance(records, int) and records > 0:
            self._repetition(
                {"log_id": log_id, "leaf_index": leaf, "what": "suppressed in this batch", "records": records}
            )

    def _repeated(self, log_id: str, window: Window, table: pa.Table) -> None:
        lists = one_array(table["faults"])
        codes = lists.flatten()
        hit = pc.fill_null(pc.is_in(codes, value_set=_REPEATED), False)
        if not pc.any(hit).as_py():
            return
        rows = pc.list_parent_indices(lists).filter(hit).to_pylist()
        for row, code in zip(rows, codes.filter(hit).to_pylist(), strict=True):
            self._repetition({"log_id": log_id, "leaf_index": int(window.index[row]), "what": code, "records": 1})

    def _repetition(self, entry: dict[str, Any]) -> None:
        if len(self.duplicates) < _MOST:
            self.duplicates.append(entry)
        else:
            self.counts["duplicates_not_listed"] += 1

    def _streams(self, table: pa.Table) -> None:
        rows = table.select(["emitter", "stream", "sequence", "class"]).filter(pc.is_valid(table["sequence"]))
        if not rows.num_rows:
            return
        emitters, streams, classes = (one_array(rows[name]) for name in ("emitter", "stream", "class"))
        sequences = rows["sequence"].to_numpy().astype(np.int64)
        for key, places in _groups(emitters, streams):
            seen = self.streams.get(key)
            if seen is None:
                if len(self.streams) >= _MOST:
                    self.counts["streams_not_listed"] += 1
                    continue
                seen = self.streams[key] = StreamSeen(shown(key[0]), shown(key[1]), _LAST_SEQUENCE, -1, 0)
            numbers = sequences[places]
            seen.first = min(seen.first, int(numbers.min()))
            seen.last = max(seen.last, int(numbers.max()))
            seen.leaves += len(numbers)
        closed = rows.filter(pc.equal(classes.dictionary, _CLOSED).take(classes.indices))
        for row in closed.select(["emitter", "stream"]).to_pylist():
            seen = self.streams.get((row["emitter"], row["stream"]))
            if seen is not None:
                seen.closed = True

    def _clock(self, table: pa.Table) -> None:
        event = table["event_time"].to_numpy().astype(np.float64)
        arrival = table["arrival_time"].to_numpy().astype(np.float64)
        skew = np.nan_to_num(event - arrival, nan=0.0)
        if len(skew):
            self._skew = max(self._skew, int(skew.max()))

    def _intents(self, log_id: str, window: Window, table: pa.Table) -> None:
        # Of a withheld start nobody can tell whether it ended.
        outcomes = one_array(table["outcome"])
        started = pc.fill_null(pc.equal(outcomes.dictionary, _STARTED).take(outcomes.indices), False)
        started = pc.and_(started, pa.array(window.revealed))
        if pc.any(started).as_py():
            ids = table["record_id"].filter(started).to_pylist()
            places = window.index[started.to_numpy(zero_copy_only=False)].tolist()
            for record_id, place in zip(ids, places, strict=True):
                self._remember(record_id, (log_id, place))
        for intent in _intent_ids(window.events["payload"]):
            self._end(intent)

    def _end(self, intent: str) -> None:
        if self._started.pop(intent, None) is None and len(self._finished) < _MOST_INTENTS:
            self._finished.add(intent)

    def _remember(self, record_id: str, leaf: tuple[str, int]) -> None:
        if record_id in self._finished:
            self._finished.discard(record_id)
        elif len(self._started) < _MOST_INTENTS:
            self._started[record_id] = leaf
        else:
            self.intents_complete = False

    def merge(self, other: Observations) -> None:
        """Add what was seen in another log."""
        self.classes.update(other.classes)
        self.counts.update(other.counts)
        for key, found in other.streams.items():
            seen = self.streams.get(key)
            if seen is None:
                if len(self.streams) >= _MOST:
                    self.counts["streams_not_listed"] += 1
                    continue
                self.streams[key] = found
                continue
            seen.first, seen.last = min(seen.first, found.first), max(seen.last, found.last)
            seen.leaves += found.leaves
            seen.closed |= found.closed
        self.gaps += other.gaps[: _MOST - len(self.gaps)]
        for entry in other.duplicates:
            self._repetition(entry)
        for stream, late in other._late.items():
            self._late.setdefault(stream, []).extend(late)
        for record_id, leaf in other._started.items():
            self._remember(record_id, leaf)
        for intent in other._finished:
            self._end(intent)
        self._skew = max(self._skew, other._skew)
        self.intents_complete &= other.intents_complete

    def write(self, report: Report) -> None:
        """Put what was seen into the report."""
        report.classes = dict(sorted(self.classes.items()))
        report.streams = [self.streams[key] for key in sorted(self.streams)]
        report.unclosed_streams = [
            {"emitter": seen.emitter, "stream": seen.stream, "last": seen.last}
            for seen in report.streams
            if not seen.closed
        ]
        late = {key: _union(came) for key, came in self._late.items()}
        report.gaps = [gap if "journal_from" in gap else {**gap, "came_late": _overlap(gap, late)} for gap in self.gaps]
        report.duplicates = self.duplicates
        if self.counts["duplicates_not_listed"]:
            report.notes.append(
                f"{self.counts['duplicates_not_listed']:,} more leaves and batches with repetitions are not listed."
            )
        report.dangling_intents = [
            {"record_id": shown(record_id), "log_id": log_id, "leaf_index": place}
            for record_id, (log_id, place) in list(self._started.items())[:_MOST]
        ]
        report.largest_clock_skew_seconds = self._skew / 1e9
        report.counts |= {
            "conflicts": self.classes["audit.conflict"],
            "quarantined": self.classes["audit.quarantined"],
            "gaps": self.counts["gaps"],
            "gaps_closed": self.counts["gaps_closed"],
            "journal_entries_lost": self.counts["journal_entries_lost"],
            "streams": len(self.streams) + self.counts["streams_not_listed"],
            "unclosed_streams": len(report.unclosed_streams),
            "dangling_intents": len(self._started),
        }


def _groups(emitters: pa.DictionaryArray, streams: pa.DictionaryArray) -> Iterator[tuple[Any, Any]]:
    """Each emitter and stream that occur together, with the rows in which they do."""
    of_emitter, of_stream = (codes.indices.fill_null(-1).to_numpy() + 1 for codes in (emitters, streams))
    names = [[None, *codes.dictionary.to_pylist()] for codes in (emitters, streams)]
    pairs = of_emitter.astype(np.int64) * len(names[1]) + of_stream
    if (pairs == pairs[0]).all():
        yield (names[0][of_emitter[0]], names[1][of_stream[0]]), slice(None)
        return
    order = np.argsort(pairs, kind="stable")
    distinct, first = np.unique(pairs[order], return_index=True)
    for pair, places in zip(distinct.tolist(), np.split(order, first[1:]), strict=True):
        emitter, stream = divmod(pair, len(names[1]))
        yield (names[0][emitter], names[1][stream]), places


def _short(body: dict[str, Any]) -> dict[str, Any]:
    return {name: shown(body.get(name)) for name in ("emitter", "stream", "from", "to", "seen_at")}


def _lost(body: dict[str, Any]) -> dict[str, Any]:
    """A gap of the journal itself: entries that were gone before they were sealed."""
    names = {"journal_from": "from", "journal_to": "to", "seen_at": "seen_at"}
    return {name: shown(body.get(key)) for name, key in names.items()}


def _run(body: dict[str, Any]) -> tuple[int, int]:
    """The sequences ``[from, to)``, of a gap's body or of what is shown of it; none where these are no sequences."""
    begin, end = (str(body.get(name)) for name in ("from", "to"))
    known = all(text.isascii() and text.isdigit() and len(text) <= _DIGITS for text in (begin, end))
    return (int(begin), int(end)) if known else (0, 0)


def _union(came: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Disjoint runs of the same sequences, in order."""
    ordered = np.array(sorted(one for one in came if one[0] < one[1]), np.int64).reshape(-1, 2)
    reach = np.maximum.accumulate(ordered[:, 1])
    apart = np.flatnonzero(ordered[1:, 0] > reach[:-1]) + 1
    begin = np.concatenate([ordered[:1, 0], ordered[apart, 0]])
    return np.column_stack([begin, np.concatenate([reach[apart - 1], reach[-1:]])])


def _overlap(gap: dict[str, Any], late: Mapping[tuple[Any, Any], npt.NDArray[np.int64]]) -> int:
    """How many sequences of a gap came after all, as `audit.gap.closed` leaves say, of whichever log.

    What was missing when a log was closed comes in one of the next generation.
    """
    came = late.get((gap["emitter"], gap["stream"]), _union(()))
    begin, end = _run(gap)
    return int((np.minimum(came[:, 1], end) - np.maximum(came[:, 0], begin)).clip(0).sum())


def _intent_ids(payloads: pa.Array) -> list[str]:
    """The values of the attribute ``audit.intent.id`` in these payloads: which intents have an outcome."""
    buffer = payloads.buffers()[2]
    if buffer is None or not len(payloads):
        return []
    bounds = np.frombuffer(payloads.buffers()[1], np.int32, len(payloads) + 1, payloads.offset * 4)
    begin, end = int(bounds[0]), int(bounds[-1])
    data = buffer[begin:end].to_pybytes()
    found = []
    # Few payloads have it, and a plain search is a few times as fast as that of an expression.
    at = data.find(_INTENT_KEY)
    while at >= 0:
        match = _INTENT.match(data, at)
        if match is not None:
            found.append(data[match.end() : match.end() + match[1][0]].decode("utf-8", "replace"))
        at = data.find(_INTENT_KEY, at + 1)
    return found
