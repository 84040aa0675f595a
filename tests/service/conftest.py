from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running_service import Service

sys.path.insert(0, str(Path(__file__).parents[1]))
"""For the slow deriver in ``tests/reference``."""


def _made(folder: Path) -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def make(**settings: object) -> Service:
        services.append(Service(folder / f"data-{len(services)}", **settings))
        services[-1].run("keys", "init", "--data", services[-1].data)
        return services[-1]

    yield make
    for service in services:
        service.close()


@pytest.fixture
def new_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Make a service with keys, not started: ``new_service(setting=value, …)``."""
    yield from _made(tmp_path)


@pytest.fixture(scope="module")
def module_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """The same for a service that the tests of a module share."""
    yield from _made(tmp_path_factory.mktemp("service"))
