from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from auditspan.exporters.evidence.layout import EVENT_FILE
from auditspan.exporters.evidence.package import Package, PathRefused
from auditspan.exporters.evidence.rendering import render
from auditspan.exporters.evidence.verify import verify_package
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from sealed_world import World
from tampering import edit, file_of, repair, rows_of, sign, statement_of

from auditspan.errors import AuditSpanError

Copy = Callable[[str], Path]


def test_a_link_is_refused_wherever_it_is(copy: Copy, world: World, tmp_path: Path) -> None:
    folder = copy("all")
    path = file_of(folder, "events", world.logs[0].log_id)
    outside = tmp_path / "outside.parquet"
    path.rename(outside)
    path.symlink_to(outside)
    report = verify_package(folder, world.trust)
    assert report.fault_counts.keys() >= {"manifest.path"} and report.verdict == "INVALID"


def test_a_folder_that_is_a_link_is_refused(copy: Copy, world: World, tmp_path: Path) -> None:
    folder = copy("all")
    (folder / "events").rename(tmp_path / "moved")
    (folder / "events").symlink_to(tmp_path / "moved")
    report = verify_package(folder, world.trust)
    assert report.fault_counts["manifest.path"] >= 2


def test_the_manifest_may_not_be_a_link(copy: Copy, world: World, tmp_path: Path) -> None:
    folder = copy("all")
    (folder / "manifest.json").rename(tmp_path / "m.json")
    (folder / "manifest.json").symlink_to(tmp_path / "m.json")
    assert set(verify_package(folder, world.trust).fault_counts) == {"manifest.path"}


def test_a_named_pipe_does_not_stop_the_verifier(copy: Copy, world: World) -> None:
    folder = copy("all")
    (folder / "VERIFY.md").unlink()
    os.mkfifo(folder / "VERIFY.md")
    assert "manifest.path" in verify_package(folder, world.trust).fault_counts


def test_a_file_that_nobody_named_is_a_fault(copy: Copy, world: World) -> None:
    folder = copy("all")
    (folder / "events" / "extra.parquet").write_bytes(b"x")
    (folder / ".hidden").write_bytes(b"x")
    report = verify_package(folder, world.trust)
    assert report.fault_counts == {"file.unlisted": 2}


NAMES = [
    "../outside.parquet",
    "/etc/passwd",
    "events/../../x",
    "events//x",
    "events/.x",
    "./events/x",
    "events\\x",
    "events/x\n",
    "events/é",
    "",
    "C:x",
    "a" * 300,
    "events/x ",
    "\x1b[31mevents",
]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_in_a_manifest(name: str, copy: Copy, world: World) -> None:
    folder = copy("all")
    statement = statement_of(folder)
    statement["subject"].append({"name": name, "digest": {"sha256": "0" * 64}})
    sign(folder, statement, world.key)
    report = verify_package(folder, world.trust)
    assert set(report.fault_counts) == {"manifest.path"}
    with Package(folder) as package, pytest.raises(PathRefused):
        package.open(name)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet at all" * 100, b"PAR1" + bytes(100) + b"PAR1"])
def test_parquet_that_is_none(content: bytes, copy: Copy, world: World) -> None:
    folder = copy("all")
    file_of(folder, "events", world.logs[0].log_id).write_bytes(content)
    repair(folder, world.key)
    report = verify_package(folder, world.trust)
    assert set(report.fault_counts) == {"file.malformed"}, report.faults


def _replace(folder: Path, world: World, table: pa.Table, **options: Any) -> None:
    pq.write_table(table, file_of(folder, "events", world.logs[0].log_id), **options)
    repair(folder, world.key)


def test_parquet_of_another_shape(copy: Copy, world: World) -> None:
    folder = copy("all")
    table = pq.read_table(file_of(folder, "events", world.logs[0].log_id))
    shapes = [
        table.drop_columns(["facts"]),
        table.append_column("extra", pa.array([1] * len(table))),
        table.set_column(0, "leaf_index", table["leaf_index"].cast(pa.string())),
        table.set_column(1, "header", pa.array([[[[1]]]] * len(table))),
        table.rename_columns([*table.column_names[:-1], "service"]),
    ]
    for shape in shapes:
        _replace(folder, world, shape)
        report = verify_package(folder, world.trust)
        assert set(report.fault_counts) == {"file.malformed"}, report.faults


def test_row_groups_beyond_the_limit_are_not_read(copy: Copy, world: World) -> None:
    folder = copy("all")
    rows = 200_000
    columns = [
        pa.array([b"{}"] * rows, field.type) if field.name == "header"
        else pa.array(range(rows), field.type) if field.name == "leaf_index"
        else pa.nulls(rows, field.type)
        for field in EVENT_FILE
    ]  # fmt: skip
    _replace(folder, world, pa.Table.from_arrays(columns, schema=EVENT_FILE), row_group_size=rows)
    report = verify_package(folder, world.trust)
    assert set(report.fault_counts) == {"file.malformed"} and "200000 rows" in report.faults[0].actual


def test_a_small_file_that_unfolds_to_much_is_refused(copy: Copy, world: World) -> None:
    """One value of 4 MiB, said 400 times by a dictionary page; the file's digest is not the signed one."""
    folder, rows = copy("all"), 400

    def column(field: pa.Field) -> pa.Array:
        if field.name == "leaf_index":
            return pa.array(range(rows), field.type)
        if field.name == "payload":
            return pa.DictionaryArray.from_arrays(
                pa.array([0] * rows, pa.int32()), pa.array([bytes(4 << 20)], pa.binary())
            )
        return pa.array([b"{}"] * rows) if field.name == "header" else pa.nulls(rows, field.type)

    columns = [column(field) for field in EVENT_FILE]
    schema = pa.schema([field.with_type(made.type) for field, made in zip(EVENT_FILE, columns, strict=True)])
    path = file_of(folder, "events", world.logs[0].log_id)
    pq.write_table(
        pa.Table.from_arrays(columns, schema=schema),
        path,
        compression="zstd",
        dictionary_pagesize_limit=64 << 20,
        store_schema=False,
    )
    assert path.stat().st_size < 100_000
    report = verify_package(folder, world.trust)
    assert {"file.digest", "file.malformed"} <= set(report.fault_counts)
    assert "unfolds to more" in next(fault.actual for fault in report.faults if fault.code == "file.malformed")


@pytest.mark.parametrize("column", ["emitter", "actor_id", "rule_ids"])
@pytest.mark.parametrize("insider", [False, True])
def test_text_that_is_no_utf8_is_a_mismatch(copy: Copy, world: World, column: str, insider: bool) -> None:
    folder = copy("all")
    path = file_of(folder, "events", world.logs[0].log_id)
    table = pq.read_table(path)
    bad = pa.array([b"\xd0x"] * len(table)).view(pa.string())
    if column == "rule_ids":
        bad = pa.ListArray.from_arrays(pa.array(range(len(table) + 1), pa.int32()), bad)
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, EVENT_FILE.field(column), bad), path)
    if insider:
        repair(folder, world.key)
    report = verify_package(folder, world.trust)
    assert report.fault_counts["column.mismatch"] >= len(table) - 1
    assert "which is no UTF-8" in next(fault.actual for fault in report.faults if fault.code == "column.mismatch")


def test_flipped_bytes_never_raise_and_are_always_found(copy: Copy, world: World) -> None:
    folder = copy("flagged")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(files) - 1), st.integers(0, 2**20), st.integers(1, 255))
    def check(number: int, place: int, change: int) -> None:
        content = files[number].read_bytes()
        at = place % len(content)
        try:
            files[number].write_bytes(content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])
            altered = files[number].read_bytes()
            report = verify_package(folder, world.trust)
            # White space in the outer JSON of the envelope is no part of what was signed.
            if files[number].name != "manifest.json" or json.loads(content) != _json(altered):
                assert report.verdict == "INVALID"
        finally:
            files[number].write_bytes(content)

    check()


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"payload":1,"payloadType":2,"signatures":3}',
        b'{"payload":"AA==","payloadType":"application/vnd.in-toto+json","signatures":[]}',
        b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"x","sig":"AA=="}]}',
        b'{"payload":"!","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":1,"sig":{}}]}',
        b"\xff\xfe",
    ],
)
def test_manifests_that_are_none(manifest: bytes, copy: Copy, world: World) -> None:
    folder = copy("all")
    (folder / "manifest.json").write_bytes(manifest)
    report = verify_package(folder, world.trust)
    assert report.verdict == "INVALID" and "manifest.malformed" in report.fault_counts


def test_a_statement_of_wrong_types_never_raises(copy: Copy, world: World) -> None:
    folder = copy("last minute")
    original = statement_of(folder)
    places: list[tuple[Any, ...]] = []

    def walk(value: Any, path: tuple[Any, ...]) -> None:
        places.append(path)
        for key, item in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            walk(item, (*path, key))

    walk(original["predicate"], ("predicate",))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(places), st.sampled_from([None, -1, 2**80, 1.5, "", "x", [], {}, [None], True, ["a"] * 3]))
    def check(path: tuple[Any, ...], junk: Any) -> None:
        statement = json.loads(json.dumps(original))
        target = statement
        for key in path[:-1]:
            target = target[key]
        if target[path[-1]] == junk:
            return
        target[path[-1]] = junk
        sign(folder, statement, world.key)
        report = verify_package(folder, world.trust)
        # What stands there for a person only may say anything.
        harmless = path[-1] in ("software", "where") or path[-1] == "previous"
        assert harmless or report.verdict == "INVALID", path

    check()


def test_no_folder_is_an_error_that_says_so(world: World, tmp_path: Path) -> None:
    with pytest.raises(AuditSpanError, match="cannot be opened"):
        verify_package(tmp_path / "none", world.trust)
    assert set(verify_package(tmp_path, world.trust).fault_counts) == {"manifest.malformed"}


def test_what_a_package_says_is_printed_as_text(copy: Copy, world: World) -> None:
    folder = copy("all")

    def act(rows: list[dict[str, Any]]) -> None:
        rows[3]["actor_id"] = "[bold red]\x1b[2J[/] VALID"

    edit(folder, "events", world.logs[0].log_id, act)
    repair(folder, world.key)
    out = StringIO()
    render(verify_package(folder, world.trust), Console(file=out, force_terminal=False, width=200))
    assert "[bold red]" in out.getvalue() and "\x1b" not in out.getvalue()
    assert "INVALID" in out.getvalue() and "column.mismatch" in out.getvalue() and "Not proven" in out.getvalue()


def test_many_faults_are_counted_and_few_kept(copy: Copy, world: World) -> None:
    folder = copy("all")
    edit(folder, "events", world.logs[0].log_id, lambda rows: [row | {"span_name": "x"} for row in rows] * 40)
    repair(folder, world.key)
    report = verify_package(folder, world.trust)
    assert len(report.faults) < 1_000 < sum(report.fault_counts.values())


def test_the_verifier_is_light_and_opens_no_socket(packages: dict[str, Path], world: World, tmp_path: Path) -> None:
    public = base64.b64encode(world.trust.keys[0].public_bytes_raw()).decode()
    trust = {
        "version": 1,
        "deployment": "acme",
        "keys": [{"algorithm": "Ed25519", "public_key": public, "added_at": "x"}],
    }
    (tmp_path / "trust.json").write_text(json.dumps(trust))
    script = """
import sys
from pathlib import Path
def refuse(event, arguments):
    if event.startswith("socket."):
        raise AssertionError(event)
sys.addaudithook(refuse)
from auditspan.exporters.evidence.verify import verify_package
from auditspan.ledger.trust import load_trust
report = verify_package(Path(sys.argv[1]), load_trust(Path(sys.argv[2])))
names = "chdb clickhouse_connect kafka grpc starlette uvicorn pydantic typer rich"
heavy = set(names.split()) & set(sys.modules)
assert not heavy, heavy
sys.exit(report.exit_code)
"""
    arguments = [sys.executable, "-c", script, str(packages["flagged"]), str(tmp_path / "trust.json")]
    subprocess.run(arguments, check=True, timeout=60)


def test_the_report_is_json(packages: dict[str, Path], world: World) -> None:
    value = json.loads(verify_package(packages["flagged"], world.trust).to_json())
    assert value["verdict"] == "VALID" and value["exit_code"] == 0 and value["faults"] == []
    assert value["counts"]["leaves"] == value["counts"]["proven"] == 47
    assert len(value["keys"]) == 1 and len(value["checkpoints"]) == 3 and value["not_proven"]


def test_rows_of_a_package_open_in_pandas(packages: dict[str, Path], world: World) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(file_of(packages["all"], "events", world.logs[0].log_id))
    assert list(frame["leaf_index"]) == [
        row["leaf_index"] for row in rows_of(file_of(packages["all"], "events", world.logs[0].log_id))
    ]
