"""`auditspan evidence`: packages of a running and of a stopped service, and every exit status of the verifier."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import auditspan, fails, gives
from conftest import Running
from final_checks import catch_up
from running_service import Service
from waiting import until


@pytest.fixture(scope="module")
def package(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evidence") / "package"
    # An export goes as far as the last round of checkpoints.
    catch_up(running.service)
    said = gives("evidence", "export", "--data", running.data, "--out", out)
    assert said["selected"] >= 3
    assert said["flagged"] >= 1
    return out


@pytest.fixture
def copy(package: Path, tmp_path: Path) -> Path:
    return shutil.copytree(package, tmp_path / "package")


def verify(folder: Path, running: Running, status: int) -> Any:
    trust = running.service.directory.trust
    report = gives("evidence", "verify", folder, "--trust", trust, status=status)
    return report


def test_0_valid(package: Path, running: Running) -> None:
    verify(package, running, 0)
    shown = auditspan("evidence", "verify", package, "--trust", running.service.directory.trust).out
    assert "VALID" in shown
    assert "INVALID" not in shown


def test_1_invalid(copy: Path, running: Running) -> None:
    file = max((copy / "events").rglob("*.parquet"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    verify(copy, running, 1)
    assert "INVALID" in auditspan("evidence", "verify", copy, "--trust", running.service.directory.trust).out


def test_2_incomplete(copy: Path, running: Running) -> None:
    next((copy / "events").rglob("*.parquet")).unlink()
    verify(copy, running, 2)
    assert auditspan("evidence", "verify", copy, "--trust", running.service.directory.trust).status == 2


def test_3_usage(package: Path, running: Running, tmp_path: Path) -> None:
    trust = running.service.directory.trust
    assert "trust" in fails("evidence", "verify", package, status=3)
    assert "banana" in fails("evidence", "verify", package, "--trust", trust, "--banana", status=3)
    fails("evidence", "verify", status=3)
    fails("evidence", "verify", tmp_path / "typo", "--trust", trust, status=3)
    for wrong in (tmp_path / "typo.json", package, package / "manifest.json"):
        said = fails("evidence", "verify", package, "--trust", wrong, status=3)
        assert "Ask the operator" in said and "keys init" not in said
    fails("evidence", "verify", trust, "--trust", trust, status=3)
    assert "banana" in fails("evidence", "export", "--banana", status=2)


def test_a_running_service_seals_that_it_exported(running: Running, package: Path) -> None:
    def sealed() -> list[Any]:
        return list(gives("events", "--data", running.data, "--class", "evidence.exported"))

    assert len(until(sealed, "the export to be sealed")) == 1


def test_an_export_without_a_service_is_sealed_by_the_next_one(stopped: Path, tmp_path: Path) -> None:
    out = tmp_path / "package"
    gives("evidence", "export", "--data", stopped, "--out", out)
    gives("evidence", "verify", out, "--trust", stopped / "trust.json")
    assert gives("events", "--data", stopped, "--class", "evidence.exported") == []
    waiting = {finding["check"]: finding for finding in gives("doctor", "--data", stopped)}["control"]
    assert waiting["state"] == "waiting"
    assert "1 journal entries" in waiting["found"]
    service = Service(stopped)
    try:
        service.start()
        query = "SELECT header FROM auditspan.events WHERE class = 'evidence.exported'"
        (row,) = until(lambda: service.rows(query), "the export to be sealed")
        assert b"user:" in row["header"]
    finally:
        service.close()


def test_an_export_says_why_it_is_not_made(running: Running, package: Path, tmp_path: Path) -> None:
    export = ("evidence", "export", "--data", running.data)
    out = ("--out", tmp_path / "new")
    assert "not empty" in fails(*export, "--out", package)
    assert "is no time" in fails(*export, *out, "--from", "yesterday")
    assert "cover no time" in fails(*export, *out, "--from", "2026-12-01", "--to", "2026-11-01")
    unknown = fails(*export, *out, "--where", "nonsense = 1")
    assert "There is no field nonsense" in unknown and "Write, for example" in unknown
    assert "no evidence package" in fails(*export, *out, "--previous", tmp_path)
    assert "There is no directory" in fails("evidence", "export", "--data", tmp_path / "typo", *out)
    assert not (tmp_path / "new").exists()


def test_what_a_query_leaves_out_stays_as_headers(running: Running, tmp_path: Path) -> None:
    out = tmp_path / "flagged"
    said = gives("evidence", "export", "--data", running.data, "--where", "flagged = true", "--out", out)
    assert said["selected"] > said["flagged"] >= 1, "the log's own leaves are always in"
    assert said["withheld"] >= 2
    verify(out, running, 0)
