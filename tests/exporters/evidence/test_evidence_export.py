from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from auditspan.exporters.evidence.export import ExportFailed, export_package
from auditspan.exporters.evidence.layout import EVENT_FILE, WITHHELD_FILE
from auditspan.exporters.evidence.query import QueryInvalid
from auditspan.exporters.evidence.verify import verify_package
from exported import export
from sealed_world import ARTIFACTS, DEPLOYMENT, SECOND, T0, World, varied_world
from tampering import file_of, rows_of, statement_of

from auditspan.errors import AuditSpanError
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import SealedBatch


@pytest.fixture
def filled(store: ClickHouseStore) -> tuple[ClickHouseStore, World]:
    made = varied_world()
    made.store_into(store)
    return store, made


def test_parquet_has_the_schema_and_the_bytes_of_the_store(packages: dict[str, Path], world: World) -> None:
    for log in world.logs:
        table = pq.read_table(file_of(packages["all"], "events", log.log_id))
        assert table.schema.remove_metadata().equals(EVENT_FILE)
        for row, sealed in zip(table.to_pylist(), log.rows, strict=True):
            for name in ("header", "payload", "salt", "facts", "record_id", "actor_id", "flagged", "sequence"):
                assert row[name] == sealed[name], name
            assert row["trace_id"] == (sealed["trace_id"].hex() if sealed["trace_id"] else None)
    withheld = pq.read_schema(file_of(packages["flagged"], "withheld", world.logs[0].log_id))
    assert withheld.remove_metadata().equals(WITHHELD_FILE)


def test_an_interval_is_cut_at_batches(packages: dict[str, Path], world: World) -> None:
    predicate = statement_of(packages["flagged"])["predicate"]
    for evidence in predicate["logs"]:
        log = next(log for log in world.logs if log.log_id == evidence["log_id"])
        begin, end = evidence["interval"]
        assert begin == log.batches[0][1] - 1 and end == log.batches[2][1]
        inside = [row["arrival_time"] for row in log.rows[begin:end]]
        wanted = [
            row["arrival_time"] for row in log.rows if T0 + 30 * SECOND <= row["arrival_time"] < T0 + 100 * SECOND
        ]
        assert set(wanted) <= set(inside)


def test_withheld_leaves_show_nothing_but_their_header(packages: dict[str, Path], world: World) -> None:
    content = b"".join(path.read_bytes() for path in (packages["flagged"] / "withheld").iterdir())
    assert b"192.0.2.7" not in content and content
    for row in rows_of(file_of(packages["flagged"], "withheld", world.logs[0].log_id)):
        assert set(row) == {"leaf_index", "header"} and json.loads(row["header"])["flagged"] is False


def test_a_folder_that_is_not_empty_is_left_alone(filled: tuple[ClickHouseStore, World], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    with pytest.raises(ExportFailed, match="not empty"):
        export(*filled, out)
    assert [path.name for path in out.iterdir()] == ["mine"]
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(ExportFailed, match="in the way"):
        export(*filled, tmp_path / "link")


def test_an_empty_folder_is_used(filled: tuple[ClickHouseStore, World], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(*filled, tmp_path / "out")
    assert verify_package(tmp_path / "out", filled[1].trust).verdict == "VALID"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


def test_a_failed_export_leaves_nothing(filled: tuple[ClickHouseStore, World], tmp_path: Path) -> None:
    store, world = filled
    with pytest.raises(ExportFailed, match="reference artifact"):
        export_package(
            store,
            {}.get,
            world.key,
            DEPLOYMENT,
            tmp_path / "out",
            control=world.control.log_id,
            time_from=0,
            time_to=2**62,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_requests_that_cannot_be_met_say_why(filled: tuple[ClickHouseStore, World], tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="cover no time"):
        export(*filled, tmp_path / "out", time_from=5, time_to=5)
    with pytest.raises(QueryInvalid):
        export(*filled, tmp_path / "out", where="flagged")


def test_an_empty_store_says_what_to_do(store: ClickHouseStore, tmp_path: Path) -> None:
    world = World("empty")
    with pytest.raises(AuditSpanError, match="auditspan up"):
        export_package(store, ARTIFACTS.get, world.key, DEPLOYMENT, tmp_path / "out", time_from=0, time_to=1)
    with pytest.raises(ExportFailed, match="no signed checkpoint yet"):
        export(store, world, tmp_path / "out")


def test_the_control_log_is_found(filled: tuple[ClickHouseStore, World], tmp_path: Path) -> None:
    store, world = filled
    export_package(store, ARTIFACTS.get, world.key, DEPLOYMENT, tmp_path / "out", time_from=0, time_to=2**62)
    assert verify_package(tmp_path / "out", world.trust).verdict == "VALID"


def test_exporting_is_recorded_and_the_next_export_joins_it(
    filled: tuple[ClickHouseStore, World], tmp_path: Path
) -> None:
    store, world = filled
    entries: list[dict[str, Any]] = []
    first = export(store, world, tmp_path / "first", record=entries.append)
    assert entries == [first.entry] and entries[0]["manifest_sha256"] == first.manifest_sha256
    world.control.control("evidence.exported", entries[0], T0 + 200 * SECOND)
    world.logs[0].event(T0 + 200 * SECOND, sequence=40)
    world.batch(T0 + 201 * SECOND)
    world.store_into(store)
    export(store, world, tmp_path / "second", time_from=T0 + 190 * SECOND, time_to=T0 + 300 * SECOND)
    report = verify_package(tmp_path / "second", world.trust)
    assert report.verdict == "VALID", report.faults
    for log in statement_of(tmp_path / "second")["predicate"]["logs"]:
        assert log["previous"] is not None
        size = next(each["size"] for each in entries[0]["intervals"] if each["log_id"] == log["log_id"])
        assert log["previous"]["checkpoint"].split("\n")[1] == str(size)


def test_a_store_that_was_rolled_back_is_not_exported(
    packages: dict[str, Path], store: ClickHouseStore, tmp_path: Path
) -> None:
    world = World("a")
    for log in world.logs:
        log.event(T0, sequence=0, stream=f"{log.partition}")
    world.batch(T0 + SECOND)
    world.store_into(store)
    with pytest.raises(ExportFailed, match="rolled back"):
        export(store, world, tmp_path / "out", previous=packages["all"])


def test_a_leaf_missing_from_the_store_stops_the_export(store: ClickHouseStore, tmp_path: Path) -> None:
    world = varied_world()
    log = world.logs[0]
    batches = log.sealed()
    world.logs[0].batches = log.batches[:1]
    world.store_into(store)
    gone = batches[2]
    with pytest.raises(AuditSpanError):
        store.append_batch(SealedBatch(log.log_id, gone.first_leaf, gone.leaves))
    with pytest.raises(ExportFailed, match="lacks leaf"):
        export(store, world, tmp_path / "out", time_from=0, time_to=2**62)


def test_a_column_edited_in_the_store_reaches_the_verifier(store: ClickHouseStore, tmp_path: Path) -> None:
    """An administrator of the store edits a typed column; the export says what the store says."""
    world = varied_world()
    world.logs[0].rows[3]["actor_id"] = "somebody else"
    world.store_into(store)
    export(store, world, tmp_path / "out", time_from=0, time_to=2**62)
    report = verify_package(tmp_path / "out", world.trust)
    assert [(fault.code, fault.leaf) for fault in report.faults] == [("column.mismatch", (world.logs[0].log_id, 3))]


def test_what_an_auditor_must_see_is_in_the_report(packages: dict[str, Path], world: World) -> None:
    report = verify_package(packages["all"], world.trust)
    assert report.counts["gaps"] == 3 and report.gaps[0]["stream"] == "stream-1"
    assert report.counts["quarantined"] == 3 and report.counts["conflicts"] == 3
    assert report.counts["duplicates_suppressed"] == 12
    assert [entry["record_id"] for entry in report.dangling_intents] == ["started-1"]
    assert {(s.emitter, s.stream, s.first, s.last) for s in report.streams} == {
        ("gateway", "stream-1", 0, 29),
        ("gateway", "stream-2", 0, 14),
    }
    assert len(report.unclosed_streams) == 2
    assert any("nothing ends the interval" in note for note in report.notes)
    flagged = verify_package(packages["flagged"], world.trust)
    assert not flagged.notes and any("31 withheld headers" in sentence for sentence in flagged.not_proven)


def test_progress_ends_at_the_total(filled: tuple[ClickHouseStore, World], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    export(*filled, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    seen.clear()
    verify_package(tmp_path / "out", filled[1].trust, lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]


def test_files_are_durable_before_the_name_appears(
    filled: tuple[ClickHouseStore, World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        assert not (tmp_path / "out").exists() or (tmp_path / "out" / "manifest.json").exists()
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    export(*filled, tmp_path / "out")
    names = {Path(path).name for path in synced}
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} <= names


def test_what_cannot_be_recorded_is_not_exported(store: ClickHouseStore, tmp_path: Path) -> None:
    world = varied_world()
    world.store_into(store)
    out = tmp_path / "out"
    seen_at_recording: list[bool] = []

    def refuse(entry: dict[str, Any]) -> None:
        seen_at_recording.append(out.exists())
        raise ExportFailed("The service does not answer.")

    with pytest.raises(ExportFailed, match="does not answer"):
        export(store, world, out, record=refuse)
    assert seen_at_recording == [False]
    assert list(tmp_path.glob("*out*")) == [] and list(tmp_path.glob(".*out*")) == []
