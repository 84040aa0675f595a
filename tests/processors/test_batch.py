"""Leaves as a pure function of entries, earlier state, epoch and salt key."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from auditspan.processors.batch import Derived, LogContext, LogState, derive, sealing_month
from auditspan.processors.intake import decode_entries
from sealing_inputs import CONTEXT, LOG_ID, NOW, SALT_KEY, SECOND, access, attributes, beat, entry, request

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import Entry, EntryKind
from auditspan.ledger.commitments import facts_hash
from auditspan.ledger.merkle import leaf_hash
from auditspan.ledger.typed_columns import from_headers, from_payloads
from auditspan.store.schema import EVENTS, HEADER_COLUMNS, PAYLOAD_COLUMNS

DAY = 86_400 * SECOND


class Sealed:
    """The store's side of identity, from the leaves sealed so far."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def take(self, leaves: pa.Table) -> None:
        columns = leaves.select(["emitter", "stream", "sequence", "trace_id", "span_id", "payload"])
        self.rows += [row for row in columns.to_pylist() if row["payload"] is not None]

    def payloads_of_sequences(self, log_id: str, keys: Sequence[tuple[str, str, int]]) -> pa.Table:
        return self._found(keys, ("emitter", "stream", "sequence"))

    def payloads_of_spans(self, log_id: str, keys: Sequence[tuple[str, bytes, bytes]]) -> pa.Table:
        return self._found(keys, ("emitter", "trace_id", "span_id"))

    def _found(self, keys: Sequence[tuple[Any, ...]], names: tuple[str, ...]) -> pa.Table:
        rows = [
            {name: row[name] for name in (*names, "payload")}
            for row in self.rows
            if tuple(row[name] for name in names) in set(keys)
        ]
        return pa.Table.from_pylist(rows) if rows else pa.table({name: [] for name in (*names, "payload")})


class Log:
    """A log in memory: `seal` derives a batch and takes it over."""

    def __init__(self, context: LogContext = CONTEXT) -> None:
        self.context, self.state, self.sealed = context, LogState(), Sealed()
        self.headers: list[bytes] = []

    def derive(self, entries: Sequence[Entry]) -> Derived:
        return derive(entries, decode_entries(entries), self.state, self.context, self.sealed)

    def seal(self, *entries: Entry) -> list[dict[str, Any]]:
        derived = self.derive(entries)
        derived.apply(self.state)
        self.sealed.take(derived.leaves)
        headers = derived.leaves["header"].to_pylist()
        self.headers += headers
        return [json.loads(header) for header in headers]


def classes(leaves: Sequence[dict[str, Any]]) -> list[str]:
    return [leaf["class"] for leaf in leaves]


def event(**more: object) -> dict[str, Any]:
    """The header of the only span of a request."""
    span = access(0) | more
    stream = span.pop("_stream", "stream-1")
    return Log().seal(entry(0, request(span, stream=stream)))[1]  # type: ignore[arg-type]


def test_a_log_opens_with_its_binding_and_a_batch_ends_with_its_account() -> None:
    opened, first, second, batch = Log().seal(entry(0, request(access(0), access(1))))
    assert opened == {
        "v": 1,
        "log_id": LOG_ID,
        "class": "audit.log.opened",
        "position": None,
        "arrival_time": str(NOW - SECOND),
        "reference_epoch": 1,
        "body": CONTEXT.opening.body(),
    }
    assert [first["position"], second["position"]] == [[0, 0], [0, 1]]
    assert batch["class"] == "audit.batch"
    assert batch["position"] is None
    assert batch["body"] == {
        "from": 0,
        "to": 1,
        "first_leaf": 0,
        "sealed": 3,
        "duplicates": 0,
        "conflicts": 0,
        "quarantined": 0,
        "gaps": 0,
        "suppressed_digest": hashlib.sha256(b"").hexdigest(),
        "watermark": str(NOW),
        "epoch": {"number": 1, "digest": "ab" * 32},
        "software": "auditspan test",
    }


def test_salt_and_hashes_are_those_of_the_format() -> None:
    log = Log()
    derived = log.derive([entry(0, request(access(0))), entry(1, request(access(1)))])
    row = derived.leaves.slice(2, 1).to_pylist()[0]
    header = json.loads(row["header"])
    salt = hmac.digest(SALT_KEY, bytes.fromhex(LOG_ID) + struct.pack(">QI", 1, 0), "sha256")
    assert row["salt"] == salt
    assert header["payload_hash"] == hashlib.sha256(b"\x02" + salt + row["payload"]).hexdigest()
    assert header["payload_length"] == len(row["payload"])
    assert [digest.tobytes() for digest in derived.leaf_hashes] == [
        leaf_hash(leaf) for leaf in derived.leaves["header"].to_pylist()
    ]


def test_what_stands_beside_a_leaf_is_what_a_verifier_derives() -> None:
    log = Log()
    long = "x" * 300
    entries = [
        entry(
            0,
            request(
                access(0, **{"audit.target.id": long, "audit.action": "", "audit.actor.id": "sha256:1"}),
                access(1, _start=2**64 - 1, _end=2**64 - 1),
                access(1, **{"client.address": "203.0.113.7"}),
                {},
                access(5, _trace_id=b"short"),
            ),
        ),
        beat(1, NOW),
        entry(2, b"\xff not OTLP", arrival=NOW + 5),
        entry(3, request(access(2, **{"audit.record.id": "é" * 200}))),
    ]
    leaves = log.derive(entries).leaves
    assert leaves.schema.equals(EVENTS)
    assert leaves["leaf_index"].to_pylist() == list(range(len(leaves)))
    typed = from_headers(leaves["header"].combine_chunks())
    for field in HEADER_COLUMNS:
        assert leaves[field.name].to_pylist() == typed[field.name].to_pylist(), field.name
    read = from_payloads(leaves["payload"].combine_chunks())
    for field in PAYLOAD_COLUMNS:
        assert leaves[field.name].to_pylist() == read[field.name].to_pylist(), field.name


def test_the_logs_own_leaves_stand_where_their_entries_do() -> None:
    leaves = Log().seal(
        beat(0, NOW),
        entry(1, request(access(0), access(1))),
        beat(2, NOW),
        beat(3, NOW),
        entry(4, request(access(2))),
        beat(5, NOW),
    )
    positions = [leaf["position"] for leaf in leaves]
    assert positions == [None, [0, 0], [1, 0], [1, 1], [2, 0], [3, 0], [4, 0], [5, 0], None]
    assert classes(leaves)[1] == classes(leaves)[4] == classes(leaves)[7] == "audit.heartbeat"


def test_control_entries_become_leaves_of_their_class() -> None:
    said = b'{"actor":"officer","body":{"n":1},"class":"audit.key.added"}'
    control = entry(0, said, kind=EntryKind.CONTROL, emitter="auditspan", encoding="jcs")
    leaf = Log().seal(control)[1]
    assert (leaf["class"], leaf["body"], leaf["position"]) == (
        "audit.key.added",
        {"actor": "officer", "body": {"n": 1}},
        [0, 0],
    )
    with pytest.raises(AuditSpanError, match="Control entry 0"):
        Log().seal(replace(control, body=b"[]"))


def test_replay_of_the_same_batches_gives_the_same_leaves() -> None:
    entries = [entry(i, request(access(i), {"_trace_id": bytes([i + 1]) * 16}), arrival=NOW + i) for i in range(6)]
    entries[4] = entry(4, entries[1].body)
    once, again = Log(), Log()
    for log in (once, again):
        log.seal(*entries[:2])
        log.seal(*entries[2:5])
        log.seal(entries[5])
    assert once.headers == again.headers
    # Where batches end is an input: other boundaries, other leaves.
    other = Log()
    other.seal(*entries)
    assert other.headers != once.headers


def test_a_batch_continues_where_the_log_stands() -> None:
    log = Log()
    log.seal(entry(0, request(access(0))))
    with pytest.raises(AuditSpanError, match="journal offset 1"):
        log.derive([entry(2, request(access(1)))])
    second = log.seal(entry(1, request(access(1))))
    assert classes(second) == ["model.access", "audit.batch"]
    assert second[-1]["body"]["first_leaf"] == 3
    assert second[-1]["body"]["from"] == 1


def test_a_batch_is_of_the_month_of_its_watermark() -> None:
    assert sealing_month(NOW) == 202611
    derived = Log().derive([entry(0, request(access(0)), arrival=NOW)])
    assert set(derived.leaves["sealing_month"].to_pylist()) == {202611}


class TestIdentity:
    def test_a_record_sent_again_is_suppressed_and_accounted_for(self) -> None:
        log = Log()
        log.seal(entry(0, request(access(0), access(1))))
        *leaves, batch = log.seal(entry(1, request(access(0), access(1), access(2))))
        assert [leaf["sequence"] for leaf in leaves] == [2]
        expected = b"".join(
            struct.pack(">QI", 1, i) + hashlib.sha256(b'["stream","gateway","stream-1",%d]' % i).digest()
            for i in range(2)
        )
        assert batch["body"]["duplicates"] == 2
        assert batch["body"]["suppressed_digest"] == hashlib.sha256(expected).hexdigest()

    def test_the_same_identity_with_other_bytes_is_a_conflict_and_is_kept(self) -> None:
        log = Log()
        log.seal(entry(0, request(access(0))))
        conflict, batch = log.seal(entry(1, request(access(0, **{"audit.actor.id": "someone else"}))))
        assert conflict["class"] == "audit.conflict"
        assert conflict["faults"] == ["identity.conflict"]
        assert conflict["determination"] == "review"
        assert batch["body"]["conflicts"] == 1

    def test_the_same_span_with_another_resource_is_suspected(self) -> None:
        log = Log()
        log.seal(entry(0, request(access(0))))
        suspect, _ = log.seal(entry(1, request(access(0), resource={"host.name": "b"})))
        assert (suspect["class"], suspect["faults"]) == ("model.access", ["duplicate_suspect"])

    def test_foreign_spans_are_known_for_seven_days_of_the_watermark(self) -> None:
        log = Log()
        body = request({}, stream=None)
        log.seal(entry(0, body))
        assert classes(log.seal(entry(1, body, arrival=NOW + 7 * DAY))) == ["audit.batch"]
        assert classes(log.seal(entry(2, body, arrival=NOW + 7 * DAY + 1))) == ["other", "audit.batch"]

    def test_quarantined_records_are_never_suppressed(self) -> None:
        log = Log()
        body = request(access(0, _trace_id=b"bad"))
        for offset in range(2):
            assert "audit.quarantined" in classes(log.seal(entry(offset, body)))


class TestFaults:
    def test_a_sound_record_has_none(self) -> None:
        header = event()
        assert header["faults"] == []
        assert (header["stream"], header["sequence"], header["time_basis"]) == ("stream-1", 0, "event")
        assert header["record_id"] == "record-0"

    @pytest.mark.parametrize(
        ("span", "faults"),
        [
            ({"_more": attributes({"audit.event.class": "other", "x": 1})}, ["attribute.duplicate_key"]),
            ({"audit.action": 7}, ["attribute.wrong_type"]),
            ({"audit.event.class": "audit.batch"}, ["class.unknown"]),
            ({"audit.event.class": "nonsense"}, ["class.unknown"]),
            ({"_start": 0, "_end": 0}, ["time.missing"]),
            ({"_start": NOW, "_end": NOW - 1}, ["time.end_before_start"]),
            ({"_start": NOW - 7 * DAY, "_end": 0}, []),
            ({"_start": NOW - 7 * DAY - 1, "_end": 0}, ["time.outside_window"]),
            ({"_start": NOW + 300 * SECOND, "_end": 0}, []),
            ({"_start": NOW + 300 * SECOND + 1, "_end": 0}, ["time.outside_window"]),
            ({"_start": 1, "_end": 1}, ["time.outside_window"]),
            ({"_start": 2**64 - 1, "_end": 2**64 - 1}, ["time.outside_window"]),
            ({"_more": attributes({f"k{i}": i for i in range(1100)})}, ["attribute.limit"]),
        ],
    )
    def test_each_fault_has_its_code(self, span: dict[str, object], faults: list[str]) -> None:
        header = event(**span)
        assert header["faults"] == faults
        assert header["class"] == ("other" if "class.unknown" in faults else "model.access")
        demanded = bool(faults) and faults != ["time.end_before_start"]
        assert header["determination"] == ("review" if demanded else None)

    def test_time_basis_and_event_time(self) -> None:
        assert event(_start=0, _end=0)["time_basis"] == "arrival"
        assert event(_start=0, _end=0)["event_time"] == str(NOW)
        assert event(_start=0, _end=NOW - 5)["event_time"] == str(NOW - 5)
        assert event(_start=2**64 - 1, _end=0)["event_time"] == str(2**64 - 1)
        assert event(_start=1, _end=1)["time_basis"] == "both"

    @pytest.mark.parametrize(
        ("span", "code"),
        [
            ({"_trace_id": b"x" * 15}, "span.invalid_id"),
            ({"_span_id": bytes(8)}, "span.invalid_id"),
        ],
    )
    def test_quarantine(self, span: dict[str, object], code: str) -> None:
        header = event(**span)
        assert header["class"] == "audit.quarantined"
        assert header["faults"] == [code]
        assert header["record_id"] == f"position:{LOG_ID}:0:0"
        assert header["determination"] == "review"
        assert (header["event_time"], header["time_basis"]) == (str(NOW), "arrival")
        for name in ("action", "outcome", "asset", "destination", "eccn", "facts_hash", "stream", "sequence"):
            assert header[name] is None

    def test_what_is_no_request_is_kept_whole(self) -> None:
        log = Log()
        bad = entry(0, b"\xff\xff\xff", kind=EntryKind.UNDECODABLE, encoding="raw")
        derived = log.derive([bad, entry(1, request(access(0)))])
        headers = [json.loads(h) for h in derived.leaves["header"].to_pylist()]
        assert headers[1]["faults"] == ["request.undecodable"]
        assert derived.leaves["payload"][1].as_py() == bytes(8) + struct.pack(">I", 3) + b"\xff\xff\xff"
        assert headers[2]["class"] == "model.access"
        assert headers[3]["body"]["quarantined"] == 1

    @pytest.mark.parametrize(
        ("stream", "sequence", "known"),
        [
            ("s" * 128, 0, True),
            ("é" * 64, 0, True),
            ("s" * 129, 0, False),
            ("s", 2**53 - 1, True),
            ("s", 2**53, False),
            ("s", -1, False),
            (None, 0, False),
        ],
    )
    def test_stream_identity_has_bounds(self, stream: str | None, sequence: int, known: bool) -> None:
        header = event(_stream=stream, **{"audit.sequence.number": sequence})
        assert (header["stream"] is not None, header["sequence"] is not None) == (known, known)

    def test_without_a_record_id_the_span_ids_stand_for_it(self) -> None:
        header = Log().seal(entry(0, request({}, stream=None)))[1]
        assert header["record_id"] == "00" * 15 + "01:" + "00" * 7 + "01"
        assert (header["class"], header["determination"], header["faults"]) == ("other", None, [])


class TestGaps:
    def test_a_hole_is_declared_once_and_closed_when_it_fills(self) -> None:
        log = Log()
        log.seal(entry(0, request(access(0), access(4))))
        assert classes(log.seal(beat(1, NOW + 60 * SECOND - 1))) == ["audit.heartbeat", "audit.batch"]
        _, gap, batch = log.seal(beat(2, NOW + 60 * SECOND))
        assert gap["class"] == "audit.gap"
        assert gap["body"] == {"emitter": "gateway", "stream": "stream-1", "from": 1, "to": 4, "seen_at": str(NOW)}
        assert gap["arrival_time"] == str(NOW + 60 * SECOND)
        assert batch["body"]["gaps"] == 1
        assert classes(log.seal(beat(3, NOW + 90 * SECOND))) == ["audit.heartbeat", "audit.batch"]
        late = log.seal(entry(4, request(access(2)), arrival=NOW + 91 * SECOND))
        assert classes(late) == ["model.access", "audit.gap.closed", "audit.batch"]
        assert late[1]["body"] == {"emitter": "gateway", "stream": "stream-1", "from": 2, "to": 3}
        assert classes(log.seal(beat(5, NOW + 200 * SECOND))) == ["audit.heartbeat", "audit.batch"]

    def test_what_comes_in_time_is_no_gap(self) -> None:
        log = Log()
        log.seal(entry(0, request(access(0), access(2))))
        log.seal(entry(1, request(access(1)), arrival=NOW + SECOND))
        assert classes(log.seal(beat(2, NOW + 90 * SECOND))) == ["audit.heartbeat", "audit.batch"]

    def test_gaps_stand_in_order_of_emitter_stream_and_sequence(self) -> None:
        log = Log()
        log.seal(
            entry(0, request(access(1), access(3), stream="b")),
            entry(1, request(access(2), stream="a")),
            entry(2, request(access(1), stream="z"), emitter="another"),
        )
        gaps = [leaf["body"] for leaf in log.seal(beat(3, NOW + 60 * SECOND)) if leaf["class"] == "audit.gap"]
        assert [(g["emitter"], g["stream"], g["from"], g["to"]) for g in gaps] == [
            ("another", "z", 0, 1),
            ("gateway", "a", 0, 2),
            ("gateway", "b", 0, 1),
            ("gateway", "b", 2, 3),
        ]

    def test_a_hole_seen_long_ago_by_the_watermark_is_declared_in_the_batch_that_makes_it(self) -> None:
        log = Log()
        log.seal(beat(0, NOW + 100 * SECOND))
        leaves = log.seal(entry(1, request(access(1)), arrival=NOW))
        assert classes(leaves) == ["model.access", "audit.gap", "audit.batch"]
        assert leaves[-1]["body"]["watermark"] == str(NOW + 100 * SECOND)


class TestDetermination:
    """Only the way of the judgement into the header: what is judged is tested with the determiner."""

    @staticmethod
    def determine(spans: pa.Table) -> pa.Table:
        rows = len(spans)
        documents = [b'{"v":1,"n":%d}' % n for n in spans["audit.sequence.number"].to_pylist()]
        return pa.table(
            {
                "facts": pa.array(documents, pa.binary()).dictionary_encode(),
                "governing": pa.array(["prohibited", "no_license_required"] * rows)[:rows].dictionary_encode(),
                "flagged": pa.array([True, False] * rows)[:rows],
                "destination": pa.array(["CN"] * rows).dictionary_encode(),
                "eccn": pa.array(["4E091"] * rows).dictionary_encode(),
                "rule_ids": pa.array([["a", "b"]] * rows),
                "citations": pa.array([["15 CFR 744.23", "15 CFR 746.8"]] * rows),
                "why": pa.array(["because"] * rows).dictionary_encode(),
                "missing_facts": pa.array([["actor_party"]] * rows),
            }
        )

    def test_only_determined_classes_are_judged(self) -> None:
        log = Log(replace(CONTEXT, determine=self.determine))
        entries = [
            entry(
                0,
                request(
                    access(0),
                    access(1, **{"audit.event.class": "audit.stream.heartbeat"}),
                    access(2, **{"audit.event.class": "nonsense"}),
                    access(3, **{"audit.action": 5}),
                    access(4, **{"audit.event.class": "license.issued"}),
                    access(5, **{"audit.event.class": "license.issued", "audit.action": 5}),
                ),
            )
        ]
        derived = log.derive(entries)
        rows = derived.leaves.to_pylist()
        headers = [json.loads(row["header"]) for row in rows]
        assert [h.get("determination") for h in headers] == [
            None, "prohibited", None, "review", "review", None, "review", None,
        ]  # fmt: skip
        assert [h.get("flagged") for h in headers[1:-1]] == [True, False, False, False, False, False]
        first = headers[1]
        assert (first["destination"], first["eccn"], first["rule_ids"]) == ("CN", "4E091", ["a", "b"])
        assert rows[1]["facts"] == b'{"v":1,"n":0}'
        assert first["facts_hash"] == facts_hash(rows[1]["salt"], rows[1]["facts"])
        assert rows[1]["citations"] == "15 CFR 744.23; 15 CFR 746.8"
        assert [h["facts_hash"] is None for h in headers[1:-1]] == [False, True, True, False, True, True]
        assert headers[2]["rule_ids"] == []
        assert derived.counts.flagged == 1

    def test_a_conflict_keeps_the_judgement_of_the_class_it_claimed(self) -> None:
        log = Log(replace(CONTEXT, determine=self.determine))
        log.seal(entry(0, request(access(0))))
        conflict = log.seal(entry(1, request(access(0, **{"audit.actor.id": "other"}))))[0]
        assert (conflict["class"], conflict["determination"], conflict["flagged"]) == (
            "audit.conflict",
            "prohibited",
            True,
        )
        assert conflict["facts_hash"] is not None


def test_arrival_before_others_does_not_turn_the_watermark_back() -> None:
    log = Log()
    assert log.seal(entry(0, request(access(0)), arrival=NOW + 5))[-1]["body"]["watermark"] == str(NOW + 5)
    assert log.seal(entry(1, request(access(1)), arrival=NOW))[-1]["body"]["watermark"] == str(NOW + 5)
    assert np.int64(log.state.watermark) == NOW + 5
