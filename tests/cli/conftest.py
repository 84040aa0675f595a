from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "service")]
"""For the service as a process, and the requests whose bytes are known."""

from running_service import Service  # noqa: E402
from sent_spans import an_access, request_of, resource  # noqa: E402
from waiting import until  # noqa: E402

HOSTILE = "[/red]\x1b[31mevil\u202etxt"
"""An actor id that tries to speak to the terminal, and to the table's markup."""


@dataclass
class Running:
    """A service with three sealed events."""

    service: Service
    token: str

    @property
    def data(self) -> Path:
        return self.service.data

    @property
    def sql(self) -> str:
        return self.service.directory.read_endpoints()["sql"]

    @property
    def read_token(self) -> str:
        return self.service.directory.read_token.read_text().strip()


def send(service: Service, token: str) -> None:
    spans = [
        an_access(),
        an_access({"audit.actor.id": HOSTILE}),
        an_access({"export_control.destination.country": "IR"}),
    ]
    assert service.post(request_of(resource({"service.name": "gateway"}), spans).body, token).status == 200


def start(data: Path) -> Running:
    service = Service(data)
    service.run("keys", "init", "--data", data)
    service.start()
    token = service.token("gateway")
    send(service, token)
    until(lambda: len(service.rows("SELECT 1 FROM auditspan.events WHERE class = 'model.access'")) == 3, "3 events")
    return Running(service, token)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that runs while all tests of this folder do."""
    given = start(tmp_path_factory.mktemp("running") / "data")
    yield given
    given.service.close()


@pytest.fixture(scope="session")
def _sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = start(tmp_path_factory.mktemp("stopped") / "data")
    given.service.stop()
    return given.data


@pytest.fixture
def stopped(_sealed: Path, tmp_path: Path) -> Path:
    """A directory whose service has ended, of the test's own."""
    return shutil.copytree(_sealed, tmp_path / "data", symlinks=True)
