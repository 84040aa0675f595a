from __future__ import annotations

import dataclasses

import pytest
from auditspan.instrumentation.recorder import Recorder
from auditspan.instrumentation.settings import InstrumentationSettings
from moto.server import ThreadedMotoServer
from spool_contents import spooled


@pytest.fixture(scope="session")
def aws():
    """The endpoint of a cloud."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def local_recorder(tmp_path):
    """Makes recorders whose records stay in the spool."""
    made = []

    def make(**changes):
        settings = InstrumentationSettings(
            endpoint="http://127.0.0.1:9",
            spool_directory=tmp_path / "spool",
            exit_timeout=0.0,
            heartbeat_interval=0.0,
        )
        made.append(Recorder(dataclasses.replace(settings, **changes)))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()


@pytest.fixture
def records(tmp_path):
    """Reads the records of this hook's class so far."""
    return lambda: spooled(tmp_path / "spool", "accelerator.provision") if (tmp_path / "spool").exists() else []


@pytest.fixture
def broken(tmp_path):
    """A spool directory that cannot be made."""
    (tmp_path / "file").write_bytes(b"")
    return tmp_path / "file" / "spool"
