"""Export from a deployment made by hand."""

from __future__ import annotations

from pathlib import Path

from auditspan.exporters.evidence.export import ExportResult, export_package
from sealed_world import DEPLOYMENT, SECOND, T0, World

from auditspan.store.clickhouse import ClickHouseStore


def export(store: ClickHouseStore, world: World, out: Path, **options: object) -> ExportResult:
    values = {"time_from": T0 + 30 * SECOND, "time_to": T0 + 100 * SECOND} | options
    return export_package(
        store,
        world.contents.get,
        world.key,
        DEPLOYMENT,
        out,
        control=world.control.log_id,
        **values,  # type: ignore[arg-type]
    )
