"""Owners change hands between two events of a batch: each is judged by who owned its party then, and again the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
from auditspan.processors.determine import Determiner

from auditspan.policy import Reference
from auditspan.policy.argument import washington
from auditspan.policy.rule_time import parse_instant

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from sealing_deployment import running  # noqa: E402
from sealing_inputs import NOW, SECOND, request  # noqa: E402
from waiting import until  # noqa: E402

from auditspan.policy.recheck import recheck  # noqa: E402
from auditspan.policy.stored_determinations import Interval  # noqa: E402
from auditspan.policy.stored_epochs import StoredEpochs  # noqa: E402
from auditspan.store.clickhouse import ClickHouseStore  # noqa: E402

REGISTRY = """
parties:
  - {{id: acme, name: Acme Inc, country: US, ultimate_parent: self, credentials: ["sha256:a"]}}
  - {{id: volga, name: Volga Bank, country: RU, ultimate_parent: self, listings: [sdn]}}
  - id: neva
    name: Neva Invest
    country: CY
    owners:
      - {{party: volga, share: 50, to: {day}}}
      - {{name: B. Petridis, country: CY, share: 50, from: {day}}}
      - {{name: A. Petridis, country: CY, share: 50}}
"""
SALE = parse_instant("2026-11-01T12:00")


def span(event: int, arrival: int, basis: str) -> dict[str, Any]:
    return {
        "class": "accelerator.transfer",
        "audit.actor.id": "sha256:a",
        "export_control.end_user": "neva",
        "export_control.accelerator.model": "T4",
        "export_control.destination.country": "CY",
        "event_time": event,
        "arrival_time": arrival,
        "time_basis": basis,
    }


def test_each_event_is_judged_by_who_owned_its_party_then() -> None:
    reference = Reference.packaged(REGISTRY.format(day="2026-11-01T12:00").encode())
    rows = [
        span(SALE - 1, SALE + 1, "event"),
        span(SALE, SALE + 1, "event"),
        span(SALE - 1, SALE, "arrival"),
        span(SALE - 1, SALE, "both"),
    ]
    table = pa.table({name: pa.array([row[name] for row in rows]) for name in rows[0]})
    table = table.append_column("faults", pa.array([[] for _ in rows], pa.list_(pa.string())))
    determiner = Determiner(reference)
    found = determiner.determine(table)
    said = found.column("governing").to_pylist()
    assert said == ["prohibited", "no_license_required", "no_license_required", "prohibited"]
    both = json.loads(found.column("facts").to_pylist()[3])["both"]
    assert [one["facts"]["end_user_blocked_ownership"] for one in both] == [50, 0]
    assert "50 per cent Volga Bank (volga), on sdn" in found.column("why").to_pylist()[0]
    assert determiner.determine(table).equals(found)


def test_what_was_sealed_comes_out_again_byte_for_byte(tmp_path: Path) -> None:
    """Through the whole pipeline into a real store: an event before the sale, one after, one with a wrong clock."""
    day = 86_400 * SECOND
    sale = NOW - day
    registry = REGISTRY.format(day=washington(sale))
    events = [
        {
            "audit.event.class": "accelerator.transfer",
            "audit.record.id": f"record-{number}",
            "audit.sequence.number": number,
            "audit.actor.id": "sha256:a",
            "export_control.accelerator.model": "T4",
            "export_control.destination.country": "CY",
            "export_control.end_user": "neva",
            "_start": start,
        }
        for number, start in enumerate((NOW - 2 * day, NOW - SECOND, NOW - 90 * day))
    ]
    with running(tmp_path, artifacts=Reference.packaged_artifacts(registry.encode())) as deployment:
        deployment.append("events-0", [request(*events)], NOW)
        count = "SELECT count() AS found FROM auditspan.events WHERE facts != ''"
        until(lambda: deployment.store.query(count)["found"][0].as_py() == len(events), "all events sealed")
    store = ClickHouseStore.embedded(tmp_path / "store")
    try:
        found = store.query(
            "SELECT toString(determination) AS said FROM auditspan.events WHERE facts != '' ORDER BY record_id"
        )
        assert found["said"].to_pylist() == ["prohibited", "no_license_required", "prohibited"]
        report = recheck(store, StoredEpochs(store, tmp_path / "reference"), Interval())
        assert (report.verdict, report.events, report.documents) == ("identical", 3, 3)
    finally:
        store.close()
