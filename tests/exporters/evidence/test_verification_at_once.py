"""Logs verified at once, in processes of their own, give the report that they give one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from auditspan.exporters.evidence import verify_logs
from auditspan.exporters.evidence.verify import verify_package
from exported import export
from judged_world import CHINA, changed, judged, judged_world, milder
from sealed_world import SECOND, T0, World
from tampering import edit, repair

from auditspan.errors import AuditSpanError
from auditspan.store.clickhouse import ClickHouseStore


@pytest.fixture(autouse=True)
def _however_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_logs, "_WORTH_PROCESSES", 0)


def reports(folder: Path, world: World) -> list[dict[str, Any]]:
    return [verify_package(folder, world.trust, jobs=jobs).to_dict() for jobs in (1, 3)]


def test_an_honest_package(packages: dict[str, Path], world: World) -> None:
    for name in ("all", "flagged"):
        one, many = reports(packages[name], world)
        assert one == many and one["verdict"] == "VALID"


def test_faults_in_every_log_and_determinations_of_several(store: ClickHouseStore, tmp_path: Path) -> None:
    world = judged_world("at once", logs=3)
    false = changed(judged(CHINA), milder)
    for number, log in enumerate(world.logs):
        for place in range(150):
            log.event(T0 + 2 * SECOND + place, sequence=10 + place, stream=f"s{number}", facts=false)
        log.event(T0 + 3 * SECOND, outcome="started", record_id=f"intent-{number}", facts=judged(CHINA))
        log.event(T0 + 3 * SECOND, intent=f"intent-{(number + 1) % 3}", facts=judged(CHINA))
        log.log_leaf("audit.gap", {"emitter": "gateway", "stream": "s", "from": 0, "to": 9, "seen_at": str(T0)})
    world.logs[1].software = "another"
    world.batch(T0 + 4 * SECOND)
    world.store_into(store)
    export(store, world, tmp_path / "package", time_from=0, time_to=2**62)
    for log in world.logs:
        edit(tmp_path / "package", "events", log.log_id, lambda rows: [row | {"span_name": "x"} for row in rows[1:]])
    repair(tmp_path / "package", world.key)
    one, many = reports(tmp_path / "package", world)
    assert one == many
    assert one["fault_counts"]["determination.mismatch"] == 300
    assert one["determinations"]["not_confirmed"] == 150
    assert {fault["leaf"]["log_id"] for fault in one["faults"] if fault["leaf"]} >= {log.log_id for log in world.logs}
    assert one["counts"]["dangling_intents"] == 0


def test_progress_comes_to_its_end(packages: dict[str, Path], world: World) -> None:
    told: list[tuple[int, int]] = []
    report = verify_package(packages["all"], world.trust, lambda done, total: told.append((done, total)), jobs=2)
    assert told[-1][0] == told[-1][1] >= report.counts["leaves"]
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_process_that_is_ended_is_an_error_that_says_so(
    packages: dict[str, Path], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_logs, "_verify", _ended)
    with pytest.raises(AuditSpanError, match="ended from outside"):
        verify_package(packages["all"], world.trust, jobs=2)


def _ended(*arguments: Any) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
