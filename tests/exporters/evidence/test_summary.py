"""`SUMMARY.html`: its numbers are those of the Parquet beside it, and nothing that a sender says becomes markup."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from auditspan.exporters.evidence.citations import Citations
from auditspan.exporters.evidence.export import export_package
from auditspan.exporters.evidence.headers import parse_headers
from auditspan.exporters.evidence.layout import EVENT_FILE
from auditspan.exporters.evidence.summary import Summary
from auditspan.exporters.evidence.summary_page import summary_page
from auditspan.exporters.evidence.verify import verify_package
from exported import export
from html_tables import Page, read_page
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sealed_world import DEPLOYMENT, SECOND, T0, World, attribute, jcs
from tampering import file_of, statement_of

from auditspan.store.clickhouse import ClickHouseStore

HOUR = 3_600 * SECOND
PREDICATE: dict[str, Any] = {
    "deployment": "acme",
    "exported_at": str(T0),
    "software": "auditspan",
    "query": {"from": "0", "to": str(2**62), "where": None},
    "counts": {"leaves": 0, "selected": 0, "withheld": 0, "flagged": 0},
}


def page_of(folder: Path) -> Page:
    return read_page((folder / "SUMMARY.html").read_text())


def recounted(folder: Path, field: str, own: bool = False) -> dict[str, list[int]]:
    """By value of a header field: events that are shown, and those that are withheld, as DuckDB reads the Parquet."""
    found: dict[str, list[int]] = {}
    for place, side in enumerate(("events", "withheld")):
        files = [str(path) for path in sorted((folder / side).glob("*.parquet"))]
        if not files:
            continue
        with duckdb.connect() as connection:
            rows = connection.execute(
                f"SELECT coalesce(json_extract_string(decode(header), '$.{field}'), 'none'), count(*) "
                "FROM read_parquet($files) WHERE (json_extract(decode(header), '$.body') IS NOT NULL) = $own "
                "GROUP BY 1",
                {"files": files, "own": own},
            ).fetchall()
        for value, count in rows:
            found.setdefault(value, [0, 0])[place] += count
    return found


def listed(page: Page, caption: str) -> dict[str, list[int]]:
    rows = [row for row in page.tables[caption] if len(row) == 4 and row[3] != "all"]
    assert all(int(row[1]) + int(row[2]) == int(row[3]) for row in rows)
    return {row[0]: [int(row[1]), int(row[2])] for row in rows}


@pytest.mark.parametrize("name", ["all", "flagged", "later", "last minute"])
def test_numbers_are_those_of_the_parquet(name: str, packages: dict[str, Path], world: World) -> None:
    folder = packages[name]
    page = page_of(folder)
    assert listed(page, "Class") == recounted(folder, "class")
    assert listed(page, "Destination") == recounted(folder, "destination")
    assert listed(page, "Determination") == recounted(folder, "determination")
    assert listed(page, "Leaves that the logs themselves wrote") == recounted(folder, "class", own=True)
    report = verify_package(folder, world.trust)
    assert report.verdict == "VALID"
    counts = report.counts
    assert f"Repetitions that were suppressed: {counts['duplicates_suppressed']}." in " ".join(page.text.split())
    assert f"Gaps: {counts['gaps']}, of which" in page.text
    assert f"Quarantined: {counts['quarantined']}." in page.text
    review = sum(recounted(folder, "determination").get("review", [0, 0]))
    assert f"of {review} events is review" in page.text
    flagged = page.tables["Flagged events"][1:]
    assert len(flagged) == counts["flagged"]
    streams = {row[1]: [row[0], *row[2:5]] for row in next(
        table for caption, table in page.tables.items() if caption.startswith("Streams")
    )[1:]}  # fmt: skip
    assert streams == {
        one.stream: [one.emitter, str(one.first), str(one.last), str(one.leaves)] for one in report.streams
    }


def test_it_is_in_the_manifest_and_its_bytes_are_proven(
    packages: dict[str, Path], world: World, tmp_path: Path
) -> None:
    names = {subject["name"] for subject in statement_of(packages["all"])["subject"]}
    assert {"SUMMARY.html", "VERIFY.md"} <= names
    assert any("SUMMARY.html" in sentence for sentence in verify_package(packages["all"], world.trust).not_proven)


def test_a_page_loads_nothing_and_runs_nothing(packages: dict[str, Path]) -> None:
    page = page_of(packages["all"])
    assert not {"script", "link", "img", "iframe", "form", "object", "a"} & {tag for tag, _ in page.tags}
    assert not any("//" in value for value in page.values), "an address"
    assert "default-src 'none'; style-src 'unsafe-inline'" in page.values
    assert {"svg", "rect"} <= {tag for tag, _ in page.tags}


def test_flagged_events_stand_with_rule_and_citation(store: ClickHouseStore, tmp_path: Path) -> None:
    pack = b"""
rules:
  - id: us-ear.744.6
    title: an end use that is listed
    citations: ["15 CFR 744.6", "91 FR 1"]
"""
    digest = hashlib.sha256(pack).hexdigest()
    world = World("cited", logs=1)
    body = {"number": 2, "artifacts": [{"name": "us-ear.yaml", "kind": "pack", "version": "2026.11", "sha256": digest}]}
    leaf = world.control.control("audit.reference.activated", {**body, "software": "test"}, T0)
    assert leaf
    world.epochs[2] = hashlib.sha256(jcs({**body, "software": "test"})).hexdigest()
    world._next_epoch = 2
    world.batch(T0)
    for number in range(3):
        world.logs[0].event(T0 + number * SECOND, sequence=number, flagged=True, country="CN")
    world.batch(T0 + 10 * SECOND)
    world.store_into(store)

    def artifact(wanted: str) -> bytes:
        return pack if wanted == digest else b"rules: []\n"

    export_package(
        store, artifact, world.key, DEPLOYMENT, tmp_path / "out", time_from=0, time_to=2**62,
        control=world.control.log_id,
    )  # fmt: skip
    page = page_of(tmp_path / "out")
    rows = page.tables["Flagged events"][1:]
    assert len(rows) == 3
    for row in rows:
        assert "us-ear.744.6 an end use that is listed (15 CFR 744.6, 91 FR 1)" in row[5]
    epochs = page.tables["Reference epoch 2"]
    assert epochs[1][:4] == ["pack", "us-ear.yaml", "2026.11", digest]


def test_who_was_silent_and_when(store: ClickHouseStore, tmp_path: Path) -> None:
    world = World("silent", logs=1)
    start = T0 - T0 % HOUR
    for hour in (0, 1, 4, 5):
        world.logs[0].event(start + hour * HOUR + SECOND, sequence=hour, says={"emitter": "gateway"})
    world.logs[0].event(start + 9 * HOUR, sequence=0, stream="other", says={"emitter": "beacon"})
    world.batch(start + 9 * HOUR + SECOND)
    world.store_into(store)
    export(store, world, tmp_path / "out", time_from=0, time_to=2**62)
    page = page_of(tmp_path / "out")
    emitters = {row[0]: row for row in page.tables["Emitters: 2"][1:]}
    gateway = emitters["gateway"][5]
    assert utc_hours(gateway) == [(2, 4), (6, 9)], gateway
    assert emitters["gateway"][1:3] == ["4", "1"]


def utc_hours(said: str) -> list[tuple[int, int]]:
    """Hours since the beginning of each run of silence."""
    start = (T0 - T0 % HOUR) // SECOND
    moments = [
        datetime.strptime(one, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
        for one in re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", said)
    ]
    hours = [round((moment - start) / 3600) for moment in moments]
    return list(zip(hours[::2], hours[1::2], strict=True))


def rows_like(template: pa.RecordBatch, count: int, **columns: Any) -> pa.RecordBatch:
    """``count`` times a row of a package, with these columns in its place."""
    one = template.slice(1, 1).to_pylist()[0]
    rows = [
        {**one, "leaf_index": number, **{name: value[number] if isinstance(value, list) else value
                                         for name, value in columns.items()}}
        for number in range(count)
    ]  # fmt: skip
    return pa.RecordBatch.from_pylist(rows, schema=EVENT_FILE)


@pytest.fixture(scope="module")
def template(packages: dict[str, Path], world: World) -> pa.RecordBatch:
    path = file_of(packages["all"], "events", world.logs[0].log_id)
    return pq.read_table(path).cast(EVENT_FILE).combine_chunks().to_batches()[0]


def page_for(summary: Summary) -> Page:
    return read_page(summary_page(summary, PREDICATE, [], Citations({}, lambda digest: None)))


TEXT = st.text(
    st.characters(codec="utf-8") | st.sampled_from("<>&\"'\u202e\x00\x1b{}%[]"), min_size=1, max_size=30
) | st.sampled_from(["<script>alert(1)</script>", "{{ 7 * 7 }}", "</td></tr></table><img src=x onerror=y>", "&lt;"])


def test_hostile_names_stay_text(template: pa.RecordBatch) -> None:
    quiet = Summary()
    quiet.log("0" * 32, "events-0", 0, 9)
    quiet.shown(rows_like(template, 1, emitter="e", stream="s", record_id="r", rule_ids=[["rule"]], flagged=True,
                          determination="review", destination_country="XX"))  # fmt: skip
    wanted = page_for(quiet).tags

    @settings(max_examples=80)
    @given(TEXT, TEXT, TEXT, TEXT, TEXT)
    def check(emitter: str, stream: str, record: str, rule: str, place: str) -> None:
        summary = Summary()
        summary.log("0" * 32, "events-0", 0, 9)
        summary.shown(
            rows_like(
                template, 1, emitter=emitter, stream=stream, record_id=record, rule_ids=[[rule]], flagged=True,
                determination="review", destination_country=place,
            )
        )  # fmt: skip
        page = page_for(summary)
        assert page.tags == wanted, "a name became markup"
        shown = "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in emitter)
        assert " ".join(shown.split()) in [row[0] for row in page.tables["Emitters: 1"]]

    check()


def test_much_is_counted_and_little_is_listed(template: pa.RecordBatch) -> None:
    summary = Summary()
    summary.log("0" * 32, "events-0", 0, 10**9)
    count = 3_000
    for part in range(3):
        numbers = [str(part * count + number) for number in range(count)]
        summary.shown(
            rows_like(
                template, count, emitter=numbers, stream=numbers, destination_country=numbers, record_id=numbers,
                flagged=True, determination="review", rule_ids=[[number] for number in numbers],
                arrival_time=[T0 + part * 400 * HOUR + number * HOUR for number in range(count)],
            )
        )  # fmt: skip
    assert len(summary.emitters.of) == len(summary.destinations.of) == 1_000
    assert len(summary.streams) == 5_000 and len(summary.flagged) == 500 and len(summary.timeline.spans) <= 400
    assert summary.counts["leaves_of_other_streams"] == 4_000
    page = page_for(summary)
    assert page.row("Destination", "others")[3] == f"{3 * count - 50:,}"
    assert len(page.tables["Flagged events"]) == 201
    assert f"{3 * count - 200:,} more" in page.text
    assert "900 more emitters are not listed, and 8,000 events are of others still" in " ".join(page.text.split())
    bars = [attributes for tag, attributes in page.tags if tag == "rect"]
    assert 0 < len(bars) <= 2 * 400
    assert len(page.text) < 200_000


def test_licences_are_those_that_payloads_name(template: pa.RecordBatch) -> None:
    def payload(license_number: str | None) -> bytes:
        attributes = [attribute("export_control.license", license_number)] if license_number is not None else []
        span = Span(trace_id=b"\1" * 16, span_id=b"\1" * 8, attributes=attributes).SerializeToString()
        return b"".join(len(part).to_bytes(4, "big") + part for part in (b"", b"", span))

    numbers = ["D1", "D2", "D1", None, "NAC", ""]
    summary = Summary()
    summary.log("0" * 32, "events-0", 0, 9)
    summary.shown(rows_like(template, len(numbers), payload=[payload(number) for number in numbers]))
    assert {key: count.total for key, count in summary.licenses.of.items()} == Counter({"D1": 2, "D2": 1, "NAC": 1})
    assert listed(page_for(summary), "Licence that the event names") == {"D1": [2, 0], "D2": [1, 0], "NAC": [1, 0]}


def test_allocations_and_findings_of_the_control_log(store: ClickHouseStore, tmp_path: Path) -> None:
    world = World("allocated", logs=1)
    world.logs[0].event(T0, sequence=0)
    allocations = [{"license": "D1", "outcome": "covered"}, {"license": None, "outcome": "unknown_license"}] * 2
    world.control.control("license.allocation", {"number": 1, "considered": {}, "allocations": allocations}, T0)
    world.control.control("export.finding", {"finding": "undecided"}, T0)
    world.batch(T0 + SECOND)
    world.store_into(store)
    export(store, world, tmp_path / "out", time_from=0, time_to=2**62)
    page = page_of(tmp_path / "out")
    allocated = next(table for caption, table in page.tables.items() if "of licences" in caption)
    assert allocated[1:] == [["D1", "covered", "2"], ["none", "unknown_license", "2"]]
    found = next(table for caption, table in page.tables.items() if "found later" in caption)
    assert found[1:] == [["export.finding", "undecided", "1"]]
    assert verify_package(tmp_path / "out", world.trust).verdict == "VALID"


def test_a_withheld_side_counts_as_the_header_says(packages: dict[str, Path], world: World) -> None:
    """Not as a typed column of the store would, which is not in the package."""
    path = file_of(packages["flagged"], "withheld", world.logs[0].log_id)
    rows = pq.read_table(path).combine_chunks().to_batches()[0]
    summary = Summary()
    summary.log(world.logs[0].log_id, "events-0", 0, 100)
    summary.withheld(rows["leaf_index"], parse_headers(rows["header"]).table)
    assert summary.classes.total == rows.num_rows == summary.determinations.total
    assert all(count.shown == 0 for count in summary.classes.of.values())
