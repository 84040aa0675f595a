"""A collector that runs alone learns from the store which epoch decides."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import gives
from epoch_in_force import PARTIES, put_in_force

from auditspan.cli.epoch_follower import EpochFollower
from auditspan.config import Settings
from auditspan.data_directory import DataDirectory
from auditspan.journal.opening import open_journal
from auditspan.policy.errors import PolicyError
from auditspan.policy.reference import Reference
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


@contextmanager
def following(sealed: StoreProcess, directory: DataDirectory) -> Iterator[EpochFollower]:
    """A follower of the sealed epoch in a collector's directory, from its start on."""
    directory.create()
    directory.read_token.write_text(sealed.directory.read_token.read_text())
    settings = Settings.model_validate({"store": {"url": sealed.url}})
    journal = open_journal(DataDirectory(sealed.data), settings)
    follower = EpochFollower(directory, settings, journal)
    follower.start()
    try:
        yield follower
    finally:
        follower.stop()
        journal.close()


def test_an_epoch_that_this_version_cannot_use_lets_the_one_before_grow_old(
    sealed: StoreProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a collector that was not upgraded yet, when a new pack reads a fact that it does not have."""
    directory = DataDirectory(tmp_path / "collector")
    put_in_force(directory.reference, 7)
    in_force = directory.reference / IN_FORCE
    old = time.time() - 500
    os.utime(in_force, (old, old))
    load, loaded = Reference.load, list[int]()

    def older(artifacts: Any, number: int, *given: Any, **named: Any) -> Reference:
        if number == 1:
            loaded.append(number)
            raise PolicyError("no such fact: novel", file="us-ear.yaml", line=3, remedy="Upgrade.")
        return load(artifacts, number, *given, **named)

    monkeypatch.setattr(Reference, "load", older)
    monkeypatch.setattr("auditspan.cli.epoch_follower._LOOK_EVERY", 0.05)
    with following(sealed, directory):
        until(lambda: caplog.text.count("no such fact: novel") >= 3, "three looks at the epoch")
        found = Snapshot(directory.reference).decide(FACTS)
    assert found.epoch == 7
    assert found.age is not None and found.age > 400, "nobody may say that it is still in force"
    assert loaded == [1], "what this version cannot read it does not load again and again"
    monkeypatch.undo()
    with following(sealed, directory):
        until(lambda: Snapshot(directory.reference).decide(FACTS).epoch == 1, "the upgraded collector to announce it")


def test_a_disk_that_takes_nothing_for_a_while_does_not_end_it(
    sealed: StoreProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    directory = DataDirectory(tmp_path / "collector")
    in_the_way = directory.reference / IN_FORCE
    in_the_way.mkdir(parents=True)
    monkeypatch.setattr("auditspan.cli.epoch_follower._LOOK_EVERY", 0.05)
    with following(sealed, directory):
        until(lambda: caplog.text.count("cannot be kept") >= 2, "two failures")
        in_the_way.rmdir()
        until(in_the_way.is_file, "the epoch to be announced")
        assert Snapshot(directory.reference).decide(FACTS).epoch == 1


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
