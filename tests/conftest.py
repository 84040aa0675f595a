"""What suites of several folders use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "kafka"))

from broker import Kafka, missing, running


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kafka: needs a real Kafka broker")


@pytest.fixture(scope="session")
def kafka_here():
    """Skip where no broker can be started; with ``CI=true`` fail."""
    reason = missing()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must test on Kafka, but {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka(request, tmp_path_factory):
    """A running Kafka for the whole session: ``AUDITSPAN_TEST_KAFKA=host:port``, or one of our own."""
    given = os.environ.get("AUDITSPAN_TEST_KAFKA")
    if given:
        yield Kafka(given)
        return
    request.getfixturevalue("kafka_here")
    with running(tmp_path_factory.mktemp("kafka")) as started:
        yield started
