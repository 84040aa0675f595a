"""``auditspan status``: where every log stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from auditspan.cli.control_socket import ask
from auditspan.cli.output import JsonOption, console, print_json, print_table, reports_errors
from auditspan.cli.reading import DataOption, UrlOption, open_reader, service_is_ready, service_runs
from auditspan.data_directory import DataDirectory

__all__ = ["status"]

_SEALED = """
SELECT log_id, max(leaf_index) + 1 AS leaves, countIf(flagged) AS flagged,
       countIf(class = 'audit.quarantined') AS quarantined, countIf(class = 'audit.conflict') AS conflicts,
       countIf(class = 'audit.gap') AS gaps, max(arrival_time) AS newest
FROM auditspan.events GROUP BY log_id ORDER BY log_id
"""


@reports_errors
def status(data: DataOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Show where every log stands: journal end, sealed to, lag, last checkpoint, and what was sealed.

    \b
    auditspan status --data ./data
    auditspan status --data ./data --json
    """
    with open_reader(data, url) as store:
        sealed = {row["log_id"]: row for row in store.query(_SEALED).to_pylist()}
    document: dict[str, Any] = {"running": False, "ready": False, "logs": list(sealed.values())}
    if data is not None and service_runs(DataDirectory(data)):
        answer = ask(DataDirectory(data).control_socket, "GET", "/status")
        document = {
            "running": True,
            "ready": service_is_ready(DataDirectory(data)),
            "healthy": answer["healthy"],
            "reason": answer["reason"],
            "endpoints": DataDirectory(data).read_endpoints(),
            "logs": [{**log, **sealed.get(log["log_id"], {})} for log in answer["logs"]],
        }
    if as_json:
        print_json(document)
        return
    if document["running"]:
        state = "ready" if document["ready"] else f"not ready ({document['reason'] or 'see /readyz'})"
        console.print(f"The service runs and is {state}.", highlight=False)
    else:
        console.print("No service runs here; this is what is sealed.", highlight=False)
    rows = [
        {
            "log": log.get("partition") or log["log_id"],
            "journal end": log.get("journal_end"),
            "sealed to": log.get("sealed_to"),
            "lag": f"{log['lag_entries']} / {log['lag_seconds']:.1f} s" if "lag_entries" in log else None,
            "leaves": log["leaves"],
            "checkpoint": _checkpoint(log),
            "flagged": log.get("flagged"),
            "quarantined": log.get("quarantined"),
            "conflicts": log.get("conflicts"),
            "gaps": log.get("gaps"),
        }
        for log in document["logs"]
    ]
    columns = [
        "log",
        "journal end",
        "sealed to",
        "lag",
        "leaves",
        "checkpoint",
        "flagged",
        "quarantined",
        "conflicts",
        "gaps",
    ]
    print_table("Logs", columns, rows)


def _checkpoint(log: dict[str, Any]) -> str | None:
    signed_at = log.get("checkpoint_signed_at")
    if signed_at is None:
        return None
    return f"{log['checkpoint_size']} at {datetime.fromtimestamp(signed_at / 1e9, UTC):%H:%M:%S}"
