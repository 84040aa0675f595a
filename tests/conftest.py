"""What suites of several folders use."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "kafka"))
sys.path.insert(0, str(Path(__file__).parent / "faults"))
sys.path.insert(0, str(Path(__file__).parent / "tlog"))
sys.path.insert(0, str(Path(__file__).parent / "ledger"))

from broker import JOURNAL_KEY, Kafka, missing, running
from full_disk import Impossible, RefusedWrites, SmallDisk, fillable
from go_tlog import GoTlog
from hypothesis import settings
from litewitness import Litewitness
from timestamp_authority import missing as openssl_missing

from auditspan.cli.screening_extra import require_screening
from auditspan.config import KafkaSettings
from auditspan.errors import AuditSpanError

# How long an example takes says something of the machine, and nothing of what is promised.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_numbers = itertools.count()

_LONGEST_FIRST = (
    "processors/test_process_group.py",
    "crash/test_crash_matrix.py",
    "processors/test_generations.py",
    "processors/test_replay.py",
    "service/test_persistence_boundaries.py",
    "service/test_license_service.py",
    "service/test_requests_killed.py",
    "cli/test_screen_clear_command.py",
    "cli/test_evidence_command.py",
    "journal/test_kafka_faults.py",
    "cli/test_up.py",
    "cli/test_doctor.py",
    "processors/test_pipeline.py",
    "processors/test_replay_of_generations.py",
    "reference/test_generations.py",
    "cli/test_reading_commands.py",
    "service/test_service_killed.py",
    "cli/test_kafka_commands.py",
    "store/test_store_process.py",
    "cli/test_replay_command.py",
    "test_package.py",
    "reference/test_random_journals.py",
)
"""Files that take more than half a minute: begun last, one of them would keep one worker busy alone at the end."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kafka: needs a real Kafka broker")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many as there are cores: what is started beside them, brokers and services, has to run as well."""
    return min(os.cpu_count() or 1, 8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the others stay in their order."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def kafka_here():
    """Skip where no broker can be started; with ``CI=true`` fail."""
    reason = missing()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must test on Kafka, but {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def screening_here():
    """Skip where the extra ``screening`` could not be installed; with ``CI=true`` fail."""
    try:
        require_screening()
    except AuditSpanError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must test screening: {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def go_tlog(tmp_path_factory):
    """Go's own ``note`` and ``tlog``; skip where there is no Go, and with ``CI=true`` fail."""
    try:
        return GoTlog(tmp_path_factory.mktemp("tlog"))
    except RuntimeError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must compare proofs with Go's, but {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def openssl_here():
    """Skip where there is no OpenSSL, whose ``ts`` is the timestamp authority; with ``CI=true`` fail."""
    reason = openssl_missing()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must test timestamps, but {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def litewitness(tmp_path_factory):
    """A witness that others wrote, built once; skip where it cannot be, and with ``CI=true`` fail."""
    try:
        return Litewitness(tmp_path_factory.mktemp("litewitness"))
    except RuntimeError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must test with a witness that others wrote, but {error}")
        pytest.skip(str(error))


@pytest.fixture
def fillable_disk(request, tmp_path, kafka_here):
    """A disk for a broker of the test's own that it can fill: a small one where it can be mounted, or one that refuses.

    Where only a small one will do, skip if it cannot be mounted, as in most containers; else fail with ``CI=true``.
    """
    kinds = getattr(request, "param", [SmallDisk, RefusedWrites])
    try:
        disk = fillable(tmp_path / "disk", kinds)
    except Impossible as error:
        if os.environ.get("CI") == "true" and RefusedWrites in kinds:
            pytest.fail(f"CI must test a full disk, but {error}")
        pytest.skip(str(error))
    yield disk
    disk.close()


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


@pytest.fixture
def kafka_settings(kafka):
    """Settings with topics of the test's own: ``kafka_settings(partitions=…, make=…, **settings)``."""
    from auditspan.journal.kafka_topics import make_topics

    def prepare(partitions: int = 1, *, make: bool = True, **settings) -> KafkaSettings:
        chosen = KafkaSettings(
            **{
                "topic": f"test-{os.getpid()}-{next(_numbers)}",
                "group": f"test-{os.getpid()}-{next(_numbers)}",
                "replication_factor": 1,
                "min_insync_replicas": 1,
                **settings,
            }
        )
        if make:
            make_topics(kafka.url, chosen, partitions)
        return chosen

    return prepare


@pytest.fixture
def kafka_journal(kafka, kafka_settings):
    """Open journals on the running Kafka: ``kafka_journal(partitions, settings=None, key=JOURNAL_KEY, **settings)``."""
    from auditspan.journal.kafka import KafkaJournal

    opened = []

    def start(
        partitions: int = 1, settings: KafkaSettings | None = None, *, key: bytes = JOURNAL_KEY, **given
    ) -> KafkaJournal:
        chosen = settings or kafka_settings(partitions, **given)
        opened.append(KafkaJournal(kafka.url, chosen, partitions, key))
        return opened[-1]

    yield start
    for journal in opened:
        journal.close()
