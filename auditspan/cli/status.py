"""``auditspan status``: where every log stands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from auditspan.cli.anchor_findings import anchors_of, anchors_shown
from auditspan.cli.config import settings_of
from auditspan.cli.disk_use import disk_use
from auditspan.cli.moments import rfc3339
from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors
from auditspan.cli.progress import progress_of
from auditspan.cli.reading import DataOption, UrlOption, open_reader, service_is_ready
from auditspan.config import EMBEDDED
from auditspan.data_directory import DataDirectory

if TYPE_CHECKING:
    from auditspan.store.contract import Store

__all__ = ["status"]

_SEALED: Final = """
SELECT log_id, max(leaf_index) + 1 AS leaves, countIf(flagged) AS flagged,
       countIf(class = 'audit.quarantined') AS quarantined, countIf(class = 'audit.conflict') AS conflicts,
       countIf(class = 'audit.gap') AS gaps, toUnixTimestamp64Nano(max(arrival_time)) AS newest
FROM auditspan.events GROUP BY log_id ORDER BY log_id
"""
_OPENED: Final = """
SELECT log_id, header FROM auditspan.events
WHERE leaf_index = 0 AND class = 'audit.log.opened' AND payload = '' ORDER BY log_id
"""
_HAS_CASES: Final = "SELECT name FROM system.tables WHERE database = 'auditspan' AND name = 'cases'"
_HAS_FINDINGS: Final = _HAS_CASES.replace("'cases'", "'findings'")
_FINDINGS: Final = "SELECT count() AS findings FROM auditspan.findings"
_CASES: Final = """
SELECT count() AS cases, countIf(first_seen >= now64(9, 'UTC') - INTERVAL 1 DAY) AS of_the_last_day FROM auditspan.cases
"""
_FAULTS: Final = ("quarantined", "conflicts", "gaps", "lost_entries")
_STREAM_COLUMNS: Final = [
    "emitter", "stream", "leaves", "first_sequence", "last_sequence", "suppressed_duplicates", "duplicate_suspects",
    "conflicts",
]  # fmt: skip
_STREAMS: Final = """
SELECT emitter, stream, leaves, first_sequence, last_sequence, suppressed_duplicates, duplicate_suspects, conflicts,
       quarantined, toUnixTimestamp64Nano(last_arrival) AS newest
FROM auditspan.streams ORDER BY suppressed_duplicates DESC, leaves DESC LIMIT 1000
"""


@reports_errors
def status(
    data: DataOption = None,
    url: UrlOption = None,
    streams: Annotated[
        bool, typer.Option("--streams", help="Show the streams as well: sequences, duplicates, conflicts.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show where every log stands: journal end, what waits, what is sealed and signed, who owns it, and what was odd.

    It asks the service that runs on DIR. Where many processes share the work, or none runs, it looks at the journal and
    the store that the settings of DIR name.

    \b
    auditspan status --data ./data
    auditspan status --data ./data --streams
    AUDITSPAN_READ_TOKEN=… auditspan status --url http://audit.example.org:8123 --json
    """
    settings = settings_of(data, None)
    shared = data is not None and settings.store.url != EMBEDDED
    with open_reader(data, url) as reading:
        sealed = list(_sealed(reading.store))
        running = reading.running
        document: dict[str, Any] = {"running": running, "logs": sealed}
        if reading.store.query(_HAS_CASES).num_rows:
            document["cases"] = reading.store.query(_CASES).to_pylist()[0]
        if reading.store.query(_HAS_FINDINGS).num_rows:
            document |= reading.store.query(_FINDINGS).to_pylist()[0]
        control = [log["log_id"] for log in sealed if log["partition"] == "control"]
        document["anchors"] = anchors_of(reading.store, control[0]) if control else []
        if streams:
            document["streams"] = reading.store.query(_STREAMS).to_pylist()
        if data is not None and (shared or not running):
            progress = progress_of(DataDirectory(data), settings, reading.store, sealed)
            document["logs"] = [{**log, **progress.get(log["log_id"], {})} for log in sealed]
    if data is not None:
        document["ready"] = running and service_is_ready(DataDirectory(data))
        document["disk"] = disk_use(DataDirectory(data))
        if running and not shared:
            document |= _of_service(DataDirectory(data), {log["log_id"]: log for log in sealed})
    if as_json:
        print_json(document)
        return
    if shared:
        owners = sorted({log["owner"] for log in document["logs"] if log.get("owner")})
        said = f"Processors: {', '.join(owners)}." if owners else "No processor is a member of the group now."
        console.print(f"{said} Journal {settings.journal.url}, store {settings.store.url}.", soft_wrap=True)
    elif not running:
        console.print("No service runs here; this is what is sealed.")
    elif data is None:
        console.print(f"A service answers at {reading.where}; this is what is sealed.")
    else:
        fault = document["reason"] or "see /readyz"
        console.print(f"The service runs and is {'ready' if document['ready'] else f'not ready ({fault})'}.")
    if data is not None and not shared:
        disk = {name: _size(size) for name, size in document["disk"].items()}
        console.print(f"Journal {disk['journal']}, store {disk['store']}, free on disk {disk['free']}.")
    columns = ["log", "entries", "waiting", "leaves", "signed", "flagged", "faults"]
    columns += ["owner"] if shared else []
    print_table("Logs", columns, [_row(log) for log in document["logs"]], lines=False)
    if document["anchors"]:
        console.print(plain(anchors_shown(document["anchors"])), soft_wrap=True)
    elif settings.anchors.witnesses or settings.anchors.timestamp_authorities:
        console.print("Nobody has vouched for the control log yet.")
    if document.get("cases", {}).get("cases"):
        console.print("Cases: {cases:,}, new in the last day: {of_the_last_day:,}.".format(**document["cases"]))
    if document.get("findings"):
        console.print(f"Export requests: {document['findings']:,} findings, see `auditspan requests list --flagged`.")
    if streams:
        print_table("Streams", _STREAM_COLUMNS, document["streams"], lines=False)


def _sealed(store: Store) -> Iterator[dict[str, Any]]:
    partitions = {
        row["log_id"]: json.loads(row["header"])["body"]["partition"] for row in store.query(_OPENED).to_pylist()
    }
    for row in store.query(_SEALED).to_pylist():
        last = store.last_checkpoint(row["log_id"])
        yield {
            **row,
            "newest": rfc3339(row["newest"]),
            "partition": partitions.get(row["log_id"]),
            "checkpoint_size": last.size if last is not None else 0,
            "checkpoint_signed_at": last.signed_at if last is not None else None,
        }


def _of_service(directory: DataDirectory, sealed: dict[str, dict[str, Any]]) -> dict[str, Any]:
    from auditspan.cli.control_socket import ask

    answer = ask(directory.control_socket, "GET", "/status")
    return {
        "healthy": answer["healthy"],
        "reason": answer["reason"],
        "endpoints": directory.read_endpoints(),
        # What the service says is newer than what was read from the store.
        "logs": [{**sealed.get(log["log_id"], {}), **log} for log in answer["logs"]],
    }


def _row(log: dict[str, Any]) -> dict[str, Any]:
    waiting = None
    if "lag_entries" in log:
        waiting = f"{log['lag_entries']:,} for {log['lag_seconds']:.1f} s" if log["lag_entries"] else "none"
    faults = [f"{log[name]:,} {name.replace('_', ' ')}" for name in _FAULTS if log.get(name)]
    return {
        "log": log.get("partition") or log["log_id"],
        "entries": f"{log['journal_end']:,}" if "journal_end" in log else None,
        "waiting": waiting,
        "leaves": f"{log['leaves']:,}",
        "signed": _signed(log),
        "flagged": f"{log.get('flagged', 0):,}",
        "faults": ", ".join(faults) or "none",
        "owner": log.get("owner") or "nobody",
    }


def _signed(log: dict[str, Any]) -> str:
    if log["checkpoint_signed_at"] is None:
        return "nothing"
    size, leaves = log["checkpoint_size"], log["leaves"]
    age = max(time.time() - log["checkpoint_signed_at"] / 1e9, 0.0)
    return f"{'all' if size >= leaves else f'{size:,}'}, {_duration(age)} ago"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
