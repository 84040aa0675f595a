"""One record once: what is new, what was sealed before, what contradicts it (``docs/evidence-format.md`` section 7).

A batch in which nothing repeats costs a few vectorised passes. Only records whose identity was sealed before, or may
have been, are looked at one by one, against the bytes in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from auditspan.canonical import canonical_json

from .foreign import WINDOW, ForeignIdentities, Hashes, fixed_width
from .streams import UNSEEN, Int64s, Stream, advance, contains

__all__ = [
    "Identities",
    "IdentityRows",
    "Judgement",
    "SealedPayloads",
    "StreamKey",
    "Verdict",
    "identity_json",
    "payload_span",
]

StreamKey = tuple[str, str]
"""Emitter and stream."""

_LOOK_UP: Final = 5_000
"""Identities asked of the store at once."""


class Verdict(IntEnum):
    """What becomes of a record."""

    NEW = 0
    SUPPRESSED = 1
    DUPLICATE_SUSPECT = 2
    CONFLICT = 3


class SealedPayloads(Protocol):
    """Payloads that were sealed under identities, as `auditspan.store.contract.Store` gives them."""

    def payloads_of_sequences(self, log_id: str, keys: Sequence[tuple[str, str, int]]) -> pa.Table:
        """``emitter``, ``stream``, ``sequence``, ``payload``."""

    def payloads_of_spans(self, log_id: str, keys: Sequence[tuple[str, bytes, bytes]]) -> pa.Table:
        """``emitter``, ``trace_id``, ``span_id``, ``payload``."""


@dataclass(frozen=True, slots=True, eq=False)
class IdentityRows:
    """Records in order of position. Rows of which neither mask is true have no identity.

    ``emitter`` and ``stream`` are dictionary arrays, ``stream`` null outside ``in_stream``; times are nanoseconds.
    """

    in_stream: npt.NDArray[np.bool_]
    foreign: npt.NDArray[np.bool_]
    emitter: pa.DictionaryArray
    stream: pa.DictionaryArray
    sequence: Int64s
    trace_id: pa.Array
    span_id: pa.Array
    payload: pa.Array
    arrival: Int64s
    watermark: Int64s


@dataclass(slots=True, eq=False)
class Judgement:
    """Verdicts row for row, and what the state becomes once the batch is in the store.

    ``closed`` holds, for each stream, the declared sequences that came in this batch, sorted.
    """

    verdicts: npt.NDArray[np.int8]
    streams: dict[StreamKey, Stream] = field(default_factory=dict)
    closed: dict[StreamKey, Int64s] = field(default_factory=dict)
    foreign_hashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    foreign_arrivals: Int64s = field(default_factory=lambda: np.empty(0, np.int64))


class Identities:
    """What one log has sealed. `judge` changes nothing, `apply` takes a judgement over."""

    def __init__(
        self, streams: dict[StreamKey, Stream] | None = None, foreign: ForeignIdentities | None = None
    ) -> None:
        self.streams: dict[StreamKey, Stream] = streams if streams is not None else {}
        self.foreign = foreign if foreign is not None else ForeignIdentities()

    def judge(self, rows: IdentityRows, log_id: str, sealed: SealedPayloads) -> Judgement:
        """Verdicts for a batch. ``sealed`` is asked only for identities that repeat."""
        judgement = Judgement(np.zeros(len(rows.sequence), np.int8))
        groups = _by_stream(rows)
        repeats, before = self._repeats_in_streams(rows, groups)
        asked = [identity for identity, members in repeats.items() if members[0] in before]
        payloads = _ask(asked, _sequence_payloads(log_id, sealed))
        _settle(judgement.verdicts, rows, repeats, before, payloads)
        for key, members in groups.items():
            new, state = members.rows, self.streams.get(key, UNSEEN)
            if members.contiguous and state.highest + 1 == members.first:
                judgement.streams[key] = Stream(members.first + len(new) - 1, state.holes)
                continue
            new = new[judgement.verdicts[new] == Verdict.NEW]
            judgement.streams[key], closed = advance(state, rows.sequence[new], rows.arrival[new])
            if len(closed):
                judgement.closed[key] = closed
        self._judge_foreign(judgement, rows, log_id, sealed)
        return judgement

    def apply(self, judgement: Judgement) -> None:
        """Take over what a judgement says was sealed."""
        self.streams.update(judgement.streams)
        self.foreign.add(judgement.foreign_hashes, judgement.foreign_arrivals)

    def _repeats_in_streams(
        self, rows: IdentityRows, groups: Mapping[StreamKey, _Members]
    ) -> tuple[dict[_Identity, list[int]], set[int]]:
        """The rows of every identity that was sealed before or repeats in the batch; and the rows sealed before."""
        repeats: dict[_Identity, list[int]] = {}
        seen: set[int] = set()
        for (emitter, stream), members in groups.items():
            state = self.streams.get((emitter, stream), UNSEEN)
            if members.contiguous and state.highest + 1 == members.first:
                continue
            sequences = rows.sequence[members.rows]
            before = contains(state, sequences)
            _, inverse, counts = np.unique(sequences, return_inverse=True, return_counts=True)
            for place in np.flatnonzero(before | (counts[inverse] > 1)):
                identity = (emitter, stream, int(sequences[place]))
                repeats.setdefault(identity, []).append(int(members.rows[place]))
            seen.update(members.rows[before].tolist())
        return repeats, seen

    def _judge_foreign(self, judgement: Judgement, rows: IdentityRows, log_id: str, sealed: SealedPayloads) -> None:
        mine = np.flatnonzero(rows.foreign)
        if not len(mine):
            return
        selection = pa.array(mine)
        emitter = rows.emitter.take(selection)
        trace_ids, span_ids = rows.trace_id.take(selection), rows.span_id.take(selection)
        names = np.array([self.foreign.emitter_hash(name) for name in emitter.dictionary.to_pylist()], np.uint64)
        hashes = self.foreign.hash(
            names[emitter.indices.to_numpy()], fixed_width(trace_ids, 2), fixed_width(span_ids, 1)[:, 0]
        )
        watermark = rows.watermark[mine]
        before = self.foreign.last_seen(hashes) >= watermark - WINDOW
        order = np.argsort(hashes, kind="stable")
        same = hashes[order][1:] == hashes[order][:-1]
        twice = np.zeros(len(mine), np.bool_)
        twice[order[1:][same]] = True
        twice[order[:-1][same]] = True
        repeats: dict[_Identity, list[int]] = {}
        for place in np.flatnonzero(before | twice):
            identity = (emitter[int(place)].as_py(), trace_ids[int(place)].as_py(), span_ids[int(place)].as_py())
            repeats.setdefault(identity, []).append(int(mine[place]))
        # All are asked for, also those seen last more than a window ago: a copy equals whatever was ever sealed.
        payloads = _ask(list(repeats), _span_payloads(log_id, sealed))
        _settle(judgement.verdicts, rows, repeats, set(mine[before].tolist()), payloads, window=WINDOW)
        kept = judgement.verdicts[mine] != Verdict.SUPPRESSED
        judgement.foreign_hashes, judgement.foreign_arrivals = hashes[kept], rows.arrival[mine[kept]]


_Identity = tuple[str, str, int] | tuple[str, bytes, bytes]
_LookUp = Callable[[list[_Identity]], Iterable[tuple[_Identity, bytes | None]]]


@dataclass(frozen=True, slots=True, eq=False)
class _Members:
    """The rows of one stream in order of position, and whether their sequences follow one another."""

    rows: Int64s
    first: int
    contiguous: bool


def _by_stream(rows: IdentityRows) -> dict[StreamKey, _Members]:
    mine = np.flatnonzero(rows.in_stream)
    if not len(mine):
        return {}
    emitters, streams = rows.emitter.dictionary.to_pylist(), rows.stream.dictionary.to_pylist()
    emitter = rows.emitter.indices.to_numpy(zero_copy_only=False)[mine].astype(np.int64)
    stream = rows.stream.indices.fill_null(0).to_numpy(zero_copy_only=False)[mine].astype(np.int64)
    code = emitter * len(streams) + stream
    order = np.argsort(code, kind="stable")
    mine, code = mine[order], code[order]
    sequence = rows.sequence[mine]
    starts = np.flatnonzero(np.concatenate(([True], code[1:] != code[:-1])))
    ends = np.append(starts[1:], len(code))
    follows = np.concatenate(([True], np.diff(sequence) == 1))
    follows[starts] = True
    contiguous = np.logical_and.reduceat(follows, starts)
    return {
        (emitters[code[start] // len(streams)], streams[code[start] % len(streams)]): _Members(
            mine[start:end], int(sequence[start]), bool(whole)
        )
        for start, end, whole in zip(starts.tolist(), ends.tolist(), contiguous.tolist(), strict=True)
    }


def _settle(
    verdicts: npt.NDArray[np.int8],
    rows: IdentityRows,
    repeats: Mapping[_Identity, list[int]],
    sealed_before: set[int],
    payloads: Mapping[_Identity, list[bytes | None]],
    window: int | None = None,
) -> None:
    """Compare every record whose identity repeats with what was sealed under it, in order of position.

    ``sealed_before`` are the rows whose identity an earlier batch sealed, ``payloads`` what the store has.
    """
    for identity, members in repeats.items():
        sealed = list(payloads.get(identity, ()))
        # A hash may have nominated what was never sealed; then the store has nothing, and the record is new.
        stored = bool(sealed)
        last: int | None = None
        for row in members:
            payload = rows.payload[row].as_py()
            watermark = int(rows.watermark[row])
            known = (stored and row in sealed_before) or (
                last is not None and (window is None or watermark - last <= window)
            )
            verdict = _compare(payload, sealed) if known else Verdict.NEW
            verdicts[row] = verdict
            if verdict != Verdict.SUPPRESSED:
                sealed.append(payload)
                # The window is reckoned from arrival times, which every leaf carries: a restart finds the same.
                last = max(int(rows.arrival[row]), last if last is not None else 0)


def _ask(identities: Sequence[_Identity], look_up: _LookUp) -> dict[_Identity, list[bytes | None]]:
    payloads: dict[_Identity, list[bytes | None]] = {}
    for begin in range(0, len(identities), _LOOK_UP):
        for identity, payload in look_up(list(identities[begin : begin + _LOOK_UP])):
            payloads.setdefault(identity, []).append(payload)
    return payloads


def _compare(payload: bytes, sealed: Sequence[bytes | None]) -> Verdict:
    if payload in sealed:
        return Verdict.SUPPRESSED
    span = payload_span(payload)
    if any(other is not None and payload_span(other) == span for other in sealed):
        return Verdict.DUPLICATE_SUSPECT
    # What was sealed may have been erased after its retention; then nothing can be said to be equal to it.
    return Verdict.CONFLICT


def payload_span(payload: bytes) -> bytes:
    """The ``Span`` message of a payload (evidence format, section 3)."""
    resource = 4 + int.from_bytes(payload[:4], "big")
    scope = resource + 4 + int.from_bytes(payload[resource : resource + 4], "big")
    return payload[scope + 4 :]


def identity_json(rows: IdentityRows, row: int) -> bytes:
    """JCS of the identity of a row, as the digest of suppressed records takes it (evidence format, section 10)."""
    emitter = rows.emitter[row].as_py()
    if rows.in_stream[row]:
        return canonical_json(["stream", emitter, rows.stream[row].as_py(), int(rows.sequence[row])])
    return canonical_json(["span", emitter, rows.trace_id[row].as_py().hex(), rows.span_id[row].as_py().hex()])


def _sequence_payloads(log_id: str, sealed: SealedPayloads) -> _LookUp:
    def look_up(identities: list[_Identity]) -> Iterable[tuple[_Identity, bytes | None]]:
        found = sealed.payloads_of_sequences(log_id, identities)  # type: ignore[arg-type]  # all are of streams
        columns = [found[name].to_pylist() for name in ("emitter", "stream", "sequence", "payload")]
        return [
            ((emitter, stream, sequence), payload) for emitter, stream, sequence, payload in zip(*columns, strict=True)
        ]

    return look_up


def _span_payloads(log_id: str, sealed: SealedPayloads) -> _LookUp:
    def look_up(identities: list[_Identity]) -> Iterable[tuple[_Identity, bytes | None]]:
        found = sealed.payloads_of_spans(log_id, identities)  # type: ignore[arg-type]  # all are foreign
        columns = [found[name].to_pylist() for name in ("emitter", "trace_id", "span_id", "payload")]
        return [((emitter, trace, span), payload) for emitter, trace, span, payload in zip(*columns, strict=True)]

    return look_up
