"""Packages that were exported once, and are never made again: what is sealed verifies for ever.

``frozen/format-1`` holds a package with withheld leaves, two logs, an earlier export and leaves of the control log from
before its interval, as version 0.1.0 of AuditSpan wrote it, with the public key beside it. A change that makes it
invalid breaks the promise of ``docs/evidence-format.md``: mend the change, not the package.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from auditspan.exporters.evidence.verify import verify_package

from auditspan.ledger.trust import load_trust

FROZEN = sorted((Path(__file__).parent / "frozen").iterdir())


@pytest.mark.parametrize("frozen", FROZEN, ids=lambda path: path.name)
def test_a_package_of_the_past_is_valid(frozen: Path) -> None:
    wanted = json.loads((frozen / "report.json").read_text())
    report = verify_package(frozen / "package", load_trust(frozen / "trust.json"))
    assert report.verdict == "VALID", report.faults
    assert report.package_digest == wanted["package_digest"], "these are not the bytes that were frozen"
    assert report.counts == wanted["counts"]
    assert report.checkpoints == wanted["checkpoints"]
    assert report.counts["proven"] == report.counts["leaves"] > report.counts["selected"] > 0


@pytest.mark.parametrize("frozen", FROZEN, ids=lambda path: path.name)
def test_a_byte_less_or_another_byte_is_seen_in_each_of_its_files(frozen: Path, tmp_path: Path) -> None:
    trust = load_trust(frozen / "trust.json")
    folder = Path(shutil.copytree(frozen / "package", tmp_path / "package"))
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for altered in (content[:-1], content[:-1] + bytes([content[-1] ^ 1])):
            path.write_bytes(altered)
            report = verify_package(folder, trust)
            # The last byte of the manifest is the end of a line outside of what is signed.
            assert report.verdict == "INVALID" or (path.name == "manifest.json" and altered == content[:-1]), path
        path.write_bytes(content)
    assert verify_package(folder, trust).verdict == "VALID"
