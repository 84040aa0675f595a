from __future__ import annotations

from pathlib import Path

from auditspan.exporters.evidence.verify import verify_package
from sealed_world import World


def test_honest_packages_are_valid(packages: dict[str, Path], world: World) -> None:
    for name in ("all", "flagged", "later", "last minute"):
        report = verify_package(packages[name], world.trust)
        assert report.faults == [] and report.verdict == "VALID", (name, report.faults[:5])
