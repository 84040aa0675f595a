"""The attacks of the demonstration are what they are said to be: each is found by its code, at its leaf."""

from __future__ import annotations

from pathlib import Path

import pytest
from auditspan.exporters.evidence.verify import verify_package
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sealed_world import World

from examples.demo import checks
from examples.demo.attacks import ATTACKS, Attack, attacked
from examples.demo.processes import DemoFailed


@pytest.fixture
def signing_key(world: World, tmp_path: Path) -> Path:
    path = tmp_path / "signing.pem"
    path.write_bytes(world.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def test_they_are_three_and_different() -> None:
    assert len({attack.code for attack in ATTACKS}) == len(ATTACKS) == 3
    assert {attack.insider for attack in ATTACKS} == {True, False}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.code)
def test_each_is_found(attack: Attack, packages: dict[str, Path], signing_key: Path, world: World) -> None:
    package, done = attacked(attack, packages["all"], signing_key)
    report = verify_package(package, world.trust)
    said = checks.found(report.to_dict(), attack.code)
    leaf = next(fault.leaf for fault in report.faults if fault.code == attack.code)
    if attack.insider:
        # Whoever has the key leaves no trace in the manifest: only the log gives the attack away.
        assert not {"file.digest", "manifest.signature"} & set(report.fault_counts)
        assert leaf is not None
        assert f"leaf {leaf[1]} of {leaf[0]}" in done
        assert f"leaf {leaf[1]} of log {leaf[0]}" in said
    assert verify_package(packages["all"], world.trust).verdict == "VALID"


def test_what_is_not_found_fails_the_demonstration(packages: dict[str, Path], world: World) -> None:
    report = verify_package(packages["all"], world.trust).to_dict()
    with pytest.raises(DemoFailed, match="should be invalid"):
        checks.found(report, "file.digest")
    with pytest.raises(DemoFailed, match="not only as"):
        checks.found(report | {"verdict": "INVALID"}, "file.digest")
