"""Leaves from journal entries, written from ``docs/evidence-format.md`` alone (sections 2 to 12).

One event at a time, everything in memory, nothing clever: to be read beside the document. It shares no code with the
product. What it needs besides the journal is what the document calls an input: where batches end, with the epoch and
the software that their ``audit.batch`` leaves name, the facts documents of determined events, and for a log of a later
generation the logs of all earlier ones.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import struct
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .reading import DAY, DETERMINED, RESOURCE_KINDS, SPAN_KINDS, class_of, known, stream_of, time_of
from .wire import Malformed, Span, SpanBytes, read_span, spans_of

OUTCOMES = ["no_license_required", "exception", "review", "license_required", "prohibited"]


@dataclass(frozen=True)
class Entry:
    """A journal entry (section 2)."""

    offset: int
    kind: str
    emitter: str
    authentication: str
    arrival_time: int
    encoding: str
    body: bytes


@dataclass(frozen=True)
class Log:
    """What leaf 0 says; ``opened_at`` is the arrival time of the control entry that opened the log."""

    deployment: str
    journal: str
    log_id: str
    partition: str
    generation: int
    opened_at: int


@dataclass(frozen=True)
class Batch:
    """An input read from an ``audit.batch`` leaf: the batch consumes the entries up to ``to``.

    ``successor`` is there for the batch that closes its log: how many logs the next generation has, as the
    ``audit.log.closed`` leaf before it says.
    """

    to: int
    epoch_number: int
    epoch_digest: str
    software: str
    successor: int | None = None


class DerivationError(Exception):
    """The inputs do not fit together."""


def jcs(value: Any) -> bytes:
    """RFC 8785 within the limits of section 1."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode()


def text(value: str) -> Any:
    """A header text: long ones are replaced by their digest."""
    raw = value.encode()
    return {"length": len(raw), "sha256": hashlib.sha256(raw).hexdigest()} if len(raw) > 256 else value


def text_or_null(value: str | None) -> Any:
    return None if value is None else text(value)


def salt_of(salt_key: bytes, log_id: str, offset: int, ordinal: int) -> bytes:
    message = bytes.fromhex(log_id) + struct.pack(">Q", offset) + struct.pack(">I", ordinal)
    return hmac.new(salt_key, message, hashlib.sha256).digest()


def payload_of(raw: SpanBytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in (raw.resource, raw.scope, raw.span))


def epoch_digest(body: Mapping[str, Any]) -> str:
    """The digest of an epoch from the body of its ``audit.reference.activated`` (section 11)."""
    return hashlib.sha256(jcs(body)).hexdigest()


def epochs_in_force(leaves: Iterable[bytes]) -> list[tuple[int, str]]:
    """Number and digest of the epochs that a control log brought into force: the first of each number (section 11)."""
    found: dict[int, str] = {}
    for leaf in map(json.loads, leaves):
        if leaf["class"] == "audit.reference.activated":
            found.setdefault(leaf["body"]["body"]["number"], epoch_digest(leaf["body"]["body"]))
    return list(found.items())


@dataclass
class Stream:
    """What was sealed of a stream: the leaf order, and the ranges declared missing."""

    arrivals: dict[int, int] = field(default_factory=dict)  # sequence -> arrival time of its first leaf
    order: list[tuple[int, int]] = field(default_factory=list)  # the same in order of leaves
    declared: list[tuple[int, int]] = field(default_factory=list)
    late: set[int] = field(default_factory=set)  # declared sequences sealed in this batch


@dataclass(frozen=True)
class Sealed:
    """An event leaf as section 7 asks for it: what was sealed under an identity, and its arrival time."""

    identity: tuple[Any, ...]
    payload: bytes
    span: bytes
    arrival: int
    too_old: bool = False  # sealed in an earlier log, more than 7 days before this one was opened


@dataclass(frozen=True)
class Missing:
    """An ``audit.gap`` leaf of a stream: the sequences [begin, end) were declared missing."""

    emitter: str
    stream: str
    begin: int
    end: int


@dataclass(frozen=True)
class Derived:
    """A whole log: its leaves, the index of every ``audit.batch`` leaf, and what later generations take from it."""

    leaves: list[bytes]
    batch_leaves: list[int]
    closed: bool
    sealed: list[Sealed]
    missing: list[Missing]


class Deriver:
    """One log. ``earlier`` are the logs of all earlier generations, generation by generation (section 7)."""

    def __init__(
        self,
        log: Log,
        salt_key: bytes,
        facts: Mapping[tuple[int, int], bytes],
        earlier: Sequence[Derived] = (),
    ) -> None:
        self.log = log
        self.salt_key = salt_key
        self.facts = facts
        self.leaves: list[bytes] = []
        self.batch_leaves: list[int] = []
        self.closed = False
        self.watermark = 0
        self.next_offset = 0
        self.streams: dict[tuple[str, str], Stream] = {}
        self.identities: dict[tuple[Any, ...], list[Sealed]] = {}
        self.epoch = 0
        self.sealed: list[Sealed] = []
        self.missing: list[Missing] = []
        self._begin_after(earlier)

    def _begin_after(self, earlier: Sequence[Derived]) -> None:
        """Count the leaves of the earlier logs as earlier leaves of this one (sections 7 and 9)."""
        for one in earlier:
            if not one.closed:
                raise DerivationError("a log of an earlier generation is not closed")
            for sealed in one.sealed:
                self._remember(replace(sealed, too_old=sealed.arrival < self.log.opened_at - 7 * DAY))
        # After all that was sealed: what came in one of these logs may have been declared missing in another.
        for one in earlier:
            for gap in one.missing:
                self.streams[gap.emitter, gap.stream].declared.append((gap.begin, gap.end))

    # Batches (sections 9 and 10)

    def batch(self, entries: Sequence[Entry], batch: Batch) -> None:
        """Seal ``entries``, which are those from the last batch on up to ``batch.to``."""
        first_leaf, begin = self._begin(batch)
        for entry in entries:
            if entry.offset != self.next_offset:
                raise DerivationError(f"the journal goes on at {entry.offset}, not at {self.next_offset}")
            self.next_offset += 1
            self.watermark = max(self.watermark, entry.arrival_time)
            self._entry(entry)
        if self.next_offset != batch.to or not entries:
            raise DerivationError(f"a batch ends at {batch.to}, the journal at {self.next_offset}")
        self._gaps(seen_by=self.watermark - 60 * 10**9)
        self._late()
        self._batch_leaf(begin, first_leaf, batch)

    def lost(self, kept: Entry, batch: Batch) -> None:
        """Say that the entries before ``kept``, up to ``batch.to``, were gone (section 9, lost entries)."""
        if kept.offset != batch.to or kept.offset <= self.next_offset:
            raise DerivationError(
                f"a batch says that the entries up to {batch.to} were lost, and {kept.offset} is there"
            )
        first_leaf, begin = self._begin(batch)
        self.watermark = self.watermark or self.log.opened_at
        bounds = {"from": begin, "to": batch.to, "seen_at": str(kept.arrival_time)}
        self._log_leaf("audit.gap", None, self.watermark, {"journal": bounds})
        self.counts["gaps"] = 1
        self.next_offset = batch.to
        self._batch_leaf(begin, first_leaf, batch)

    def closing(self, batch: Batch) -> None:
        """End the log, whose successors are ``batch.successor`` logs of the next generation (section 9, closing)."""
        if batch.to != self.next_offset:
            raise DerivationError(f"the log is closed at {batch.to}, the journal is sealed to {self.next_offset}")
        first_leaf, begin = self._begin(batch)
        self.watermark = self.watermark or self.log.opened_at
        self._gaps(seen_by=math.inf)
        successor = {"generation": self.log.generation + 1, "partitions": batch.successor}
        self._log_leaf("audit.log.closed", None, self.watermark, {"successor": successor})
        self._batch_leaf(begin, first_leaf, batch)
        self.closed = True

    def _begin(self, batch: Batch) -> tuple[int, int]:
        """Begin a batch: its first leaf, and the offset of the entry at which it begins."""
        if self.closed:
            raise DerivationError("a batch follows the one that closed the log")
        first_leaf = len(self.leaves)
        self.epoch = batch.epoch_number
        self.counts = {"duplicates": 0, "conflicts": 0, "quarantined": 0, "gaps": 0}
        self.suppressed = hashlib.sha256()
        if not self.leaves:
            self._log_leaf("audit.log.opened", None, self.log.opened_at, self._opened())
        return first_leaf, self.next_offset

    def _batch_leaf(self, begin: int, first_leaf: int, batch: Batch) -> None:
        body = {
            "from": begin,
            "to": batch.to,
            "first_leaf": first_leaf,
            "sealed": len(self.leaves) - first_leaf,
            **self.counts,
            "suppressed_digest": self.suppressed.hexdigest(),
            "watermark": str(self.watermark),
            "epoch": {"number": batch.epoch_number, "digest": batch.epoch_digest},
            "software": batch.software,
        }
        self.batch_leaves.append(len(self.leaves))
        self._log_leaf("audit.batch", None, self.watermark, body)

    def _opened(self) -> dict[str, Any]:
        return {
            "deployment": text(self.log.deployment),
            "journal": text(self.log.journal),
            "log_id": self.log.log_id,
            "partition": text(self.log.partition),
            "generation": self.log.generation,
        }

    def _log_leaf(self, name: str, position: list[int] | None, arrival_time: int, body: Any) -> None:
        leaf = {
            "v": 1,
            "log_id": self.log.log_id,
            "class": name,
            "position": position,
            "arrival_time": str(arrival_time),
            "reference_epoch": self.epoch,
            "body": body,
        }
        self._append(jcs(leaf))

    def _append(self, leaf: bytes) -> None:
        if len(leaf) > 65_535:
            raise DerivationError(f"leaf {len(self.leaves)} has {len(leaf)} bytes")
        self.leaves.append(leaf)

    # Entries (section 2)

    def _entry(self, entry: Entry) -> None:
        if entry.kind == "heartbeat":
            self._log_leaf("audit.heartbeat", [entry.offset, 0], entry.arrival_time, {})
        elif entry.kind == "control":
            said = json.loads(entry.body)
            body = {"actor": said["actor"], "body": said["body"]}
            self._log_leaf(said["class"], [entry.offset, 0], entry.arrival_time, body)
        elif entry.kind == "undecodable":
            self._quarantined(entry, 0, SpanBytes(b"", b"", entry.body, True), "request.undecodable")
        elif entry.kind == "otlp":
            try:
                spans = spans_of(entry.body)
            except Malformed:
                self._quarantined(entry, 0, SpanBytes(b"", b"", entry.body, True), "request.undecodable")
                return
            for ordinal, raw in enumerate(spans):
                self._span(entry, ordinal, raw)
        else:
            raise DerivationError(f"an entry of kind {entry.kind}")

    def _span(self, entry: Entry, ordinal: int, raw: SpanBytes) -> None:
        if not raw.canonical:
            self._quarantined(entry, ordinal, raw, "request.non_canonical")
            return
        try:
            span = read_span(raw)
        except Malformed:
            self._quarantined(entry, ordinal, raw, "span.undecodable")
            return
        whole = len(span.trace_id) == 16 and len(span.span_id) == 8
        if not whole or not any(span.trace_id) or not any(span.span_id):
            self._quarantined(entry, ordinal, raw, "span.invalid_id")
            return
        self._event(entry, ordinal, raw, span)

    # Events (sections 4 to 8)

    def _quarantined(self, entry: Entry, ordinal: int, raw: SpanBytes, code: str) -> None:
        self.counts["quarantined"] += 1
        header = self._header(entry, ordinal, payload_of(raw)) | {
            "stream": None,
            "sequence": None,
            "record_id": f"position:{self.log.log_id}:{entry.offset}:{ordinal}",
            "class": "audit.quarantined",
            "event_time": str(entry.arrival_time),
            "time_basis": "arrival",
            "action": None,
            "outcome": None,
            "asset": None,
            "eccn": None,
            "destination": None,
            "determination": "review",
            "flagged": False,
            "rule_ids": [],
            "faults": [code],
            "facts_hash": None,
        }
        self._append(jcs(header))

    def _header(self, entry: Entry, ordinal: int, payload: bytes) -> dict[str, Any]:
        salt = salt_of(self.salt_key, self.log.log_id, entry.offset, ordinal)
        return {
            "v": 1,
            "log_id": self.log.log_id,
            "position": [entry.offset, ordinal],
            "emitter": text(entry.emitter),
            "authentication": text(entry.authentication),
            "encoding": text(entry.encoding),
            "arrival_time": str(entry.arrival_time),
            "reference_epoch": self.epoch,
            "payload_hash": hashlib.sha256(b"\x02" + salt + payload).hexdigest(),
            "payload_length": len(payload),
        }

    def _event(self, entry: Entry, ordinal: int, raw: SpanBytes, span: Span) -> None:
        faults: set[str] = set()
        sent = known(span.attributes, SPAN_KINDS, faults)
        resource = known(span.resource, RESOURCE_KINDS, faults)
        if span.attributes.repeats or span.resource.repeats:
            faults.add("attribute.duplicate_key")
        if span.attributes.count > 1024:
            faults.add("attribute.limit")
        claimed = class_of(sent.get("audit.event.class"), faults)
        event_time, time_basis = time_of(span, entry.arrival_time, faults)
        stream, sequence = stream_of(resource.get("audit.source.id"), sent.get("audit.sequence.number"))
        identity: tuple[Any, ...]
        if stream is not None:
            identity = ("stream", entry.emitter, stream, sequence)
        else:
            identity = ("span", entry.emitter, span.trace_id.hex(), span.span_id.hex())
        payload = payload_of(raw)
        verdict = self._verdict(identity, payload, raw.span)
        if verdict == "suppressed":
            self.counts["duplicates"] += 1
            self.suppressed.update(struct.pack(">Q", entry.offset) + struct.pack(">I", ordinal))
            self.suppressed.update(hashlib.sha256(jcs(list(identity))).digest())
            return
        name = claimed
        if verdict == "duplicate":
            faults.add("duplicate_suspect")
        if verdict == "conflict":
            faults.add("identity.conflict")
            name = "audit.conflict"
            self.counts["conflicts"] += 1
        self.sealed.append(Sealed(identity, payload, raw.span, entry.arrival_time))
        self._remember(self.sealed[-1])
        header = self._header(entry, ordinal, payload) | {
            "stream": text_or_null(stream),
            "sequence": sequence,
            "record_id": text(sent.get("audit.record.id", f"{span.trace_id.hex()}:{span.span_id.hex()}")),
            "class": text(name),
            "event_time": str(event_time),
            "time_basis": time_basis,
            "action": text_or_null(sent.get("audit.action")),
            "outcome": text_or_null(sent.get("audit.outcome")),
            "asset": text_or_null(sent.get("audit.target.id")),
            "faults": sorted(faults),
        }
        header |= self._judged(entry.offset, ordinal, claimed, time_basis, faults)
        self._append(jcs(header))

    def _judged(self, offset: int, ordinal: int, claimed: str, time_basis: str, faults: set[str]) -> dict[str, Any]:
        """The header fields of section 6."""
        none: dict[str, Any] = {"facts_hash": None, "destination": None, "eccn": None, "flagged": False, "rule_ids": []}
        demanding = faults - {"time.end_before_start"}
        if claimed not in DETERMINED:
            demanding -= {"duplicate_suspect"}
            exempt = claimed == "other" or claimed.startswith("audit.")
            if exempt:
                demanding &= {"class.unknown", "identity.conflict"}
            return none | {"determination": "review" if demanding else None}
        facts = self.facts.get((offset, ordinal))
        if facts is None:
            raise DerivationError(f"no facts of the event at {offset}, {ordinal}")
        document = json.loads(facts)
        if jcs(document) != facts:
            raise DerivationError(f"the facts at {offset}, {ordinal} are not canonical")
        if ("both" in document) != (time_basis == "both"):
            raise DerivationError(f"the facts at {offset}, {ordinal} do not fit its time basis")
        documents = document.get("both", [document])
        governing = max(OUTCOMES.index(one["governing"]) for one in documents)
        if demanding or time_basis == "both":
            governing = max(governing, OUTCOMES.index("review"))
        salt = salt_of(self.salt_key, self.log.log_id, offset, ordinal)
        return {
            "facts_hash": hashlib.sha256(b"\x03" + salt + hashlib.sha256(facts).digest()).hexdigest(),
            "destination": text_or_null(documents[-1]["destination"]),
            "eccn": text_or_null(documents[-1]["eccn"]),
            "determination": OUTCOMES[governing],
            "flagged": any(one["flagged"] for one in documents),
            "rule_ids": sorted({rule["id"] for one in documents for rule in one["rules"] if rule["governs"]}),
        }

    # One record once (section 7)

    def _verdict(self, identity: tuple[Any, ...], payload: bytes, span: bytes) -> str:
        sealed = self.identities.get(identity, [])
        seen = bool(sealed)
        if identity[0] == "span":
            seen = any(one.arrival >= self.watermark - 7 * DAY and not one.too_old for one in sealed)
        if not seen:
            return "new"
        if any(one.payload == payload for one in sealed):
            return "suppressed"
        return "duplicate" if any(one.span == span for one in sealed) else "conflict"

    def _remember(self, sealed: Sealed) -> None:
        self.identities.setdefault(sealed.identity, []).append(sealed)
        if sealed.identity[0] == "stream":
            _, emitter, name, sequence = sealed.identity
            self._sealed_in_stream(self.streams.setdefault((emitter, name), Stream()), sequence, sealed.arrival)

    # Gaps (section 9)

    def _sealed_in_stream(self, stream: Stream, sequence: int, arrival: int) -> None:
        if sequence in stream.arrivals:
            return
        stream.order.append((sequence, arrival))
        stream.arrivals[sequence] = arrival
        if any(begin <= sequence < end for begin, end in stream.declared):
            stream.late.add(sequence)

    def _gaps(self, seen_by: float) -> None:
        """Declare what is not declared yet of every hole whose ``seen_at`` is ``seen_by`` or earlier."""
        for (emitter, name), stream in sorted(self.streams.items()):
            for begin, end in _holes(stream):
                seen_at = next(arrival for sequence, arrival in stream.order if sequence >= end)
                if seen_at > seen_by:
                    continue
                for left, right in _without(begin, end, stream.declared):
                    body = {"emitter": text(emitter), "stream": text(name), "from": left, "to": right}
                    self._log_leaf("audit.gap", None, self.watermark, body | {"seen_at": str(seen_at)})
                    self.counts["gaps"] += 1
                    stream.declared.append((left, right))
                    self.missing.append(Missing(emitter, name, left, right))

    def _late(self) -> None:
        """Say which of the declared sequences were sealed in this batch."""
        for (emitter, name), stream in sorted(self.streams.items()):
            for begin, end in _runs(sorted(stream.late)):
                body = {"emitter": text(emitter), "stream": text(name), "from": begin, "to": end}
                self._log_leaf("audit.gap.closed", None, self.watermark, body)
            stream.late.clear()


def _holes(stream: Stream) -> list[tuple[int, int]]:
    """Maximal runs of sequences not sealed below the highest sealed one."""
    if len(stream.arrivals) == max(stream.arrivals) + 1:
        return []
    holes, expected = [], 0
    for sequence in sorted(stream.arrivals):
        if sequence > expected:
            holes.append((expected, sequence))
        expected = sequence + 1
    return holes


def _without(begin: int, end: int, declared: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of [begin, end) without the declared ranges."""
    left, at = [], begin
    for first, last in sorted(declared):
        if last <= at or first >= end:
            continue
        if first > at:
            left.append((at, first))
        at = max(at, last)
    if at < end:
        left.append((at, end))
    return left


def _runs(sequences: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for sequence in sequences:
        if runs and runs[-1][1] == sequence:
            runs[-1] = (runs[-1][0], sequence + 1)
        else:
            runs.append((sequence, sequence + 1))
    return runs


def derive(
    log: Log,
    entries: Iterable[Entry],
    batches: Sequence[Batch],
    salt_key: bytes,
    facts: Mapping[tuple[int, int], bytes],
    earlier: Sequence[Derived] = (),
) -> Derived:
    """The leaves of a log, of its batches so far.

    ``facts`` are documents by position, ``earlier`` all logs of earlier generations, generation by generation.
    """
    deriver = Deriver(log, salt_key, facts, earlier)
    waiting = deque(entries)
    for batch in batches:
        taken = []
        while waiting and waiting[0].offset < batch.to:
            taken.append(waiting.popleft())
        if batch.successor is not None:
            if taken:
                raise DerivationError(f"the log is closed at {batch.to}, and entry {taken[0].offset} is not sealed")
            deriver.closing(batch)
        elif taken or not waiting:
            deriver.batch(taken, batch)
        else:
            deriver.lost(waiting[0], batch)
    return Derived(deriver.leaves, deriver.batch_leaves, deriver.closed, deriver.sealed, deriver.missing)
