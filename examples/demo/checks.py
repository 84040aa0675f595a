"""What the demonstration insists on; each returns a sentence for the screen, or fails."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from .processes import PROGRAMS, DemoFailed, run

AUDITSPAN = str(PROGRAMS / "auditspan")


def sealed_events(data: Path, event_class: str) -> list[dict[str, Any]]:
    """All sealed events of a class, through the running service."""
    command = [AUDITSPAN, "events", "--data", str(data), "--class", event_class, "--limit", "100000", "--json"]
    events: list[dict[str, Any]] = json.loads(run(command))
    return events


def accesses_by_trace(events: Iterable[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """Outcomes of the records of each trace."""
    traces: dict[str, Counter[str]] = {}
    for event in events:
        traces.setdefault(event["trace_id"], Counter())[event["outcome"]] += 1
    return traces


def every_answer_has_its_record(seen: Iterable[str], events: Iterable[Mapping[str, Any]]) -> str:
    """Each request of which the client saw any byte has its record, once.

    An answer in one piece has one record. A streamed one has a start, and an outcome unless the process was killed
    between.
    """
    traces = accesses_by_trace(events)
    missing = [trace for trace in seen if trace not in traces]
    doubled = [
        trace
        for trace, outcomes in traces.items()
        if outcomes["started"] > 1 or sum(outcomes.values()) - outcomes["started"] > 1
    ]
    if missing or doubled:
        raise DemoFailed(f"{len(missing)} answered requests have no record, {len(doubled)} have one twice")
    dangling = sum(1 for outcomes in traces.values() if set(outcomes) == {"started"})
    return (
        f"{len(set(seen))} requests gave the client a byte, each has its record, once; "
        f"{dangling} streams were cut by the kill and stand as started"
    )


def controlled_credentials(registry: Path) -> set[str]:
    """Fingerprints of the parties that are of China, or whose ultimate parent is."""
    parties = yaml.safe_load(registry.read_text())["parties"]
    return {
        credential
        for party in parties
        if "CN" in (party["country"], _country_of_parent(party))
        for credential in party.get("credentials", ())
    }


def _country_of_parent(party: Mapping[str, Any]) -> str | None:
    parent = party.get("ultimate_parent")
    return str(parent["country"]) if isinstance(parent, dict) else None


def the_right_ones_are_flagged(accesses: Iterable[Mapping[str, Any]], controlled: set[str]) -> None:
    """Every access by a controlled party is flagged, and no other."""
    wrong = [event["record_id"] for event in accesses if event["flagged"] != (event["actor_id"] in controlled)]
    expect(not wrong, f"{len(wrong)} accesses are flagged that should not be, or the other way round")
    flagged = {event["actor_id"] for event in accesses if event["flagged"]}
    expect(flagged == controlled, f"{len(controlled)} parties should be flagged, not {len(flagged)}")


def done_once(events: Iterable[Mapping[str, Any]], what: str) -> None:
    """The script did this once: one intent, one outcome, nothing for a part; and it went where it is flagged."""
    outcomes = Counter(event["outcome"] for event in events)
    expect(
        outcomes == {"started": 1, "success": 1}, f"{what} has the records {dict(outcomes)}, not a start and a success"
    )
    expect(all(event["flagged"] for event in events), f"{what} to Hong Kong should be flagged")


def classified(events: Iterable[Mapping[str, Any]]) -> None:
    """The machines were told to hold H200, with its computed TPP and paragraph."""
    for event in events:
        expect(
            "H200 SXM (TPP 15832, 3A090.a)" in event["why"],
            f"the provisioning should be classified by its TPP: {event['why']}",
        )


def expect(condition: bool, what: str) -> None:
    """Fail with ``what`` unless the condition holds."""
    if not condition:
        raise DemoFailed(what)


def found(report: Mapping[str, Any], code: str) -> str:
    """The report of an attacked package is INVALID, and names what was done by its code."""
    expect(report["verdict"] == "INVALID", f"the attacked package should be invalid, and is {report['verdict']}")
    faults = [fault for fault in report["faults"] if fault["code"] == code]
    expect(bool(faults), f"the attack should be found as {code}, and not only as {sorted(report['fault_counts'])}")
    leaf = faults[0]["leaf"]
    return f"found: {code}" + (f" at leaf {leaf['leaf_index']} of log {leaf['log_id']}" if leaf else "")
