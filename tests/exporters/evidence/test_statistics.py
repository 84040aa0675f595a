"""Statistics of row groups: true ones are passed over, whatever the rows; those that hide a row are told."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from auditspan.exporters.evidence.descriptions import described
from auditspan.exporters.evidence.layout import EVENT_FILE, WITHHELD_FILE
from auditspan.exporters.evidence.statistics import GroupStatistics
from auditspan.exporters.evidence.verify import verify_package
from falsified import hide_by_statistics
from hypothesis import given
from hypothesis import strategies as st
from sealed_world import World
from tampering import file_of, repair

from auditspan import semconv

ROWS = st.fixed_dictionaries(
    {
        "leaf_index": st.integers(0, 2**53),
        "header": st.binary(max_size=5),
        "class": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
        "event_time": st.none() | st.integers(-(2**62), 2**62),
        "flagged": st.booleans(),
        "rule_ids": st.none() | st.lists(st.text("abé", max_size=2), max_size=3),
    }
)
NAMES = ("leaf_index", "header", "class", "event_time", "flagged", "rule_ids")
SCHEMA = pa.schema([EVENT_FILE.field(name) for name in NAMES])


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def looked_at(written: pa.Table, seen: pa.Table, dictionary: bool = False, **options: Any) -> str | None:
    """What is untrue of the statistics of ``written`` for somebody who finds the rows ``seen``."""
    file = BytesIO()
    pq.write_table(written, file, **options)
    statistics = GroupStatistics(pq.ParquetFile(file).metadata.row_group(0))
    for batch in seen.to_batches(max_chunksize=2):
        if dictionary:
            place = batch.schema.get_field_index("class")
            batch = batch.set_column(place, "class", batch["class"].dictionary_encode())
        statistics.see(batch)
    return statistics.untrue()


@given(st.lists(ROWS, min_size=1, max_size=8), st.booleans())
def test_true_statistics_hide_nothing(rows: list[dict[str, Any]], dictionary: bool) -> None:
    assert looked_at(table(rows), table(rows), dictionary) is None
    assert looked_at(table(rows), table(rows), dictionary, write_statistics=False) is None


ROW: dict[str, Any] = {
    "leaf_index": 5, "header": b"m", "class": "m", "event_time": 5, "flagged": False, "rule_ids": ["m"],
}  # fmt: skip


@pytest.mark.parametrize(
    "hidden",
    [
        {"leaf_index": 4}, {"leaf_index": 6}, {"header": b"a"}, {"header": b"z"}, {"class": "a"}, {"class": "z"},
        {"class": "é"}, {"event_time": 4}, {"event_time": 6}, {"flagged": True}, {"rule_ids": ["m", "z"]},
        {"rule_ids": ["a"]}, {"class": None}, {"event_time": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_statistics_hide_is_told(hidden: dict[str, Any]) -> None:
    untrue = looked_at(table([ROW]), table([ROW, ROW | hidden]))
    assert untrue is not None and untrue.startswith(next(iter(hidden)))


def test_an_index_of_pages_is_told() -> None:
    assert looked_at(table([ROW]), table([ROW]), write_page_index=True) == "rule_ids has an index of pages"


def test_what_another_reader_would_miss_is_found(packages: dict[str, Path], world: World, tmp_path: Path) -> None:
    """The file still reads well here; a reader that trusts its statistics finds no row of the class."""
    folder = Path(shutil.copytree(packages["all"], tmp_path / "package"))
    path = file_of(folder, "events", world.logs[0].log_id)
    question = "SELECT count(*) FROM read_parquet(?) WHERE class = 'other'"
    (before,) = duckdb.execute(question, [str(path)]).fetchall()[0]
    path.write_bytes(hide_by_statistics(path.read_bytes()))
    (after,) = duckdb.execute(question, [str(path)]).fetchall()[0]
    assert before > after == 0
    repair(folder, world.key)
    report = verify_package(folder, world.trust)
    assert report.fault_counts == {"file.malformed": 1}
    assert "class lies in" in report.faults[0].actual


@pytest.mark.parametrize("schema", [EVENT_FILE, WITHHELD_FILE], ids=["events", "withheld"])
def test_every_column_is_described(schema: pa.Schema) -> None:
    told = described(schema)
    assert told.equals(schema), "but for the metadata"
    for field in told:
        assert field.metadata[b"description"]
        if b"attribute" in field.metadata:
            assert field.metadata[b"attribute"].decode() in semconv.ATTRIBUTES
    assert told.metadata[b"auditspan.semantic_conventions"].decode() == semconv.SCHEMA_VERSION


def test_the_descriptions_are_in_the_files(packages: dict[str, Path], world: World) -> None:
    path = file_of(packages["all"], "events", world.logs[0].log_id)
    found = pq.read_schema(path)
    assert found.equals(described(EVENT_FILE), check_metadata=False)
    assert found.field("actor_id").metadata[b"attribute"] == b"audit.actor.id"
    assert found.field("event_time").metadata[b"unit"].startswith(b"nanoseconds")
    in_duckdb = duckdb.execute("SELECT key, value FROM parquet_kv_metadata(?)", [str(path)]).fetchall()
    assert (b"auditspan.evidence_format", b"1") in in_duckdb
