"""One process at a time holds a data directory."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from auditspan.data_directory import SERVICE, DataDirectory, DataDirectoryBusy
from auditspan.errors import AuditSpanError


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    made = DataDirectory(tmp_path / "data")
    made.create()
    return made


def test_what_is_made_belongs_to_its_owner_alone(directory: DataDirectory) -> None:
    folders = [directory.root, *(path for path in directory.root.rglob("*") if path.is_dir())]
    assert len(folders) == 5
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    with directory.lock():
        assert stat.S_IMODE((directory.root / "lock").stat().st_mode) == 0o600
    directory.create()


def test_a_service_is_refused_at_once_where_another_runs(directory: DataDirectory) -> None:
    with directory.lock(), pytest.raises(DataDirectoryBusy, match=rf"Process {os.getpid()} \(auditspan up\)") as caught:
        directory.lock(patience=60.0)
    assert caught.value.purpose == SERVICE
    directory.lock().close()


def test_a_command_is_waited_for(directory: DataDirectory) -> None:
    held = directory.lock("a command")
    with pytest.raises(DataDirectoryBusy) as caught:
        directory.lock(patience=0.1)
    assert caught.value.purpose == "a command"
    threading.Timer(0.2, held.close).start()
    directory.lock(patience=30.0).close()


def test_a_killed_process_holds_nothing(directory: DataDirectory) -> None:
    program = (
        "import os, pathlib, signal\nfrom auditspan.data_directory import DataDirectory\n"
        f"held = DataDirectory(pathlib.Path({str(directory.root)!r})).lock()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    with directory.lock("a command"):
        assert (directory.root / "lock").read_text() == f"{os.getpid()} a command"


def test_a_place_that_cannot_be_used_is_explained() -> None:
    with pytest.raises(AuditSpanError, match="/proc cannot be used"):
        DataDirectory(Path("/proc")).lock()


def test_endpoints_are_read_as_they_were_written(directory: DataDirectory) -> None:
    endpoints = {name: f"http://127.0.0.1:{port}" for port, name in enumerate(("otlp_http", "otlp_grpc", "sql"), 1)}
    with pytest.raises(AuditSpanError, match="said where it listens"):
        directory.read_endpoints()
    directory.write_endpoints(endpoints)
    assert directory.read_endpoints() == endpoints
    for damaged in ("", "[]", "{}", '{"sql": 1}', "nonsense"):
        directory.endpoints.write_text(damaged)
        with pytest.raises(AuditSpanError, match="said where it listens"):
            directory.read_endpoints()
