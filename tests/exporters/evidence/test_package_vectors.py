"""The packages of ``tests/vectors/packages``, which any verifier can run: ours finds in each what its index says."""

from __future__ import annotations

import base64
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from auditspan.exporters.evidence.verify import verify_package
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.ledger.trust import Trust, parse_trust

ROOT = Path(__file__).parents[3]
VECTORS = ROOT / "tests" / "vectors" / "packages"
INDEX: list[dict[str, Any]] = json.loads((VECTORS / "index.json").read_text())


def codes_of_the_format() -> set[str]:
    """Those that section 15 of the evidence format has in its table."""
    text = (ROOT / "docs" / "evidence-format.md").read_text()
    table = text.partition("## 15.")[2].partition("Incomplete (exit 2")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)
    return {code for cell in cells for code in re.findall(r"`([a-z_.]+)`", cell)}


def trust_of(vector: dict[str, Any]) -> Trust:
    if "trust" in vector:
        return parse_trust(vector["trust"])
    keys = tuple(Ed25519PublicKey.from_public_bytes(base64.b64decode(key)) for key in vector["public_keys"])
    return Trust(vector["deployment"], keys)


def test_there_is_one_of_every_code_and_three_that_are_valid() -> None:
    valid = {vector["package"].removesuffix(".zip") for vector in INDEX if vector["verdict"] == "VALID"}
    assert valid == {"valid", "valid-anchored", "valid-recovered"}
    names = {vector["package"].removesuffix(".zip") for vector in INDEX}
    assert names - valid == codes_of_the_format()
    assert {path.name for path in VECTORS.glob("*.zip")} == {vector["package"] for vector in INDEX}


@pytest.mark.parametrize("vector", INDEX, ids=lambda vector: vector["package"].removesuffix(".zip"))
def test_what_the_index_says_is_found(vector: dict[str, Any], tmp_path: Path) -> None:
    with zipfile.ZipFile(VECTORS / vector["package"]) as packed:
        packed.extractall(tmp_path / "package")
    report = verify_package(tmp_path / "package", trust_of(vector))
    code = vector["package"].removesuffix(".zip")
    assert (report.verdict, report.exit_code) == (vector["verdict"], vector["exit_code"])
    assert report.fault_counts == vector["fault_counts"]
    assert code.startswith("valid") or code in report.fault_counts
    found = sorted({(fault.code, *fault.leaf) for fault in report.faults if fault.leaf is not None})
    assert [list(each) for each in found] == vector["leaves"]
    assert report.counts == vector["counts"]
