"""A verification report for a person at a terminal."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .anchor_report import anchor_lines
from .report import Fault, Report

__all__ = ["render"]

_COLOURS = {"VALID": "bold green", "INVALID": "bold red", "INCOMPLETE": "bold yellow"}
_MOST_SHOWN = 20


def render(report: Report, console: Console) -> None:
    """Print a report. What comes from the package is printed as plain text, never as markup."""
    console.print(Text(report.verdict, _COLOURS[report.verdict]), Text(report.package))
    console.print(_facts(report))
    if report.logs:
        console.print(_logs(report))
        for line in _checkpoints(report):
            console.print(Text(line))
    if report.faults:
        console.print(_faults(report.faults))
        for code, count in report.fault_counts.items():
            console.print(Text(f"  {code}: {count:,}"))
    for title, entries in (
        ("Streams", [asdict(stream) for stream in report.streams]),
        ("Gaps", report.gaps),
        ("Repetitions", report.duplicates),
        ("Streams that were not closed in the interval", report.unclosed_streams),
        ("Started, outcome unknown", report.dangling_intents),
    ):
        if entries:
            console.print(Text(f"{title}: {len(entries):,}", "bold"))
            for entry in entries[:_MOST_SHOWN]:
                console.print(Text("  " + ", ".join(f"{name} {value}" for name, value in entry.items())))
            if len(entries) > _MOST_SHOWN:
                console.print(Text(f"  … and {len(entries) - _MOST_SHOWN:,} more; --json lists them"))
    if report.recovery is not None:
        console.print(_recovery(report.recovery))
    for line in anchor_lines(report):
        console.print(Text(line))
    for note in report.notes:
        console.print(Text(note))
    console.print(Text("Not proven", "bold"))
    for sentence in report.not_proven:
        console.print(Text(f"  · {sentence}"))


def _facts(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    counts = report.counts
    shown = {
        "deployment": report.deployment or "unknown",
        "arrival times": f"{_time(report.query.get('from'))} up to {_time(report.query.get('to'))}",
        "query": report.query.get("where") or "none, everything is selected",
        "leaves": ", ".join(
            f"{counts.get(name, 0):,} {name.replace('_', ' ')}"
            for name in ("leaves", "proven", "selected", "withheld", "flagged", "payload_matched")
        ),
        "seen": ", ".join(
            f"{counts.get(name, 0):,} {name.replace('_', ' ')}"
            for name in (
                "gaps",
                "gaps_closed",
                "journal_entries_lost",
                "conflicts",
                "quarantined",
                "duplicates_suppressed",
                "streams",
            )
        ),
        "determinations": ", ".join(
            f"{report.determinations.get(name, 0):,} {name.replace('_', ' ')}"
            for name in ("made_again", "differing", "not_confirmed")
        ),
        "expected": "unknown" if report.leaves_expected is None else f"{report.leaves_expected:,} leaves",
        "clock skew": f"{report.largest_clock_skew_seconds or 0:,.3f} s at most that an event lies after its arrival",
        "signed by": ", ".join(report.keys) or "no trusted key",
        "trusted": ", ".join(report.trusted_keys) or "no key",
        "manifest": report.package_digest or "none",
        **({"request": "{id}: {by} ({basis})".format(**report.request)} if report.request else {}),
        "verifier": report.verifier,
    }
    for name, value in shown.items():
        table.add_row(Text(name, "dim"), Text(value))
    return table


def _logs(report: Report) -> Table:
    table = Table("log", "partition", "leaves", "interval", "proven", "withheld")
    table.columns[0].no_wrap, table.columns[0].min_width = True, 32
    for log in report.logs:
        begin, end = log["interval"]
        table.add_row(
            Text(log["log_id"]),
            Text(log["partition"]),
            f"{log['leaves']:,}",
            f"{begin:,} – {end:,}",
            "yes" if log["leaves"] and log["proven"] == log["leaves"] else "no",
            f"{log['withheld']:,}",
        )
    return table


def _recovery(said: dict[str, Any]) -> Table:
    """What is left of the deployment for which this one goes on."""
    title = f"Goes on for {said['predecessor']}, recovered by {said['by']} at {_time(said['at'])}: {said['reason']}"
    table = Table("log", "partition", "left", "signed", "carried over", title=Text(title), title_justify="left")
    table.columns[0].no_wrap, table.columns[0].min_width = True, 32
    for log in said["logs"]:
        signed = "none known" if log["signed"] is None else f"{log['signed']['size']:,}"
        left, carried = f"{log['stored']['size']:,}", f"{log['carried']:,}"
        table.add_row(Text(log["log_id"]), Text(log["partition"]), left, signed, carried)
    return table


def _checkpoints(report: Report) -> list[str]:
    """What the checkpoint of each log gave, and whether the log only grew since an earlier package."""
    grown = {one["log_id"]: one for one in report.consistency}
    lines = []
    for log in report.logs:
        signed = next((one for one in report.checkpoints if one["log_id"] == log["log_id"]), None)
        if signed is None:
            lines.append(f"{log['log_id']}: no valid checkpoint")
            continue
        since = grown[log["log_id"]]
        before = "" if since["from"] is None else f" since {since['from']:,} leaves"
        lines.append(
            f"{log['log_id']}: checkpoint of {signed['size']:,} leaves valid, root {signed['root']}; "
            f"earlier package: {since['result']}{before}"
        )
    return lines


def _faults(faults: list[Fault]) -> Table:
    table = Table("code", "leaf", "expected", "actual", title="Faults", title_justify="left")
    for fault in faults[:_MOST_SHOWN]:
        leaf = "" if fault.leaf is None else f"{fault.leaf[1]:,} of {fault.leaf[0]}"
        table.add_row(*(Text(value) for value in (fault.code, leaf, fault.expected, fault.actual)))
    return table


def _time(nanoseconds: str | None) -> str:
    try:
        return datetime.fromtimestamp(int(nanoseconds or 0) // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return "the end of time"
