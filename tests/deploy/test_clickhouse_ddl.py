"""What an owner of a ClickHouse server applies is what the migrations say, and gives nobody more than they need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.migrate import schema_version, shipped_migrations
from tools.clickhouse_ddl import CLUSTER, SERVER, cluster_schema, server_schema

FOLDER = Path(__file__).parents[2] / "deploy" / "clickhouse"


def _statements(name: str) -> list[str]:
    text = re.sub(r"^\s*--.*$", "", (FOLDER / name).read_text(), flags=re.MULTILINE)
    return [statement.strip() for statement in text.split(";") if statement.strip()]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ClickHouseStore]:
    store = ClickHouseStore.embedded(tmp_path / "store")
    yield store
    store.close()


def _normal(engine: ClickHouseStore, statement: str) -> str:
    """The statement as the engine's own parser writes it; it fails when it is none."""
    return str(engine.query("SELECT formatQuery({s:String}) AS q", {"s": statement})["q"][0].as_py())


def test_the_files_are_what_the_migrations_give() -> None:
    assert (FOLDER / SERVER).read_text() == server_schema()
    assert (FOLDER / CLUSTER).read_text() == cluster_schema()


def test_the_schema_of_a_server_is_the_migrated_one(engine: ClickHouseStore, tmp_path: Path) -> None:
    def created() -> list[str]:
        sql = "SELECT create_table_query AS q FROM system.tables WHERE database = 'auditspan' ORDER BY name"
        return [re.sub(r" UUID '[^']*'", "", query) for query in engine.query(sql)["q"].to_pylist()]

    for _ in range(2):
        for statement in _statements(SERVER):
            engine.command(statement)
    applied = created()
    assert schema_version(engine.command) == len(shipped_migrations())
    assert engine.query("SELECT count() AS n FROM auditspan.migrations")["n"][0].as_py() == len(shipped_migrations())
    engine.migrate()  # finds its version
    engine.command("DROP DATABASE auditspan")
    engine.migrate()
    assert created() == applied


def test_the_schema_of_a_cluster_differs_in_its_engines_alone(engine: ClickHouseStore) -> None:
    server, cluster = _statements(SERVER), _statements(CLUSTER)
    assert len(server) == len(cluster)
    tables = 0
    for one, replicated in zip(server, cluster, strict=True):
        text = _normal(engine, replicated)
        if one.startswith("CREATE"):
            assert "ON CLUSTER `{cluster}`" in text or "ON CLUSTER '{cluster}'" in text
            text = re.sub(r" ON CLUSTER [`']\{cluster\}[`']", "", text)
        if one.startswith("CREATE TABLE"):
            tables += 1
            assert re.search(r"ENGINE = Replicated\w*MergeTree\('/clickhouse/tables/", text)
            text = re.sub(r"ENGINE = Replicated(\w*MergeTree)\([^)]*\)", r"ENGINE = \1", text)
        text = text.replace(
            "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800",
            "non_replicated_deduplication_window = 10000",
        )
        assert text == _normal(engine, one)
    assert tables == sum(one.startswith("CREATE TABLE") for one in server) > 0


def test_what_seals_evidence_is_durable_and_keeps_its_tokens(engine: ClickHouseStore) -> None:
    for name in (SERVER, CLUSTER):
        events = next(text for text in _statements(name) if "auditspan.events" in text)
        assert "fsync_after_insert = 1" in events
        assert "fsync_part_directory = 1" in events
        assert "replicated_deduplication_window = 10000" in events


def test_the_roles_parse_and_give_nobody_more_than_they_need(engine: ClickHouseStore) -> None:
    rights: dict[str, set[str]] = {}
    for statement in _statements("roles.sql"):
        text = _normal(engine, statement)
        granted = re.fullmatch(r"GRANT (.+) ON (\S+) TO (\w+)", text)
        if granted:
            rights.setdefault(granted[3], set()).update(right.strip() for right in granted[1].split(","))
    assert rights["auditspan_writer"] == {"SELECT", "INSERT", "CREATE TEMPORARY TABLE"}
    assert rights["auditspan_reader"] == {"SELECT"}
    profile = next(text for text in _statements("roles.sql") if "auditspan_writing" in text)
    for setting in ("insert_quorum = 'auto'", "insert_quorum_parallel = 0", "select_sequential_consistency = 1"):
        assert setting in profile


def test_no_user_has_a_password_that_works_as_it_is() -> None:
    users = [text for text in _statements("roles.sql") if text.startswith("CREATE USER")]
    assert len(users) == 2
    for text in users:
        placed = re.search(r"IDENTIFIED WITH sha256_hash BY '([^']*)'", text)
        assert placed is not None
        assert not re.fullmatch(r"[0-9a-fA-F]{64}", placed[1])
