"""A collector that runs alone learns from the store which epoch decides."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import gives
from epoch_in_force import PARTIES

from auditspan.cli.epoch_follower import EpochFollower
from auditspan.config import Settings
from auditspan.data_directory import DataDirectory
from auditspan.journal.opening import open_journal
from auditspan.policy.snapshot import IN_FORCE, Snapshot, SnapshotUnavailable

sys.path.append(str(Path(__file__).parents[1] / "store"))
sys.path.append(str(Path(__file__).parents[1] / "service"))

from running_service import Service
from store_process import StoreProcess
from waiting import until

FACTS = {"act": "provision", "accelerator_model": "H200", "end_user_party": "orchid", "destination_country": "US"}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    """A store in which a pipeline has sealed its first epoch, served by itself, and the pipeline's directory."""
    folder = tmp_path_factory.mktemp("deployment")
    (folder / "parties.yaml").write_bytes(PARTIES)
    service = Service(folder / "data", parties=folder / "parties.yaml")
    gives("keys", "init", "--data", service.data)
    service.start()
    service.stop()
    store = StoreProcess(folder / "data")
    store.start()
    yield store
    store.stop()


def test_the_epoch_of_the_store_decides_in_the_collectors_directory(sealed: StoreProcess, tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "collector")
    directory.create()
    directory.read_token.write_text(sealed.directory.read_token.read_text())
    settings = Settings.model_validate({"store": {"url": sealed.url}})
    journal = open_journal(DataDirectory(sealed.data), settings)
    snapshot = Snapshot(directory.reference)
    with pytest.raises(SnapshotUnavailable):
        snapshot.decide(FACTS)
    follower = EpochFollower(directory, settings, journal)
    follower.start()
    try:
        until(lambda: (directory.reference / IN_FORCE).exists(), "the epoch to be announced")
        snapshot.refresh()
        found = snapshot.decide(FACTS)
        assert (found.epoch, found.flagged, found.rule_ids) == (1, True, ("us-ear/iaas-headquarters",))
        before = (directory.reference / IN_FORCE).stat().st_mtime_ns
        until(lambda: (directory.reference / IN_FORCE).stat().st_mtime_ns > before, "the epoch to be confirmed")
    finally:
        follower.stop()
        journal.close()
    assert found.digest == Snapshot(sealed.directory.reference).decide(FACTS).digest


def test_without_the_store_collecting_goes_on_and_nothing_is_announced(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "collector")
    directory.create()
    directory.read_token.write_text("x" * 32)
    settings = Settings.model_validate({"store": {"url": "http://127.0.0.1:9"}})
    journal = open_journal(directory, settings)
    follower = EpochFollower(directory, settings, journal)
    follower.start()
    follower.stop()
    journal.close()
    assert not (directory.reference / IN_FORCE).exists()
