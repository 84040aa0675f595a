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


def test_a_zip_is_verified_as_it_is(running: Running, tmp_path: Path) -> None:
    catch_up(running.service)
    said = gives("evidence", "export", "--data", running.data, "--zip", "--out", tmp_path / "package")
    assert Path(said["folder"]) == tmp_path / "package.zip"
    assert [path.name for path in tmp_path.iterdir()] == ["package.zip"]
    assert verify(tmp_path / "package.zip", running, 0)["counts"]["selected"] == said["selected"]
    content = bytearray((tmp_path / "package.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "package.zip").write_bytes(content)
    verify(tmp_path / "package.zip", running, 1)
    export = ("evidence", "export", "--data", running.data, "--zip")
    assert "in the way" in fails(*export, "--out", tmp_path / "package.zip")


def test_a_report_is_a_page_too(package: Path, copy: Path, running: Running, tmp_path: Path) -> None:
    trust = running.service.directory.trust
    gives("evidence", "verify", package, "--trust", trust, "--html", tmp_path / "valid.html")
    assert "VALID: verification of" in (tmp_path / "valid.html").read_text()
    (copy / "VERIFY.md").write_text("x")
    gives("evidence", "verify", copy, "--trust", trust, "--html", tmp_path / "invalid.html", status=1)
    page = (tmp_path / "invalid.html").read_text()
    assert "INVALID: verification of" in page and "file.digest" in page
    said = auditspan("evidence", "export", "--data", running.data, "--out", tmp_path / "again").out
    assert str(tmp_path / "again" / "SUMMARY.html") in said.replace("\n", "")
    assert (tmp_path / "again" / "SUMMARY.html").read_text().startswith("<!DOCTYPE html>")


def test_a_request_is_sealed_answered_and_listed(running: Running, tmp_path: Path) -> None:
    data = ("--data", running.data)
    who = ("--by", "BIS <Office of Export Enforcement>", "--basis", "15 CFR 762.7")
    made = gives("evidence", "request", *data, *who, "--where", "flagged = true", "--to", "2999-01-01")
    printed = auditspan("evidence", "request", *data, *who, "--from", "2020-01-01").out.strip()
    assert len(printed) == len(made["id"]) == 36

    def listed() -> dict[str, Any]:
        said = gives("evidence", "list", *data)
        return {one["id"]: one for one in said["requests"]}

    requests = until(lambda: (found := listed()).keys() >= {made["id"], printed} and found, "the requests to be sealed")
    assert requests[made["id"]]["state"] == "open" and requests[made["id"]]["where"] == "flagged = true"
    assert requests[made["id"]]["by"] == who[1] and requests[made["id"]]["actor"].startswith("user:")
    catch_up(running.service)
    export = ("evidence", "export", *data, "--request")
    said = until(lambda: _exported(*export, made["id"], "--out", tmp_path / "answer"), "a checkpoint over the request")
    assert said["request"] == made["id"] and said["withheld"] >= 2
    report = verify(tmp_path / "answer", running, 0)
    assert report["request"] == {"id": made["id"], "by": who[1], "basis": "15 CFR 762.7"}
    assert report["query"]["where"] == "flagged = true"
    answered = until(lambda: (one := listed()[made["id"]])["state"] == "exported" and one, "the export to be sealed")
    assert answered["packages"] == [said["manifest_sha256"]] and listed()[printed]["state"] == "open"
    exports = {one["manifest_sha256"]: one for one in gives("evidence", "list", *data)["exports"]}
    assert exports[said["manifest_sha256"]]["request"] == made["id"]
    shown = auditspan("evidence", "list", *data, env={"COLUMNS": "200"}).out
    assert made["id"] in shown and "exported" in shown and "open" in shown
    assert "No request" in fails(*export, "nobody", "--out", tmp_path / "new")
    assert "says itself" in fails(*export, printed, "--where", "flagged = true", "--out", tmp_path / "new")
    assert "no time" in fails("evidence", "request", *data, *who, "--from", "2026-12-01", "--to", "2026-11-01")
    assert "There is no field" in fails("evidence", "request", *data, *who, "--where", "nonsense = 1")


def _exported(*arguments: Any) -> Any:
    """An export that waits for a checkpoint over the request."""
    done = auditspan(*arguments, "--json")
    if done.status:
        assert "checkpoint" in done.out, done
        return None
    return done.json()


def test_a_request_without_a_service_is_sealed_by_the_next_one(stopped: Path) -> None:
    who = ("--by", "an auditor", "--basis", "15 CFR 762.7")
    said = gives("evidence", "request", "--data", stopped, *who)
    assert said["sealed"] is False and gives("evidence", "list", "--data", stopped)["requests"] == []
    assert "the next one to start seals it" in auditspan("evidence", "request", "--data", stopped, *who).out
    service = Service(stopped)
    try:
        service.start()
        found = until(lambda: gives("evidence", "list", "--data", stopped)["requests"], "the request to be sealed")
        assert said["id"] in [one["id"] for one in found]
    finally:
        service.close()


def test_two_packages_are_compared(package: Path, copy: Path, running: Running, tmp_path: Path) -> None:
    trust = ("--trust", running.service.directory.trust)
    flagged = tmp_path / "flagged.zip"
    gives("evidence", "export", "--data", running.data, "--zip", "--where", "flagged = true", "--out", flagged)
    said = gives("evidence", "diff", package, flagged, *trust)
    assert said["exit_code"] == 0 and said["differences"]["where"] == [None, "flagged = true"]
    assert "they say the same" in auditspan("evidence", "diff", package, flagged, *trust).out
    (copy / "VERIFY.md").write_text("x")
    assert gives("evidence", "diff", package, copy, *trust, status=1)["verdicts"] == ["VALID", "INVALID"]
    (copy / "VERIFY.md").unlink()
    assert gives("evidence", "diff", package, copy, *trust, status=2)["result"] is None
    assert "not compared" in auditspan("evidence", "diff", package, copy, *trust).out
    fails("evidence", "diff", package, tmp_path / "none", *trust, status=3)
    fails("evidence", "diff", package, *trust, status=3)


def test_records_are_printed(package: Path, copy: Path, running: Running, tmp_path: Path) -> None:
    command = ("evidence", "print", package, "--trust", running.service.directory.trust)
    out = tmp_path / "flagged.pdf"
    said = gives(*command, "--where", "flagged = true", "--out", out)
    assert said["records"] >= 1 and out.read_bytes().startswith(b"%PDF") and out.stat().st_mode & 0o777 == 0o600
    assert "exists already" in fails(*command, "--out", out, status=3)
    assert "No record matches" in fails(*command, "--record", "nobody", "--out", tmp_path / "n.pdf", status=3)
    assert "both given" in fails(*command, "--record", "a", "--where", "b", "--out", tmp_path / "n.pdf", status=3)
    assert "no field" in fails(*command, "--where", "nonsense = 1", "--out", tmp_path / "n.pdf", status=3)
    (copy / "VERIFY.md").write_text("x")
    broken = ("evidence", "print", copy, "--trust", running.service.directory.trust, "--out", tmp_path / "n.pdf")
    assert gives(*broken, status=1)["verdict"] == "INVALID"
    assert "not printed" in auditspan(*broken).out and not (tmp_path / "n.pdf").exists()
