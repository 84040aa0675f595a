"""Packages in the hands of programs that others wrote: Go's checksum database, DuckDB, polars, pandas and Spark."""

from __future__ import annotations

import base64
import json
import re
import runpy
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pyarrow.parquet as pq
import pytest
from auditspan.exporters.evidence.verify import verify_package
from exported import export
from go_tlog import Asked, GoTlog, verifier_key
from sealed_world import DEPLOYMENT, SECOND, T0, Log, World, facts_document
from tampering import statement_of

from auditspan.ledger.checkpoint import log_origin
from auditspan.store.clickhouse import ClickHouseStore

NAMES = ("all", "flagged", "later", "last minute")
PAGE = Path(__file__).parents[3] / "docs" / "auditor.md"


def told(world: World, log_id: str) -> Log:
    """A log with all its leaves, of which a package shows a part."""
    return next(log for log in (world.control, *world.logs) if log.log_id == log_id)


def shown(folder: Path, log: dict[str, Any]) -> list[bytes]:
    """The headers of the interval as the package has them, whichever side they are on."""
    tables = [
        pq.read_table(folder / path, columns=["leaf_index", "header"]).to_pylist()
        for paths in log["files"].values()
        for path in paths
    ]
    rows = sorted((row for rows in tables for row in rows), key=lambda row: row["leaf_index"])
    assert [row["leaf_index"] for row in rows] == list(range(*log["interval"]))
    return [row["header"] for row in rows]


def opened(note: str) -> tuple[int, bytes]:
    _, size, root = note.split("\n")[:3]
    return int(size), base64.b64decode(root)


def decoded(proof: list[str]) -> list[bytes]:
    return [base64.b64decode(each) for each in proof]


@pytest.mark.parametrize("name", NAMES)
def test_go_finds_what_a_package_shows_in_what_was_signed(
    name: str, packages: dict[str, Path], world: World, go_tlog: GoTlog
) -> None:
    predicate = statement_of(packages[name])["predicate"]
    asked_of = 0
    for log in (*predicate["logs"], predicate["control"]):
        begin, end = log["interval"]
        size, root = opened(log["checkpoint"])
        sealed = [row["header"] for row in told(world, log["log_id"]).rows][:size]
        # What is not in the package is taken from the log; what is in it must be what was sealed there.
        asked = Asked([*sealed[:begin], *shown(packages[name], log), *sealed[end:]])
        asked.note(log["checkpoint"], verifier_key(log_origin(DEPLOYMENT, log["log_id"]), world.key.public_key()))
        asked.root(size, root)
        if log["previous"] is not None:
            asked.grown(opened(log["previous"]["checkpoint"])[0], size, root, decoded(log["previous"]["consistency"]))
        for included in log.get("included", ()):
            assert included["leaf"].encode() == sealed[included["leaf_index"]]
            asked.included(included["leaf_index"], size, root, decoded(included["inclusion"]))
        said = go_tlog.ask(asked)
        assert said.texts == [log["checkpoint"].partition("\n\n")[0] + "\n"]
        assert {*said.roots, *said.inclusion, *said.consistency} == {""}
        asked_of += len(said.inclusion) + len(said.consistency)
    assert asked_of or name not in ("later", "last minute"), "a package with proofs of both kinds"


def test_go_finds_an_altered_leaf(packages: dict[str, Path], world: World, go_tlog: GoTlog) -> None:
    log = statement_of(packages["all"])["predicate"]["logs"][0]
    leaves = shown(packages["all"], log)
    leaves[5] = leaves[5].replace(b"gateway", b"gatewby")
    asked = Asked(leaves)
    asked.root(*opened(log["checkpoint"]))
    assert go_tlog.ask(asked).roots[0].startswith("root ")


@pytest.mark.parametrize("name", NAMES)
def test_duckdb_polars_and_pandas_count_what_the_verifier_counts(
    name: str, packages: dict[str, Path], world: World
) -> None:
    folder = packages[name]
    report = verify_package(folder, world.trust)
    assert report.verdict == "VALID"
    paths = [str(path) for path in sorted((folder / "events").glob("*.parquet"))]
    with duckdb.connect() as connection:
        rows = connection.read_parquet(paths)
        in_duckdb = rows.aggregate("count(*), count(*) FILTER (flagged)").fetchall()[0]
        classes = dict(rows.aggregate("class, count(*)", "class").fetchall())
    in_polars = polars.read_parquet(paths)
    in_pandas = pandas.concat([pandas.read_parquet(path) for path in paths])
    wanted = (report.counts["selected"], report.counts["flagged"])
    assert in_duckdb == wanted
    assert (len(in_polars), in_polars["flagged"].sum()) == wanted
    assert (len(in_pandas), in_pandas["flagged"].sum()) == wanted
    assert classes == Counter(in_polars["class"].to_list()) == in_pandas["class"].value_counts().to_dict()
    if report.counts["withheld"]:
        hidden = [str(path) for path in sorted((folder / "withheld").glob("*.parquet"))]
        assert len(polars.read_parquet(hidden)) == report.counts["withheld"] == len(pandas.read_parquet(hidden))


def test_values_are_those_of_the_leaves_in_all_three(packages: dict[str, Path]) -> None:
    path = str(next((packages["all"] / "events").glob("*.parquet")))
    names = [
        "leaf_index",
        "header",
        "payload",
        "arrival_time",
        "sequence",
        "rule_ids",
        "faults",
        "actor_id",
    ]
    wanted = pq.read_table(path, columns=names).to_pylist()
    for row in wanted:
        leaf = json.loads(row["header"])
        assert row["rule_ids"] == leaf.get("rule_ids", []) and row["sequence"] == leaf.get("sequence")
    with duckdb.connect() as connection:
        rows = connection.read_parquet(path).select(*names).to_arrow_table().to_pylist()
    in_polars = polars.read_parquet(path, columns=names).to_dicts()
    in_pandas = pandas.read_parquet(path, columns=names, dtype_backend="pyarrow").to_dict("records")
    for name in ("leaf_index", "header", "payload", "sequence", "actor_id"):
        expected = [row[name] for row in wanted]
        assert [row[name] for row in rows] == expected
        assert [row[name] for row in in_polars] == expected
        assert [None if row[name] is pandas.NA else row[name] for row in in_pandas] == expected
    for name in ("rule_ids", "faults"):
        expected = [row[name] for row in wanted]
        assert [row[name] for row in rows] == [row[name] for row in in_polars] == expected
        assert [list(row[name]) for row in in_pandas] == expected
    nanoseconds = pq.read_table(path)["arrival_time"].cast("int64").to_pylist()
    assert polars.read_parquet(path)["arrival_time"].dt.timestamp("ns").to_list() == nanoseconds
    assert pandas.read_parquet(path)["arrival_time"].astype("int64").to_list() == nanoseconds


def test_spark_reads_what_the_page_says(packages: dict[str, Path], world: World) -> None:
    spark = pytest.importorskip("pyspark.sql", reason="Spark is not here: pip install pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java 17 or later")
    folder = packages["all"]
    builder = spark.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    for name in ("spark.driver.host", "spark.driver.bindAddress"):
        builder = builder.config(name, "127.0.0.1")
    session = builder.getOrCreate()
    try:
        with pytest.raises(Exception, match=r"TIMESTAMP\(NANOS,true\)"):
            session.read.parquet(str(folder / "events"))
        session.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
        events = session.read.parquet(str(folder / "events"))
        types = dict(events.dtypes)
        assert types["leaf_index"] == "decimal(20,0)"
        assert types["arrival_time"] == types["event_time"] == "bigint"
        others = {
            name: kind for name, kind in types.items() if name not in ("leaf_index", "arrival_time", "event_time")
        }
        assert {*others.values()} == {"binary", "string", "bigint", "boolean", "array<string>"}
        names = ["log_id", "leaf_index", "header", "payload", "arrival_time", "rule_ids", "flagged"]
        read = [row.asDict() for row in events.select(*names).collect()]
    finally:
        session.stop()
    wanted = []
    for path in sorted((folder / "events").glob("*.parquet")):
        table = pq.read_table(path, columns=names)
        place = names.index("arrival_time")
        wanted += table.set_column(place, names[place], table[names[place]].cast("int64")).to_pylist()
    assert sorted(read, key=place_of) == sorted(wanted, key=place_of)
    report = verify_package(folder, world.trust)
    assert (len(read), sum(row["flagged"] for row in read)) == (report.counts["selected"], report.counts["flagged"])


def place_of(row: dict[str, Any]) -> tuple[str, int]:
    return row["log_id"], int(row["leaf_index"])


def test_the_examples_of_the_page_run_and_say_the_same(
    packages: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "package").symlink_to(packages["all"])
    monkeypatch.chdir(tmp_path)
    tables = [pq.read_table(path) for path in sorted((packages["all"] / "events").glob("*.parquet"))]
    flagged = [row for table in tables for row in table.to_pylist() if row["flagged"]]
    wanted = Counter(row["destination_country"] for row in flagged)
    examples = examples_of_the_page()
    assert [name for _, name in examples] == ["DuckDB", "polars", "pandas"] * 2
    for code, name in examples[:3]:
        printed = printed_by(code, name, tmp_path, capsys)
        for country, events in wanted.items():
            pattern = rf"{country}\W+{events}\b" if country else rf"(?:NULL|null|NaN|None)\W+{events}\b"
            assert re.search(pattern, printed), (name, country, printed)


def examples_of_the_page() -> list[tuple[str, str]]:
    """Code and program, in order: three that count, and three that look up."""
    return re.findall(r"^```python\n(# (\w+)\n.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def printed_by(code: str, name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    script = folder / f"{name}.py"
    script.write_text(code)
    runpy.run_path(str(script))
    return capsys.readouterr().out


@pytest.mark.parametrize("place", [3, 4, 5])
def test_look_ups_by_party_serial_licence_and_request(
    place: int,
    store: ClickHouseStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    world = World("look-ups", logs=2)
    of_party = facts_document("DE", flagged=False)
    of_party["facts"]["end_user_party"] = "party-7"
    named = {
        "party": {"facts": of_party},
        "SN-4711": {"more": {"export_control.serials": ["SN-1", "SN-4711"]}},
        "D1234567": {"more": {"export_control.license": "D1234567"}},
        "request-42": {"more": {"export_control.request.id": "request-42"}},
    }
    for number, (what, options) in enumerate(named.items()):
        for log in world.logs:
            log.event(
                T0 + number, sequence=number, stream=log.partition, record_id=f"{what} {log.partition}", **options
            )
    world.logs[0].event(T0 + 9, sequence=9, facts=None, kind="other")
    world.batch(T0 + SECOND)
    world.store_into(store)
    export(store, world, tmp_path / "package", time_from=0, time_to=2**62)
    monkeypatch.chdir(tmp_path)
    code, name = examples_of_the_page()[place]
    lines = dict(line.split(" ", 1) for line in printed_by(code, name, tmp_path, capsys).splitlines())
    assert lines.keys() == named.keys()
    for what, found in lines.items():
        ids = re.findall(r"'([^']+)'", found)
        assert sorted(ids) == [f"{what} events-0", f"{what} events-1"], (what, found)
