"""Packages of a deployment that goes on for one that lost signed leaves: what the report says of it, and when."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from auditspan.exporters.evidence.rendering import render
from auditspan.exporters.evidence.report_page import report_page
from auditspan.exporters.evidence.statement import key_id
from auditspan.exporters.evidence.verify import verify_package
from exported import export
from falsified_keys import KEYS, trusting
from falsified_recovery import OLD, OLD_LOG, recovered_world, recovery
from rich.console import Console
from sealed_world import DEPLOYMENT, SECOND, T0, World
from tampering import repair, statement_of

from auditspan.store.clickhouse import ClickHouseStore

ALL = {"time_from": 0, "time_to": 2**62}
LATER = {"time_from": T0 + 60 * SECOND, "time_to": 2**62}
NOT_SHOWN = "the beginning of the control log"


def exported(store: ClickHouseStore, world: World, out: Path, **times: int) -> Path:
    world.store_into(store)
    export(store, world, out, **times)
    return out


def goes_on(world: World) -> None:
    """Something an hour later, so that a package can begin after the beginning."""
    world.logs[0].event(T0 + 3600 * SECOND, sequence=1)
    world.batch(T0 + 3601 * SECOND)


@pytest.mark.parametrize("times", [ALL, LATER], ids=["from the beginning", "later"])
def test_what_is_lost_is_in_every_report(store: ClickHouseStore, tmp_path: Path, times: dict[str, int]) -> None:
    world, (leaf,) = recovered_world(f"recovered {len(times)} {times['time_from']}", recovery(KEYS[4], KEYS[0]))
    goes_on(world)
    package = exported(store, world, tmp_path / "package", **times)
    shown = [each["leaf_index"] for each in statement_of(package)["predicate"]["control"]["included"]]
    assert (leaf in shown) == (times is LATER)
    report = verify_package(package, trusting(0))
    assert report.verdict == "VALID", report.faults
    assert report.recovery is not None
    assert report.recovery["predecessor"] == OLD
    assert report.recovery["from"] == key_id(KEYS[4].public_key())
    assert [log["log_id"] for log in report.recovery["logs"]] == [OLD_LOG]
    (sentence,) = [each for each in report.not_proven if OLD in each]
    assert f"5 to 8 of events-0 ({OLD_LOG})" in sentence
    assert not any(NOT_SHOWN in each for each in report.not_proven)
    out = io.StringIO()
    render(report, Console(file=out, width=200))
    assert f"Goes on for {OLD}, recovered by user:officer" in out.getvalue()
    page = report_page(report)
    assert f"Goes on for {OLD}" in page
    assert "the disk was lost" in page


def test_that_it_is_not_shown_is_said(store: ClickHouseStore, tmp_path: Path) -> None:
    """The operator alone decides what is included: without the beginning, nobody knows."""
    world, (leaf,) = recovered_world("recovered and hidden", recovery(KEYS[4], KEYS[0]))
    goes_on(world)
    package = exported(store, world, tmp_path / "package", **LATER)

    def hide(predicate: dict) -> None:
        included = predicate["control"]["included"]
        included[:] = [each for each in included if each["leaf_index"] != leaf]

    repair(package, KEYS[0], hide)
    report = verify_package(package, trusting(0))
    assert report.verdict == "VALID", report.faults
    assert report.recovery is None
    assert any(NOT_SHOWN in each for each in report.not_proven)


def test_one_that_goes_on_for_nobody(store: ClickHouseStore, tmp_path: Path) -> None:
    world, _ = recovered_world("goes on for nobody")
    goes_on(world)
    world.store_into(store)
    for name, times, not_shown in (("all", ALL, False), ("later", LATER, True)):
        export(store, world, tmp_path / name, **times)
        report = verify_package(tmp_path / name, trusting(0))
        assert report.verdict == "VALID", report.faults
        assert report.recovery is None
        assert any(NOT_SHOWN in each for each in report.not_proven) == not_shown


def test_of_several_the_first_counts(store: ClickHouseStore, tmp_path: Path) -> None:
    bodies = [recovery(KEYS[4], KEYS[0]), recovery(KEYS[3], KEYS[0], predecessor="another.example.com", signed=None)]
    world, _ = recovered_world("two recoveries", *bodies)
    report = verify_package(exported(store, world, tmp_path / "package", **ALL), trusting(0))
    assert report.verdict == "VALID", report.faults
    assert report.recovery is not None
    assert report.recovery["predecessor"] == OLD


def test_the_first_key_may_be_known_by_rotation(store: ClickHouseStore, tmp_path: Path) -> None:
    """The statement is signed by the first key, and whoever trusts the second one alone sees the way between."""
    world, _ = recovered_world("recovered and rotated", recovery(KEYS[4], KEYS[0]))
    world.rotate(KEYS[1], T0 + 10 * SECOND, 2**62)
    goes_on(world)
    package = exported(store, world, tmp_path / "package", **ALL)
    for trust in (trusting(0), trusting(1), trusting(0, 1)):
        report = verify_package(package, trust)
        assert report.verdict == "VALID", report.faults
        assert report.recovery is not None
        assert report.recovery["deployment"] == DEPLOYMENT


def test_what_is_not_known_to_be_lost(store: ClickHouseStore, tmp_path: Path) -> None:
    for number, signed in enumerate((None, 5, 3)):
        world, _ = recovered_world(f"nothing known {number}", recovery(KEYS[4], KEYS[0], signed=signed))
        report = verify_package(exported(store, world, tmp_path / str(number), **ALL), trusting(0))
        assert report.verdict == "VALID", report.faults
        (sentence,) = [each for each in report.not_proven if OLD in each]
        assert "not known to be lost" in sentence
        assert "did not know" in sentence


def test_another_tree_than_was_signed(store: ClickHouseStore, tmp_path: Path) -> None:
    (log,) = recovery(KEYS[4], KEYS[0], signed=5)["statement"]["logs"]
    log["signed"]["root"] = base64.b64encode(bytes(32)).decode()
    world, _ = recovered_world("another tree", recovery(KEYS[4], KEYS[0], logs=[log]))
    report = verify_package(exported(store, world, tmp_path / "package", **ALL), trusting(0))
    assert report.verdict == "VALID", report.faults
    assert any(f"({OLD_LOG}) is another tree than the one that was signed" in each for each in report.not_proven)


def test_a_strangers_text_is_shown_as_text(store: ClickHouseStore, tmp_path: Path) -> None:
    body = recovery(KEYS[4], KEYS[0], reason="<script>\x1b[31m", by="[/red]")
    world, _ = recovered_world("hostile recovery", body)
    report = verify_package(exported(store, world, tmp_path / "package", **ALL), trusting(0))
    out = io.StringIO()
    render(report, Console(file=out, width=200))
    for said in (out.getvalue(), report_page(report), report.to_json()):
        assert "\x1b" not in said
    assert "[/red]" in out.getvalue()
    assert "<script>" not in report_page(report)
