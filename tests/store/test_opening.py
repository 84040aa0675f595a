"""The store of the settings: opened, or refused with what to do."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sealed_batches import ARRIVAL, LOG, OTHER_LOG, batch_row, event_row, sealed, table_of
from store_backends import READ_TOKEN, WRITE_TOKEN, Backend, served

from auditspan.config import Settings, SettingsInvalid, load_settings
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import SchemaTooNew, SchemaTooOld, SealedBatch, StoredCheckpoint, StoreUnavailable
from auditspan.store.http_connection import HttpConnection
from auditspan.store.migrate import schema_version, shipped_migrations
from auditspan.store.opening import OtherDeployment, StoreRefused, open_store, server_options


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    with served(tmp_path / "served") as made:
        yield made


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    made = DataDirectory(tmp_path / "data")
    made.create()
    made.write_token.write_text(WRITE_TOKEN + "\n")
    made.read_token.write_text(READ_TOKEN + "\n")
    return made


def _settings(backend: Backend | None = None, deployment: str = "auditspan.local", **store: object) -> Settings:
    if backend is not None:
        store = {"url": f"http://127.0.0.1:{backend.options['port']}", **store}
    return load_settings(None, {"deployment": deployment, "store": store})


def _opened_log(deployment: str, log_id: str = LOG) -> SealedBatch:
    said = {"class": "audit.log.opened", "body": {"deployment": deployment, "partition": "control", "log_id": log_id}}
    row = event_row(0, log_id=log_id, payload=None, header=json.dumps(said).encode(), **{"class": "audit.log.opened"})
    return SealedBatch(log_id, 0, table_of([row, batch_row(1, log_id=log_id)]))


def test_embedded_is_the_default(directory: DataDirectory) -> None:
    store = open_store(directory, _settings())
    store.migrate()
    store.append_batch(sealed(0, 3))
    store.close()
    assert directory.store.is_dir()


def test_a_served_store_is_opened_as_writer_and_as_reader(backend: Backend, directory: DataDirectory) -> None:
    writer = open_store(directory, _settings(backend))
    writer.migrate()
    writer.append_batch(sealed(0, 3))
    reader = open_store(directory, _settings(backend), reading=True)
    assert reader.next_leaf(LOG) == 4
    with pytest.raises(StoreUnavailable, match="Only the user writer"):
        reader.append_batch(sealed(4, 3))
    further = writer.reader()
    further.append_batch(sealed(4, 3))
    assert reader.next_leaf(LOG) == 8
    for store in (writer, reader, further):
        store.close()


def test_a_wrong_password_names_the_setting(backend: Backend, directory: DataDirectory) -> None:
    directory.write_token.write_text("something-else-altogether")
    with pytest.raises(StoreRefused, match=r"store\.password_file.*write\.token") as caught:
        open_store(directory, _settings(backend))
    assert "something-else" not in str(caught.value)
    directory.read_token.write_text("something-else-altogether")
    with pytest.raises(StoreRefused, match=r"store\.read_password_file.*read\.token"):
        open_store(directory, _settings(backend), reading=True)
    with pytest.raises(StoreRefused, match="'nobody'"):
        open_store(directory, _settings(backend, user="nobody", password_file=str(directory.write_token)))


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_a_password_file_that_is_not_there_or_empty(backend: Backend, directory: DataDirectory, text) -> None:
    directory.write_token.unlink()
    if text is not None:
        directory.write_token.write_text(text)
    with pytest.raises(AuditSpanError, match=r"store\.password_file") as caught:
        open_store(directory, _settings(backend))
    assert caught.value.remedy


def test_a_store_that_is_not_there_names_the_setting(directory: DataDirectory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(StoreUnavailable, match=rf"http://127\.0\.0\.1:{port} \(`store\.url`\)") as caught:
        open_store(directory, _settings(url=f"http://127.0.0.1:{port}"))
    assert "store.url" in caught.value.remedy


def test_a_newer_schema_is_refused(backend: Backend, directory: DataDirectory) -> None:
    backend.operator.command("INSERT INTO auditspan.migrations (version, name) VALUES (9000, 'from_the_future')")
    store = open_store(directory, _settings(backend))
    with pytest.raises(SchemaTooNew, match="9000"):
        store.migrate()
    store.close()


def test_an_older_schema_is_migrated_by_who_may_and_named_by_who_may_not(
    backend: Backend, directory: DataDirectory
) -> None:
    newest = len(shipped_migrations())
    backend.operator.command("ALTER TABLE auditspan.migrations DELETE WHERE version >= 2 SETTINGS mutations_sync = 1")
    store = open_store(directory, _settings(backend))
    with pytest.raises(SchemaTooOld, match=rf"version 1, .* needs {newest}, .*store\.user") as caught:
        store.migrate()
    assert "auditspan store serve" in caught.value.remedy
    backend.operator.migrate()
    store.migrate()
    assert schema_version(store.command) == newest
    store.close()


def test_an_empty_store_has_version_0_and_no_deployment(tmp_path: Path, directory: DataDirectory) -> None:
    store = open_store(directory, _settings())
    assert schema_version(store.command) == 0
    store.close()


def test_the_logs_of_another_deployment_are_refused(backend: Backend, directory: DataDirectory) -> None:
    backend.store.append_batch(_opened_log("theirs.example"))
    with pytest.raises(OtherDeployment, match=r"'theirs\.example', and this one is 'ours\.example'") as caught:
        open_store(directory, _settings(backend, "ours.example"))
    assert "store.url" in caught.value.remedy
    open_store(directory, _settings(backend, "theirs.example")).close()
    backend.store.append_batch(_opened_log("ours.example", OTHER_LOG))
    with pytest.raises(OtherDeployment):
        open_store(directory, _settings(backend, "theirs.example"))
    # An auditor may read whatever there is.
    open_store(directory, _settings(backend, "ours.example"), reading=True).close()


def test_a_checkpoint_of_another_deployment_is_refused(backend: Backend, directory: DataDirectory) -> None:
    backend.store.append_batch(_opened_log("ours.example"))
    note = f"auditspan/theirs.example/{OTHER_LOG}\n7\ncm9vdA==\n\n— x y\n"
    backend.store.append_checkpoints([StoredCheckpoint(OTHER_LOG, 7, "cm9vdA==", note, ARRIVAL)])
    with pytest.raises(OtherDeployment, match=r"theirs\.example"):
        open_store(directory, _settings(backend, "ours.example"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://127.0.0.1", "neither `embedded` nor"),
        ("127.0.0.1:8123", "neither `embedded` nor"),
        ("http://", "neither `embedded` nor"),
        ("http://127.0.0.1:99999", "neither `embedded` nor"),
        ("http://127.0.0.1:8123/path", "neither `embedded` nor"),
        ("http://writer:geheim@127.0.0.1:8123", "store.password_file"),
    ],
)
def test_what_is_no_url_of_a_store(url: str, said: str) -> None:
    with pytest.raises(SettingsInvalid, match=said) as caught:
        _settings(url=url)
    assert "geheim" not in str(caught.value)


def test_urls_and_compression(directory: DataDirectory) -> None:
    def options(**store: object) -> dict[str, object]:
        return server_options(directory, _settings(**store).store)

    assert options(url="http://127.0.0.1")["port"] == 8123
    assert options(url="https://store.example")["port"] == 8443
    assert options(url="https://store.example")["secure"] is True
    assert options(url="http://[::1]:9000")["host"] == "::1"
    assert options(url="http://localhost:1")["compression"] == "none"
    assert options(url="http://[::1]:1")["compression"] == "none"
    assert options(url="http://10.0.0.7:1")["compression"] == "lz4"
    assert options(url="http://10.0.0.7:1", compression="none")["compression"] == "none"


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_rows_come_in_with_each_compression(backend: Backend, compression: str) -> None:
    store = ClickHouseStore.http(**backend.options, compression=compression)
    batch = sealed(0, 50)
    store.append_batch(batch)
    stored = [header for block in store.leaves(LOG, 0, 51) for header in block["header"].to_pylist()]
    assert stored == batch.leaves["header"].to_pylist()
    store.close()


def test_a_column_that_the_store_does_not_have_is_named(backend: Backend) -> None:
    connection = HttpConnection(**backend.options)
    rows = sealed(0, 3).leaves.rename_columns(
        ["of_the_future" if n == "why" else n for n in sealed(0, 3).leaves.column_names]
    )
    with pytest.raises(StoreUnavailable, match="no column of_the_future"):
        connection.append(
            "auditspan.events", rows.drop_columns(["trace_id", "span_id"]), log_id=LOG, column="leaf_index", first=0
        )
    connection.close()
