"""A partition is read to its end in batches, from the first entry that is still there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from auditspan.journal.contract import Entry, EntryKind, NewEntry, PositionLost
from auditspan.journal.onward import read_onward
from auditspan.journal.sqlite import SqliteJournal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(tmp_path / "journal.sqlite")
    entries = [NewEntry(EntryKind.OTLP, "gateway", "bearer", number, "otlp_proto", bytes(100)) for number in range(10)]
    made.append([("events-0", entry) for entry in entries]).result()
    yield made
    made.close()


def offsets(journal: SqliteJournal, offset: int, entries: int = 1000, size: int = 1 << 20) -> list[list[int]]:
    found = read_onward(journal, "events-0", offset, max_entries=entries, max_bytes=size)
    return [[entry.offset for entry in batch] for batch in found]


def test_batches_follow_each_other_to_the_end(journal: SqliteJournal) -> None:
    assert offsets(journal, 0) == [list(range(10))]
    assert offsets(journal, 3, entries=4) == [[3, 4, 5, 6], [7, 8, 9]]
    assert offsets(journal, 6, size=250) == [[6, 7], [8, 9]]
    assert offsets(journal, 10) == []


def test_what_was_trimmed_is_passed_over(journal: SqliteJournal) -> None:
    journal.trim("events-0", 4)
    assert offsets(journal, 1, entries=3) == [[4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize("resumes_at", [None, 0, 1])
def test_where_nothing_can_be_trusted_to_follow_it_ends_with_an_error(
    journal: SqliteJournal, resumes_at: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(partition: str, offset: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        raise PositionLost(f"{partition} was cut off", remedy="Put it back.", resumes_at=resumes_at)

    monkeypatch.setattr(journal, "read", cut_off)
    with pytest.raises(PositionLost):
        offsets(journal, 1)
