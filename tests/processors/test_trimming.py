"""The journal forgets what is old and signed, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from auditspan.processors.trimming import Trimmer, first_to_keep
from sealing_deployment import running
from sealing_inputs import NOW, access, request
from waiting import until

from auditspan.journal.contract import EntryKind, NewEntry, PositionLost
from auditspan.journal.sqlite import SqliteJournal

DAY = 86_400 * 10**9
OLD = 1_700_000_000 * 10**9
PARTITION = "events-0"


@dataclass
class At:
    partition: str
    signed_to: int


def fill(journal: SqliteJournal, arrivals: list[int]) -> None:
    journal.append(
        [(PARTITION, NewEntry(EntryKind.OTLP, "a", "bearer", at, "otlp_proto", b"body")) for at in arrivals]
    ).result()


@pytest.mark.parametrize("old", [0, 1, 7, 99, 100])
def test_entries_stay_from_the_first_that_is_young_enough(journal: SqliteJournal, old: int) -> None:
    fill(journal, [NOW - DAY] * old + [NOW] * (100 - old))
    assert first_to_keep(journal, PARTITION, NOW, 100) == old


@pytest.mark.parametrize("signed_to", [0, 1, 40])
def test_what_no_signature_covers_stays_however_old_it_is(journal: SqliteJournal, signed_to: int) -> None:
    fill(journal, [NOW - 100 * DAY] * 100)
    assert first_to_keep(journal, PARTITION, NOW, signed_to) == signed_to
    assert Trimmer(journal, lambda: [At(PARTITION, signed_to)], 30, clock=lambda: NOW).run_once() == signed_to
    assert journal.earliest(PARTITION) == signed_to
    assert len(journal.read(PARTITION, signed_to, max_entries=1000, max_bytes=1 << 20)) == 100 - signed_to


def test_each_round_forgets_what_grew_old_since(journal: SqliteJournal) -> None:
    fill(journal, [NOW + k * DAY for k in range(100)])
    now = [NOW]
    trimmer = Trimmer(journal, lambda: [At(PARTITION, 100)], 30, clock=lambda: now[0])
    assert trimmer.run_once() == 0
    now[0] = NOW + 40 * DAY
    assert trimmer.run_once() == 10
    assert trimmer.run_once() == 0
    assert journal.earliest(PARTITION) == 10
    now[0] = NOW + 1000 * DAY
    assert trimmer.run_once() == 90
    assert trimmer.run_once() == 0, "an empty partition has nothing to forget"
    assert journal.high_water_mark(PARTITION) == 100


def test_nought_keeps_everything(journal: SqliteJournal) -> None:
    fill(journal, [1] * 10)
    assert Trimmer(journal, lambda: [At(PARTITION, 10)], 0, clock=lambda: NOW).run_once() == 0
    assert journal.earliest(PARTITION) == 0


def test_a_long_arrears_is_interrupted_and_taken_up_again(journal: SqliteJournal) -> None:
    fill(journal, [1] * 10_000)
    asked = iter([False, False, True])
    at = [At(PARTITION, 10_000)]
    assert 0 < Trimmer(journal, lambda: at, 1, lambda: next(asked, True), lambda: NOW).run_once() < 10_000
    Trimmer(journal, lambda: at, 1, clock=lambda: NOW).run_once()
    assert journal.earliest(PARTITION) == 10_000


def test_a_deployment_forgets_what_it_signed_and_starts_again(tmp_path: Path) -> None:
    with running(tmp_path, keep_days=1e-9, trim_seconds=0.05) as deployment:
        deployment.append(PARTITION, [request(access(0), access(1))], OLD)
        until(lambda: deployment.journal.earliest(PARTITION) == deployment.journal.high_water_mark(PARTITION) >= 2)
        status = deployment.pipeline.status()[0]
        assert status.signed_to == status.journal_end, "it was signed before it was forgotten"
        with pytest.raises(PositionLost):
            deployment.journal.read(PARTITION, 0, max_entries=1, max_bytes=1)
    with running(tmp_path) as deployment:
        deployment.append(PARTITION, [request(access(2))], NOW)
        until(lambda: deployment.pipeline.status()[0].lag_entries == 0)
        sealed = deployment.store.query("SELECT count() AS n FROM auditspan.events WHERE class = 'model.access'")
        assert sealed["n"][0].as_py() == 3
        assert deployment.pipeline.healthy() == (True, "")
