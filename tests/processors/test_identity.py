"""One record once, against a deriver that looks at one record at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from auditspan.processors.foreign import WINDOW
from auditspan.processors.identity import Identities, IdentityRows, Verdict, identity_json, payload_span
from hypothesis import given, settings
from hypothesis import strategies as st

from auditspan.ledger.commitments import payload_of

LOG = "ab" * 16
DAY = WINDOW // 7


class Sealed:
    """What a store would hold: payloads by identity. Counts how often it is asked."""

    def __init__(self) -> None:
        self.payloads: dict[tuple[object, ...], list[bytes]] = {}
        self.asked = 0

    def payloads_of_sequences(self, log_id: str, keys: Sequence[tuple[str, str, int]]) -> pa.Table:
        return self._found(keys, ("emitter", "stream", "sequence"))

    def payloads_of_spans(self, log_id: str, keys: Sequence[tuple[str, bytes, bytes]]) -> pa.Table:
        return self._found(keys, ("emitter", "trace_id", "span_id"))

    def _found(self, keys: Sequence[tuple[object, ...]], names: tuple[str, ...]) -> pa.Table:
        self.asked += 1
        rows = [
            dict(zip(names, key, strict=True)) | {"payload": payload}
            for key in keys
            for payload in self.payloads.get(key, [])
        ]
        return pa.Table.from_pylist(rows) if rows else pa.table({name: [] for name in (*names, "payload")})


class Record:
    """One record: a stream number, or a trace id; which span and resource bytes; when it came."""

    def __init__(self, key: tuple[object, ...], variant: int, resource: int, watermark: int) -> None:
        self.key, self.watermark = key, watermark
        self.payload = payload_of(b"r%d" % resource, b"", b"span %d" % variant)


def rows_of(records: Sequence[Record]) -> IdentityRows:
    numbered = np.array([isinstance(r.key[2], int) for r in records], np.bool_)
    times = np.array([r.watermark for r in records], np.int64)
    return IdentityRows(
        in_stream=numbered,
        foreign=~numbered,
        emitter=pa.array([r.key[0] for r in records], pa.string()).dictionary_encode(),
        stream=pa.array(
            [r.key[1] if n else None for r, n in zip(records, numbered, strict=True)], pa.string()
        ).dictionary_encode(),
        sequence=np.array([r.key[2] if n else 0 for r, n in zip(records, numbered, strict=True)], np.int64),
        trace_id=pa.array([b"t" * 16 if n else r.key[1] for r, n in zip(records, numbered, strict=True)], pa.binary()),
        span_id=pa.array([b"s" * 8 if n else r.key[2] for r, n in zip(records, numbered, strict=True)], pa.binary()),
        payload=pa.array([r.payload for r in records], pa.binary()),
        arrival=times,
        watermark=times,
    )


def slowly(records: Sequence[Record], sealed: dict[tuple[object, ...], list[Record]]) -> list[Verdict]:
    """Section 7 of the evidence format, word for word."""
    verdicts = []
    for record in records:
        under = sealed.setdefault(record.key, [])
        numbered = isinstance(record.key[2], int)
        seen = any(numbered or earlier.watermark >= record.watermark - WINDOW for earlier in under)
        if not seen:
            verdict = Verdict.NEW
        elif record.payload in [earlier.payload for earlier in under]:
            verdict = Verdict.SUPPRESSED
        elif payload_span(record.payload) in [payload_span(earlier.payload) for earlier in under]:
            verdict = Verdict.DUPLICATE_SUSPECT
        else:
            verdict = Verdict.CONFLICT
        if verdict != Verdict.SUPPRESSED:
            under.append(record)
        verdicts.append(verdict)
    return verdicts


numbered_keys = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["s", "t"]), st.integers(0, 6))
foreign_keys = st.tuples(
    st.sampled_from(["a", "b"]), st.sampled_from([b"x" * 16, b"y" * 16]), st.sampled_from([b"1" * 8, b"2" * 8])
)
drawn_records = st.lists(
    st.lists(
        st.tuples(numbered_keys | foreign_keys, st.integers(0, 2), st.integers(0, 1), st.integers(0, 5)), max_size=15
    ),
    max_size=5,
)


@settings(max_examples=200, deadline=None)
@given(drawn_records)
def test_verdicts_are_those_of_the_slow_deriver(drawn: list[list[tuple[tuple[object, ...], int, int, int]]]) -> None:
    identities, sealed, slow = Identities(), Sealed(), dict[tuple[object, ...], list[Record]]()
    watermark = 0
    for batch in drawn:
        records = []
        for key, variant, resource, days in batch:
            watermark += days * DAY
            records.append(Record(key, variant, resource, watermark))
        if not records:
            continue
        judgement = identities.judge(rows_of(records), LOG, sealed)
        assert judgement.verdicts.tolist() == slowly(records, slow)
        identities.apply(judgement)
        for record, verdict in zip(records, judgement.verdicts, strict=True):
            if verdict != Verdict.SUPPRESSED:
                sealed.payloads.setdefault(record.key, []).append(record.payload)


def numbered(numbers: Sequence[int]) -> list[Record]:
    return [Record(("a", "s", n), n, 0, 1) for n in numbers]


def test_what_follows_in_order_never_asks_the_store() -> None:
    identities, sealed = Identities(), Sealed()
    for begin in (0, 100, 200):
        records = numbered(range(begin, begin + 100))
        judgement = identities.judge(rows_of(records), LOG, sealed)
        assert set(judgement.verdicts.tolist()) == {Verdict.NEW}
        identities.apply(judgement)
    assert sealed.asked == 0


def test_judging_changes_nothing_until_it_is_applied() -> None:
    identities, sealed = Identities(), Sealed()
    rows = rows_of([*numbered([0, 1]), Record(("a", b"x" * 16, b"1" * 8), 0, 0, 1)])
    first = identities.judge(rows, LOG, sealed)
    assert identities.judge(rows, LOG, sealed).verdicts.tolist() == first.verdicts.tolist() == [0, 0, 0]
    identities.apply(first)
    for record in [*numbered([0, 1]), Record(("a", b"x" * 16, b"1" * 8), 0, 0, 1)]:
        sealed.payloads[record.key] = [record.payload]
    assert identities.judge(rows, LOG, sealed).verdicts.tolist() == [Verdict.SUPPRESSED] * 3


def test_nobody_claims_another_emitters_ids() -> None:
    identities, sealed = Identities(), Sealed()
    mine = Record(("a", "s", 0), 0, 0, 1)
    identities.apply(identities.judge(rows_of([mine]), LOG, sealed))
    sealed.payloads[mine.key] = [mine.payload]
    theirs = Record(("b", "s", 0), 1, 0, 1)
    assert identities.judge(rows_of([theirs]), LOG, sealed).verdicts.tolist() == [Verdict.NEW]


def test_identity_json_is_that_of_the_format() -> None:
    rows = rows_of([Record(("a", "s", 7), 0, 0, 1), Record(("a", b"x" * 16, b"1" * 8), 0, 0, 1)])
    assert identity_json(rows, 0) == b'["stream","a","s",7]'
    assert identity_json(rows, 1) == b'["span","a","' + b"78" * 16 + b'","' + b"31" * 8 + b'"]'
    assert hashlib.sha256(identity_json(rows, 0)).digest()


def test_erased_payloads_cannot_be_equal() -> None:
    identities, sealed = Identities(), Sealed()
    record = Record(("a", "s", 0), 0, 0, 1)
    identities.apply(identities.judge(rows_of([record]), LOG, sealed))
    sealed.payloads[record.key] = [None]  # type: ignore[list-item]
    assert identities.judge(rows_of([record]), LOG, sealed).verdicts.tolist() == [Verdict.CONFLICT]
