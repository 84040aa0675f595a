"""Packages before, during and after rotations of the signing key, with the trust of then and of now."""

from __future__ import annotations

from pathlib import Path

import pytest
from auditspan.exporters.evidence.export import export_package
from auditspan.exporters.evidence.statement import key_id
from auditspan.exporters.evidence.verify import verify_package
from exported import export
from falsified_keys import AT, FOR_EVER, KEYS, RETIRED, later, rotated_world, trusting
from sealed_world import ARTIFACTS, DEPLOYMENT, SECOND, T0, World
from tampering import statement_of

from auditspan.errors import AuditSpanError
from auditspan.ledger.trust import Trust
from auditspan.store.clickhouse import ClickHouseStore

ALL = {"time_from": 0, "time_to": 2**62}


def exported(store: ClickHouseStore, world: World, out: Path, **options: object) -> Path:
    world.store_into(store)
    export(store, world, out, **ALL | options)
    return out


@pytest.mark.parametrize(
    ("trust", "by_rotation"),
    [(trusting(0), 1), (trusting(0, 1), 0), (trusting(0, 1, k0=FOR_EVER), 0), (trusting(1), 0), (trusting(1, 4), 0)],
    ids=["the old key", "both", "both, one retired", "the new key", "the new key and a stranger's"],
)
def test_after_a_rotation(store: ClickHouseStore, tmp_path: Path, trust: Trust, by_rotation: int) -> None:
    package = exported(store, rotated_world("one rotation"), tmp_path / "package")
    report = verify_package(package, trust)
    assert report.verdict == "VALID", report.faults
    assert report.keys == [key_id(KEYS[1].public_key())]
    said = [note for note in report.notes if "trusted by rotation" in note]
    assert len(said) == by_rotation
    assert all(key_id(KEYS[1].public_key()) in note for note in said)


def test_a_chain_of_rotations_is_followed_to_its_end(store: ClickHouseStore, tmp_path: Path) -> None:
    package = exported(store, rotated_world("three rotations", rotations=3), tmp_path / "package")
    assert len(statement_of(package)["predicate"]["keys"]) == 3
    for first in range(4):
        report = verify_package(package, trusting(first))
        assert report.verdict == "VALID", (first, report.faults)
        assert len([note for note in report.notes if "trusted by rotation" in note]) == 3 - first
    assert verify_package(package, trusting(4)).verdict == "INVALID"


def test_a_rotation_before_the_interval_is_shown_with_its_proof(store: ClickHouseStore, tmp_path: Path) -> None:
    world = rotated_world("rotated before the interval")
    later(world)
    package = exported(store, world, tmp_path / "package", time_from=RETIRED + 5 * SECOND)
    predicate = statement_of(package)["predicate"]
    assert any("audit.key.rotated" in each["leaf"] for each in predicate["control"]["included"])
    assert verify_package(package, trusting(0)).verdict == "VALID"


def test_what_was_exported_before_stays_valid_with_the_trust_of_now(store: ClickHouseStore, tmp_path: Path) -> None:
    world = rotated_world("grows", rotations=0)
    old = exported(store, world, tmp_path / "old")
    # Whatever this machine's clock says of the export, it was before.
    now = statement_of(old)["predicate"]["exported_at"]
    trust = trusting(0, 1, k0=int(now))
    assert "keys" not in statement_of(old)["predicate"]
    assert verify_package(old, trust).verdict == "VALID"
    world.rotate(KEYS[1], AT, RETIRED)
    later(world)
    new = exported(store, world, tmp_path / "new", previous=old)
    assert statement_of(new)["predicate"]["logs"][0]["previous"] is not None
    for each in (trusting(0), trusting(0, 1), trusting(0, 1, k0=RETIRED)):
        report = verify_package(new, each)
        assert report.verdict == "VALID", report.faults
    assert verify_package(old, trust).verdict == "VALID"


def test_old_notes_stay_valid_during_the_overlap(store: ClickHouseStore, tmp_path: Path) -> None:
    """Another process signs a round with the old key after the rotation."""
    world = rotated_world("overlap", retired_at=RETIRED + 60 * SECOND)
    world.key = KEYS[0]
    later(world)
    world.key = KEYS[1]
    package = exported(store, world, tmp_path / "package")
    for trust in (trusting(0), trusting(0, 1, k0=RETIRED + 60 * SECOND)):
        report = verify_package(package, trust)
        assert report.verdict == "VALID", report.faults
    early = verify_package(package, trusting(0, 1, k0=RETIRED))
    assert set(early.fault_counts) == {"key.retired"}


def test_a_clock_of_others_that_is_ahead_retires_nothing(store: ClickHouseStore, tmp_path: Path) -> None:
    world = World("ahead", logs=1, key=KEYS[0])
    world.logs[0].event(RETIRED + 1_000 * SECOND, sequence=0)
    world.batch(T0 + SECOND)
    package = exported(store, world, tmp_path / "package")
    at = int(statement_of(package)["predicate"]["exported_at"])
    assert verify_package(package, trusting(0, 1, k0=max(at, RETIRED))).verdict == "VALID"


def test_an_export_with_another_key_than_the_log_names_last_is_refused(store: ClickHouseStore, tmp_path: Path) -> None:
    world = rotated_world("refused")
    world.store_into(store)
    for key in (KEYS[0], KEYS[4]):
        with pytest.raises(AuditSpanError, match="is not the one that the control log names last"):
            export_package(
                store, ARTIFACTS.get, key, DEPLOYMENT, tmp_path / "out", control=world.control.log_id,
                time_from=0, time_to=2**62,
            )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_statements_without_end_are_refused_and_cost_nothing(store: ClickHouseStore, tmp_path: Path) -> None:
    from tampering import repair

    package = exported(store, rotated_world("many statements"), tmp_path / "package")
    one = statement_of(package)["predicate"]["keys"][0]
    repair(package, KEYS[1], lambda predicate: predicate.update(keys=[one] * 5_000))
    assert "manifest.malformed" in verify_package(package, trusting(0)).fault_counts
    for hostile in ({}, "x", 7, [[]], [None], [{"statement": [], "signatures": {}}], [{"statement": {}}]):
        repair(package, KEYS[1], lambda predicate, hostile=hostile: predicate.update(keys=hostile))
        report = verify_package(package, trusting(0, 1))
        assert report.verdict == "INVALID", hostile
        assert set(report.fault_counts) <= {"manifest.malformed", "key.untrusted"}
