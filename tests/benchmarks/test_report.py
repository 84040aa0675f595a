"""What a figure is judged by: its target, at the pace of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import pace, report
from benchmarks.pace import REFERENCE, Pace
from benchmarks.report import Row


@pytest.mark.parametrize(
    ("value", "speed", "passed", "verdict"),
    [
        (100.0, 1.0, True, "met"),
        (70.0, 1.0, True, "70%"),
        (69.0, 1.0, False, "69%: TOO FAR OFF"),
        (69.0, 0.5, True, "69%, 138% at this pace"),
        (34.0, 0.5, False, "34%, 68% at this pace: TOO FAR OFF"),
    ],
)
def test_a_rate_is_judged_at_the_pace_of_the_machine(value: float, speed: float, passed: bool, verdict: str) -> None:
    row = Row("sealing", value, 100.0, pace=speed)
    assert (row.passed, row.verdict) == (passed, verdict)


def test_a_limit_knows_no_pace() -> None:
    assert Row("memory", 1_500.0, 1_500.0, limit=True).verdict == "met"
    assert not Row("memory", 2_200.0, 1_500.0, limit=True).passed


def test_a_fast_machine_gets_no_higher_pace_than_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([REFERENCE * 0.5, REFERENCE * 0.7, REFERENCE * 9.0])
    monkeypatch.setattr(pace, "hash_rate", lambda: next(rates))
    measured = Pace()
    measured.look()
    assert measured.value == pytest.approx(0.6)
    measured.look()
    assert measured.value == 1.0


def test_the_rate_is_one_of_real_hashes() -> None:
    assert 1e4 < pace.hash_rate() < 1e8


def test_figures_of_one_benchmark_take_the_place_of_its_own_however_often(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "benchmarks.md"
    table = report.aligned(
        ["figure", "measured", "target", "verdict"],
        [["this machine", "1", "", "68%"], ["evidence: tree", "5", "", "x"]],
    )
    page.write_text(
        "\n".join(
            ["# A", "<!-- figures -->", "Measured once.", "", *table, "", "More.", "<!-- end of figures -->", "B"]
        )
    )
    monkeypatch.setattr(report, "PAGE", page)
    for value in (6.0, 7.0):
        rows = [Row("evidence: tree", value, 5.0), Row("evidence: verify", value, 5.0)]
        report.write_again("evidence", "evidence", f"Measured again, `evidence`: {value}.", rows)
    lines = page.read_text().split("\n")
    cells = [[cell.strip() for cell in line.strip("| ").split("|")][:2] for line in lines if line.startswith("|")]
    assert cells == [
        ["figure", "measured"],
        ["---", "---:"],
        ["this machine", "1"],
        ["evidence: tree", "7.00"],
        ["evidence: verify", "7.00"],
    ]
    assert [line for line in lines if line.startswith("Measured")] == [
        "Measured once.",
        "Measured again, `evidence`: 7.0.",
    ]
    assert "More." in lines and lines[-1] == "B"
