"""Journal entries that are gone before they were sealed are named in the log, once, with their bounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from auditspan.processors.batch import LogContext, LogState
from auditspan.processors.metrics import LogMetrics
from auditspan.processors.own_batches import derive_lost
from auditspan.processors.processor import LogProcessor
from auditspan.processors.restore import restore_state
from auditspan.processors.stored_tree import StoredTree
from prometheus_client import CollectorRegistry
from sealing_deployment import running
from sealing_inputs import LOG_ID, NOW, PARTITION, SECOND, access, entry, new, request
from test_pipeline import control_entries
from waiting import until

from auditspan.journal.contract import PositionLost
from auditspan.journal.sqlite import SqliteJournal
from auditspan.store.clickhouse import ClickHouseStore


class Sealing:
    def __init__(
        self, journal: SqliteJournal, store: ClickHouseStore, context: LogContext, metrics: LogMetrics
    ) -> None:
        self.journal, self.store, self.context, self.metrics = journal, store, context, metrics

    def processor(self, journal: SqliteJournal | None = None) -> LogProcessor:
        return LogProcessor(
            journal or self.journal,
            self.store,
            self.context,
            self.metrics,
            sleep=lambda _: None,
            minimum_interval=0,
        )

    def append(self, *sequences: int, arrival: int = NOW) -> None:
        self.journal.append([new(entry(0, request(access(s)), arrival=arrival)) for s in sequences]).result()

    def leaves(self) -> list[dict]:
        blocks = self.store.leaves(LOG_ID, 0, 1 << 40)
        return [json.loads(header) for block in blocks for header in block.column("header").to_pylist()]


@pytest.fixture
def sealing(journal: SqliteJournal, store: ClickHouseStore, context: LogContext, metrics: LogMetrics) -> Sealing:
    return Sealing(journal, store, context, metrics)


def drain(processor: LogProcessor) -> None:
    while processor.run_once(0):
        pass


def test_the_gap_says_which_entries_and_the_log_goes_on(sealing: Sealing) -> None:
    sealing.append(0, 1)
    first = sealing.processor()
    drain(first)
    sealing.append(2, 3, 4)
    sealing.append(5, arrival=NOW + 90 * SECOND)
    sealing.journal.trim(PARTITION, 5)
    second = sealing.processor()
    drain(second)
    assert (first.lost_from, second.lost_from) == (None, 2)
    leaves = sealing.leaves()
    gap = next(i for i, leaf in enumerate(leaves) if leaf["class"] == "audit.gap")
    assert leaves[gap] == {
        "v": 1,
        "log_id": LOG_ID,
        "class": "audit.gap",
        "position": None,
        "arrival_time": str(NOW),
        "reference_epoch": 1,
        "body": {"journal": {"from": 2, "to": 5, "seen_at": str(NOW + 90 * SECOND)}},
    }
    account = leaves[gap + 1]["body"]
    assert (account["from"], account["to"], account["first_leaf"], account["sealed"], account["gaps"]) == (
        *(2, 5, gap, 1),
        1,
    )
    assert account["watermark"] == str(NOW), "nothing was seen of what is lost"
    batches = [leaf["body"] for leaf in leaves if leaf["class"] == "audit.batch"]
    assert [(b["from"], b["to"]) for b in batches] == [(0, 2), (2, 5), (5, 6)]
    assert [leaf["sequence"] for leaf in leaves if leaf["class"] == "model.access"] == [0, 1, 5]
    # The stream's own gap is named as ever, and the state that another processor restores is the same.
    restored = restore_state(sealing.store, LOG_ID)
    assert (restored.next_offset, restored.next_leaf) == (6, len(leaves))
    assert StoredTree(sealing.store, LOG_ID).look() == second.tree
    assert not sealing.processor().run_once(0)


def test_a_log_may_begin_with_a_loss(sealing: Sealing) -> None:
    sealing.append(0, 1, 2)
    sealing.journal.trim(PARTITION, 2)
    drain(sealing.processor())
    leaves = sealing.leaves()
    assert [leaf["class"] for leaf in leaves] == [
        "audit.log.opened",
        "audit.gap",
        "audit.batch",
        "model.access",
        "audit.batch",
    ]
    opened_at = str(sealing.context.opening.opened_at)
    assert [leaf["arrival_time"] for leaf in leaves[:3]] == [opened_at] * 3
    assert leaves[2]["body"] | {"suppressed_digest": "", "epoch": None} == {
        "from": 0,
        "to": 2,
        "first_leaf": 0,
        "sealed": 2,
        "duplicates": 0,
        "conflicts": 0,
        "quarantined": 0,
        "gaps": 1,
        "suppressed_digest": "",
        "watermark": opened_at,
        "epoch": None,
        "software": "auditspan test",
    }


def test_it_waits_for_the_entry_that_bounds_the_loss(sealing: Sealing) -> None:
    sealing.append(0, 1)
    sealing.journal.trim(PARTITION, 2)
    processor = sealing.processor()
    assert not processor.run_once(0)
    assert processor.lost_from == 0, "the alarm does not wait"
    assert sealing.leaves() == []
    sealing.append(2)
    drain(processor)
    assert [leaf["class"] for leaf in sealing.leaves()][1] == "audit.gap"


def test_what_was_read_before_the_loss_is_sealed_first(sealing: Sealing) -> None:
    class Losing(SqliteJournal):
        """Forgets what follows as soon as the first entry was read."""

        def read(self, partition: str, offset: int, **limits: int):
            if offset == 0:
                found = super().read(partition, offset, max_entries=1, max_bytes=1)
                self.trim(partition, 3)
                return found
            return super().read(partition, offset, **limits)

    sealing.append(0, 1, 2, 3)
    path = sealing.journal._path
    sealing.journal.close()
    journal = Losing(path)
    drain(sealing.processor(journal))
    batches = [leaf["body"] for leaf in sealing.leaves() if leaf["class"] == "audit.batch"]
    assert [(b["from"], b["to"], b["gaps"]) for b in batches] == [(0, 1, 0), (1, 3, 1), (3, 4, 0)]
    journal.close()


def test_a_journal_that_is_another_one_is_never_jumped(sealing: Sealing) -> None:
    class CutOff(SqliteJournal):
        def wait(self, partition: str, offset: int, timeout: float) -> bool:
            return True

        def read(self, partition: str, offset: int, **limits: int):
            raise PositionLost("The topic was made anew.", resumes_at=None)

    path = sealing.journal._path
    sealing.journal.close()
    journal = CutOff(path)
    with pytest.raises(PositionLost, match="made anew"):
        sealing.processor(journal).run_once(0)
    journal.close()


def test_it_depends_on_journal_and_state_alone(context: LogContext) -> None:
    kept = entry(9, request(access(9)), arrival=NOW + SECOND)
    state = LogState(next_leaf=7, next_offset=3, watermark=NOW)
    first, second = (derive_lost(kept, state, context).leaves["header"].to_pylist() for _ in range(2))
    assert first == second
    assert (state.next_leaf, state.next_offset) == (7, 3)


def test_the_alarm_stays_until_the_process_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        until(lambda: deployment.pipeline.status()[0].leaves > 0)
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    end = journal.high_water_mark(PARTITION)
    journal.append([new(entry(0, request(access(i)))) for i in range(4)]).result()
    journal.trim(PARTITION, end + 3)
    journal.close()
    with running(tmp_path) as deployment:
        until(lambda: deployment.pipeline.status()[0].lag_entries == 0)
        assert f"events-0: the journal lost entries from {end} on" in " ".join(deployment.pipeline.troubles())
        assert deployment.pipeline.healthy() == (True, ""), "it goes on"
        value = deployment.registry.get_sample_value
        assert value("auditspan_journal_lost_entries_total", {"partition": PARTITION}) == 3
    with running(tmp_path) as deployment:
        assert deployment.pipeline.troubles() == []
        assert control_entries(deployment.store, "audit.checkpoint")


def test_nothing_is_counted_while_nothing_is_lost() -> None:
    from auditspan.processors.metrics import ProcessorMetrics

    registry = CollectorRegistry()
    ProcessorMetrics(registry).of(PARTITION)
    assert registry.get_sample_value("auditspan_journal_lost_entries_total", {"partition": PARTITION}) == 0
