"""`auditspan store`, and the reading commands on a store that is a service."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import auditspan, fails, gives

sys.path.append(str(Path(__file__).parents[1] / "store"))

from sealed_batches import sealed
from store_process import StoreProcess

from auditspan.data_directory import DataDirectory
from auditspan.store.migrate import shipped_migrations


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    made = StoreProcess(tmp_path_factory.mktemp("store") / "data")
    made.start()
    client = made.client()
    client.append_batch(sealed(0, 3))
    client.close()
    yield made
    assert made.stop() == 0


@pytest.fixture
def processor(service: StoreProcess, tmp_path: Path) -> Path:
    """The data directory of a processor that was given the tokens."""
    directory = DataDirectory(tmp_path / "processor")
    directory.create()
    for name in ("read.token", "write.token"):
        (directory.root / name).write_text((service.data / name).read_text())
    directory.settings.write_text(f'[store]\nurl = "{service.url}"\n')
    return directory.root


def test_check_says_what_is_there(service: StoreProcess, processor: Path) -> None:
    assert gives("store", "check", "--data", processor) == {
        "url": service.url,
        "schema_version": len(shipped_migrations()),
        "leaves": 4,
        "logs": 1,
    }
    assert "4 leaves in 1 logs" in auditspan("store", "check", "--data", processor).out


def test_reading_commands_read_the_store_of_the_settings(processor: Path) -> None:
    assert len(gives("events", "--all", "--data", processor)) == 4


def test_reading_commands_read_a_served_directory(service: StoreProcess) -> None:
    assert len(gives("events", "--all", "--data", service.data)) == 4


def test_a_wrong_password_and_a_store_that_is_not_there(processor: Path) -> None:
    (processor / "write.token").write_text("wrong-wrong-wrong-wrong")
    assert "store.password_file" in fails("store", "check", "--data", processor)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (processor / "auditspan.toml").write_text(f'[store]\nurl = "http://127.0.0.1:{port}"\n')
    assert "store.url" in fails("store", "check", "--data", processor)


def test_a_check_makes_no_store(tmp_path: Path) -> None:
    assert "There is no directory" in fails("store", "check", "--data", tmp_path / "typo")
    assert "holds no store" in fails("store", "check", "--data", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_taken_and_an_empty_token(service: StoreProcess, tmp_path: Path) -> None:
    assert "cannot listen" in fails("store", "serve", "--data", str(tmp_path / "other"), "--listen", service.listen)
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "write.token").write_text("\n")
    assert "holds no token" in fails("store", "serve", "--data", str(tmp_path / "third"), "--listen", "127.0.0.1:0")
