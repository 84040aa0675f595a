"""A real journal into a real store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import pyarrow as pa
import pytest
from auditspan.processors.batch import LogContext, LogState, derive
from auditspan.processors.intake import Intake, decode_entries
from auditspan.processors.metrics import LogMetrics
from auditspan.processors.payloads import payloads as payloads_of
from auditspan.processors.processor import BatchLimits, LogProcessor, ReadBackDiffers
from auditspan.processors.restore import restore_state
from sealing_inputs import LOG_ID, NOW, PARTITION, SECOND, access, beat, entry, new, request

from auditspan.journal.contract import Entry, Journal
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.merkle import CompactRange, leaf_hash
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import Fenced, SealedBatch, StoreUnavailable

NEVER_WAIT = 0.0


def append(journal: SqliteJournal, *entries: Entry) -> None:
    journal.append([new(e) for e in entries]).result()


def drain(processor: LogProcessor) -> None:
    while processor.run_once(NEVER_WAIT):
        pass


def headers(store: ClickHouseStore) -> list[bytes]:
    return [h for batch in store.leaves(LOG_ID, 0, 1 << 40) for h in batch.column("header").to_pylist()]


def root_of(leaves: Sequence[bytes]) -> bytes:
    tree = CompactRange()
    tree.extend(map(leaf_hash, leaves))
    return tree.root()


class Given:
    """A processor and what it works on, made anew at will."""

    def __init__(self, journal: SqliteJournal, store: Any, context: LogContext, metrics: LogMetrics) -> None:
        self.journal, self.store, self.context, self.metrics = journal, store, context, metrics
        self.pauses: list[float] = []

    def processor(self, store: Any = None) -> LogProcessor:
        return LogProcessor(
            self.journal, store or self.store, self.context, self.metrics, sleep=self.pauses.append, minimum_interval=0
        )


@pytest.fixture
def given(journal: SqliteJournal, store: ClickHouseStore, context: LogContext, metrics: LogMetrics) -> Given:
    return Given(journal, store, context, metrics)


def varied() -> list[Entry]:
    """Streams with holes and repetitions, foreign spans, conflicts, quarantine, heartbeats."""
    foreign = {"audit.event.class": "model.access"}
    return [
        entry(0, request(access(0), access(1), access(2))),
        entry(1, request(access(4), access(9), stream="holes")),
        entry(2, request(foreign, foreign, stream=None)),
        entry(3, b"\xff not OTLP"),
        beat(4, NOW + 30 * SECOND),
        entry(5, request(access(1), access(3)), arrival=NOW + 31 * SECOND),
        beat(6, NOW + 61 * SECOND),
        entry(7, request(access(5), access(6), access(20), stream="holes"), arrival=NOW + 62 * SECOND),
        entry(8, request(foreign, stream=None), arrival=NOW + 63 * SECOND),
        entry(9, request(access(2, **{"audit.actor.id": "else"}), stream="stream-1"), arrival=NOW + 64 * SECOND),
        beat(10, NOW + 130 * SECOND),
        entry(11, request(access(7), access(19), stream="holes"), arrival=NOW + 131 * SECOND),
    ]


def test_what_is_in_the_journal_is_in_the_store_once_under_one_root(given: Given) -> None:
    append(given.journal, *varied())
    processor = given.processor()
    drain(processor)
    leaves = headers(given.store)
    assert processor.tree.size == len(leaves)
    assert processor.tree.root == root_of(leaves)
    assert processor.tree.sealed_to == 12
    account = json.loads(leaves[-1])["body"]
    assert (account["duplicates"], account["conflicts"], account["quarantined"]) == (2, 1, 1)
    positions = [tuple(h["position"]) for h in map(json.loads, leaves) if h["position"]]
    assert len(set(positions)) == len(positions)
    assert not processor.run_once(NEVER_WAIT)


def test_a_processor_that_starts_anew_after_every_entry_seals_the_same_leaves(given: Given) -> None:
    entries = varied()
    sealed = LogState()
    for one in entries:
        append(given.journal, one)
        derived = derive([one], decode_entries([one]), sealed, given.context, given.store)
        # All state comes from the store, as after a crash.
        assert given.processor().run_once(NEVER_WAIT)
        derived_headers = derived.leaves["header"].to_pylist()
        assert headers(given.store)[derived.first_leaf :] == derived_headers
        derived.apply(sealed)
    restored = restore_state(given.store, LOG_ID)
    assert restored.next_leaf == sealed.next_leaf
    assert restored.waiting == sealed.waiting
    assert restored.identities.streams.keys() == sealed.identities.streams.keys()
    for key, stream in sealed.identities.streams.items():
        found = restored.identities.streams[key]
        assert found.highest == stream.highest
        for name in ("begin", "end", "seen_at", "declared"):
            assert getattr(found.holes, name).tolist() == getattr(stream.holes, name).tolist()


def test_replaying_the_journal_along_the_batch_leaves_gives_the_sealed_leaves(given: Given) -> None:
    entries = varied()
    for begin in (0, 3, 8):
        append(given.journal, *entries[begin : {0: 3, 3: 8, 8: 12}[begin]])
        drain(given.processor())
    leaves = headers(given.store)
    bounds = [h["body"] for h in map(json.loads, leaves) if h["class"] == "audit.batch"]
    assert [(b["from"], b["to"]) for b in bounds] == [(0, 3), (3, 8), (8, 12)]
    state, replayed = LogState(), list[bytes]()

    class Earlier:
        """The store as it was before the batch that is replayed."""

        def _before(self, found: pa.Table) -> pa.Table:
            return found.filter(pa.compute.less(found["leaf_index"], state.next_leaf))

        def payloads_of_sequences(self, log_id: str, keys: Any) -> pa.Table:
            return self._before(given.store.payloads_of_sequences(log_id, keys))

        def payloads_of_spans(self, log_id: str, keys: Any) -> pa.Table:
            return self._before(given.store.payloads_of_spans(log_id, keys))

    for body in bounds:
        part = given.journal.read(PARTITION, body["from"], max_entries=body["to"] - body["from"], max_bytes=1 << 30)
        derived = derive(part, decode_entries(part), state, given.context, Earlier())
        replayed += derived.leaves["header"].to_pylist()
        derived.apply(state)
    assert replayed == leaves


class Troubled:
    """The real store, with trouble at chosen calls."""

    def __init__(self, store: ClickHouseStore) -> None:
        self._store = store
        self.trouble: dict[str, list[Exception]] = {}
        self.after: dict[str, list[Exception]] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        def call(*arguments: Any) -> Any:
            if self.trouble.get(name):
                raise self.trouble[name].pop(0)
            answer = real(*arguments)
            if self.after.get(name):
                raise self.after[name].pop(0)
            return answer

        return call


def away() -> StoreUnavailable:
    return StoreUnavailable("The store is away.")


@pytest.mark.parametrize("call", ["append_batch", "leaf_hashes", "append_nodes", "payloads_of_sequences"])
@pytest.mark.parametrize("when", ["trouble", "after"])
def test_a_store_that_comes_back_gets_the_same_batch(given: Given, call: str, when: str) -> None:
    troubled = Troubled(given.store)
    append(given.journal, entry(0, request(*(access(i) for i in range(300)))))
    processor = given.processor(troubled)
    drain(processor)
    getattr(troubled, when)[call] = [away(), away(), away()]
    append(given.journal, entry(1, request(*(access(i) for i in range(299, 600)))))
    drain(processor)
    assert given.pauses[-3:] == [0.1, 0.2, 0.4]
    leaves = headers(given.store)
    assert len(leaves) == 300 + 300 + 3
    assert (processor.tree.size, processor.tree.root) == (len(leaves), root_of(leaves))


def test_a_batch_that_failed_for_good_leaves_the_state_as_it_was(given: Given) -> None:
    troubled = Troubled(given.store)
    append(given.journal, *varied()[:2])
    processor = given.processor(troubled)
    before = processor.tree
    troubled.trouble["append_batch"] = [RuntimeError("broken")]
    with pytest.raises(RuntimeError):
        processor.run_once(NEVER_WAIT)
    assert processor.tree == before
    drain(processor)
    assert processor.tree.root == root_of(headers(given.store))


def test_a_processor_that_lost_its_log_stops(given: Given) -> None:
    append(given.journal, entry(0, request(access(0))))
    first, second = given.processor(), given.processor(given.store.reader())
    drain(first)
    append(given.journal, entry(1, request(access(1))))
    with pytest.raises(Fenced):
        drain(second)
    assert len(headers(given.store)) == 3


def test_a_zombie_that_wakes_after_a_month_and_beyond_the_deduplication_window_is_fenced(given: Given) -> None:
    """Stopped between encoding and inserting, while another owner seals on: the insert must not come in."""
    december = 1_796_083_200 * SECOND  # 2026-12-01T00:00:00Z
    given.store.command("ALTER TABLE auditspan.events MODIFY SETTING non_replicated_deduplication_window = 3")
    arrivals = [december - 3 * SECOND + k * SECOND // 2 for k in range(12)]
    append(given.journal, *(entry(k, request(access(k)), arrival=at) for k, at in enumerate(arrivals[:3])))

    class Suspended(Troubled):
        def append_batch(self, batch: SealedBatch) -> None:
            append(given.journal, *(entry(k, request(access(k)), arrival=arrivals[k]) for k in range(3, 12)))
            heir = LogProcessor(
                given.journal,
                given.store,
                given.context,
                given.metrics,
                minimum_interval=0,
                limits=BatchLimits(rows=1),
            )
            drain(heir)
            self._store.append_batch(batch)

    zombie = given.processor(Suspended(given.store.reader()))
    with pytest.raises(Fenced):
        zombie.run_once(NEVER_WAIT)
    found = given.store.query(
        "SELECT sealing_month, groupArray(sequence) AS sequences FROM auditspan.events "
        "WHERE sequence IS NOT NULL GROUP BY sealing_month ORDER BY sealing_month"
    ).to_pylist()
    assert [(m["sealing_month"], sorted(m["sequences"])) for m in found] == [
        (202611, [*range(6)]),
        (202612, [*range(6, 12)]),
    ]
    batches = [h for h in map(json.loads, headers(given.store)) if h["class"] == "audit.batch"]
    assert len(batches) > 9, "more of them than the window remembers"


def test_a_store_that_alters_what_it_was_given_is_not_signed_over(given: Given) -> None:
    class Altering(Troubled):
        def append_batch(self, batch: SealedBatch) -> None:
            leaves = batch.leaves
            altered = [h.replace(b'"record-1"', b'"record-8"') for h in leaves["header"].to_pylist()]
            place = leaves.schema.get_field_index("header")
            changed = leaves.set_column(place, leaves.schema.field("header"), pa.array(altered, pa.binary()))
            self._store.append_batch(replace(batch, leaves=changed))

    append(given.journal, entry(0, request(access(0), access(1))))
    processor = given.processor(Altering(given.store))
    with pytest.raises(ReadBackDiffers):
        processor.run_once(NEVER_WAIT)
    assert processor.tree.size == 0


def test_a_leaf_that_the_store_lost_shows(given: Given) -> None:
    class Losing(Troubled):
        def leaf_hashes(self, log_id: str, begin: int, end: int) -> Iterator[pa.RecordBatch]:
            return (batch.slice(0, len(batch) - 1) for batch in self._store.leaf_hashes(log_id, begin, end))

    append(given.journal, entry(0, request(access(0), access(1))))
    with pytest.raises(ReadBackDiffers):
        given.processor(Losing(given.store)).run_once(NEVER_WAIT)


def test_nodes_that_a_crash_left_out_are_made_up_for(given: Given) -> None:
    troubled = Troubled(given.store)
    troubled.trouble["append_nodes"] = [KeyboardInterrupt()]  # type: ignore[list-item]
    append(given.journal, entry(0, request(*(access(i) for i in range(600)))))
    with pytest.raises(KeyboardInterrupt):
        given.processor(troubled).run_once(NEVER_WAIT)
    assert given.store.nodes(LOG_ID, 8, 0, 10).num_rows == 0
    processor = given.processor()
    leaves = headers(given.store)
    assert processor.tree.root == root_of(leaves)
    kept = given.store.nodes(LOG_ID, 8, 0, 10)
    assert kept["hash"].to_pylist() == [root_of(leaves[i : i + 256]) for i in (0, 256)]


def test_a_journal_that_forgot_what_is_not_sealed_is_no_silent_jump(given: Given) -> None:
    append(given.journal, entry(0, request(access(0))), entry(1, request(access(1))))
    given.journal.trim(PARTITION, 1)
    drain(given.processor())
    gaps = [leaf["body"] for leaf in map(json.loads, headers(given.store)) if leaf["class"] == "audit.gap"]
    assert gaps == [{"journal": {"from": 0, "to": 1, "seen_at": str(NOW)}}]


class TestIntake:
    def test_batches_are_cut_at_rows_and_at_bytes(self, journal: SqliteJournal) -> None:
        bodies = [request(*(access(10 * k + i) for i in range(10))) for k in range(10)]
        append(journal, *(entry(k, body) for k, body in enumerate(bodies)))
        intake = Intake(journal, PARTITION, 0, rows=35)
        sizes = []
        while (portion := intake.take(0)) is not None:
            assert portion.spans["entry"].to_pylist() == [k for k in range(len(portion.entries)) for _ in range(10)]
            assert portion.spans.equals(decode_entries(portion.entries)) or len(portion.spans) > 0
            sizes.append((portion.entries[0].offset, len(portion.entries), portion.full))
            intake.consumed(len(portion.entries))
        assert [s[:2] for s in sizes] == [(0, 3), (3, 3), (6, 3), (9, 1)]
        assert [s[2] for s in sizes] == [True, True, True, False]
        small = Intake(journal, PARTITION, 0, size=len(bodies[0]) * 2)
        taken = small.take(0)
        assert taken is not None
        assert len(taken.entries) in (1, 2)

    def test_batches_are_cut_at_the_bytes_of_their_payloads(self, journal: SqliteJournal) -> None:
        """Each payload repeats its resource, which stands once in an entry."""
        large = {"note": "x" * 10_000}
        bodies = [request(*(access(10 * k + i) for i in range(10)), resource=large) for k in range(5)]
        append(journal, *(entry(k, body) for k, body in enumerate(bodies)))
        payloads = sum(len(p) for p in payloads_of(decode_entries([entry(0, bodies[0])])).to_pylist())

        def cuts(most: int) -> list[int]:
            intake, found = Intake(journal, PARTITION, 0, payloads=most), []
            while (portion := intake.take(0)) is not None:
                found.append(len(portion.entries))
                intake.consumed(len(portion.entries))
            return found

        assert cuts(2 * payloads + 100) == [2, 2, 1]
        assert cuts(2 * payloads - 100) == [1, 1, 1, 1, 1]
        assert cuts(1) == [1, 1, 1, 1, 1]

    def test_one_entry_is_never_cut(self, journal: SqliteJournal) -> None:
        append(journal, entry(0, request(*(access(i) for i in range(100)))))
        portion = Intake(journal, PARTITION, 0, rows=10).take(0)
        assert portion is not None
        assert len(portion.spans) == 100

    def test_a_full_batch_takes_one_read(self, journal: SqliteJournal) -> None:
        """Every read is decoded by itself, which costs milliseconds however small it is."""
        bodies = [request(*(access(10 * k + i, note="x" * 20_000) for i in range(10))) for k in range(60)]
        append(journal, *(entry(k, body) for k, body in enumerate(bodies)))
        reads: list[int] = []

        class Counted:
            high_water_mark = staticmethod(journal.high_water_mark)

            def read(self, *arguments: Any, **bounds: int) -> Any:
                found = journal.read(*arguments, **bounds)
                reads.append(len(found))
                return found

        intake = Intake(cast(Journal, Counted()), PARTITION, 0, rows=100)
        needed = []
        while (portion := intake.take(0)) is not None:
            needed.append(len(reads))
            reads.clear()
            assert len(portion.spans) == 100
            intake.consumed(len(portion.entries))
        # The first one does not know yet how large an entry is, and the last one looks for more.
        assert len(needed) == 6
        assert needed[1:5] == [1] * 4

    def test_a_journal_that_goes_on_growing_does_not_hold_back_what_was_read(self, journal: SqliteJournal) -> None:
        """Somebody waits to see it flagged, and reading on is not faster than the senders are."""
        append(journal, entry(0, request(access(0))))

        class Growing:
            high_water_mark = staticmethod(journal.high_water_mark)
            reads = 0

            def read(self, *arguments: Any, **bounds: int) -> Any:
                found = journal.read(*arguments, **bounds)
                self.reads += 1
                append(journal, entry(self.reads, request(access(self.reads))))
                return found

        growing = Growing()
        intake = Intake(cast(Journal, growing), PARTITION, 0, rows=50)
        portion = intake.take(0)
        assert portion is not None
        assert [e.offset for e in portion.entries] == [0]
        assert not portion.full
        again = intake.take(0)
        assert again is not None
        assert [e.offset for e in again.entries] == [0, 1]
        assert growing.reads == 2

    def test_a_batch_ends_with_its_month(self, given: Given) -> None:
        december = 1_796_083_200 * SECOND  # 2026-12-01T00:00:00Z
        arrivals = [december - 1, december - 2, december, december - 5, december + 1]
        append(given.journal, *(entry(i, request(access(i)), arrival=at) for i, at in enumerate(arrivals)))
        drain(given.processor())
        months = given.store.query(
            "SELECT sealing_month, groupArray(sequence) AS sequences FROM auditspan.events "
            "WHERE sequence IS NOT NULL GROUP BY sealing_month ORDER BY sealing_month"
        ).to_pylist()
        assert [(m["sealing_month"], sorted(m["sequences"])) for m in months] == [(202611, [0, 1]), (202612, [2, 3, 4])]

    def test_what_was_taken_is_given_again_until_it_is_consumed(self, journal: SqliteJournal) -> None:
        append(journal, entry(0, request(access(0))))
        intake = Intake(journal, PARTITION, 0)
        first = intake.take(0)
        append(journal, entry(1, request(access(1))))
        second = intake.take(0)
        assert first is not None
        assert second is not None
        assert [e.offset for e in second.entries] == [0, 1]
        intake.consumed(2)
        assert intake.take(0) is None

    def test_what_was_read_at_different_times_is_one_batch(self, given: Given) -> None:
        bodies = [
            request(access(0, **{"audit.action": "chat"}), access(1, **{"audit.action": 5})),
            request(access(1, **{"audit.action": 5}), access(2, **{"audit.action": "embed"}), stream="stream-2"),
            request(access(0, **{"audit.action": "chat"}), access(3, _trace_id=b"bad"), access(2)),
        ]
        intake = Intake(given.journal, PARTITION, 0)
        for k, body in enumerate(bodies):
            append(given.journal, entry(k, body, emitter=f"emitter-{k % 2}"))
            portion = intake.take(0)
        assert portion is not None
        read = derive(portion.entries, portion.spans, LogState(), given.context, given.store)
        whole = derive(portion.entries, decode_entries(portion.entries), LogState(), given.context, given.store)
        assert read.leaves.to_pylist() == whole.leaves.to_pylist()
        assert read.counts.duplicates == 1
        assert read.leaves["action"].to_pylist()[1:-1] == ["chat", None, None, "embed", None, None]


def test_suppressed_records_leave_their_digest(given: Given) -> None:
    append(given.journal, entry(0, request(access(0))), entry(1, request(access(0))))
    drain(given.processor())
    body = json.loads(headers(given.store)[-1])["body"]
    assert body["duplicates"] == 1
    assert body["suppressed_digest"] != hashlib.sha256(b"").hexdigest()
