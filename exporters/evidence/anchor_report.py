"""What a report says of anchors: up to which leaf each log existed, when, by whose word, and what is left open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from auditspan.ledger.trust import Trust

from .report import Report, shown
from .statement import LogEvidence, Manifest
from .verify_anchors import Anchored

__all__ = ["anchor_lines", "anchors_not_proven", "moment", "report_anchors"]

_MOST_NAMED: Final = 20
_SECOND: Final = 1_000_000_000

Covered = Callable[[str, int], int | None]
"""How many leaves of a log so many leaves of the control log cover; None: nothing that the package shows."""


def report_anchors(report: Report, manifest: Manifest, anchored: Anchored, covered: Covered, trust: Trust) -> None:
    """Put into a report what anchors prove of each log."""
    report.anchors = {
        "demanded": {
            "witnesses": trust.policy.witnesses,
            "timestamp_authorities": trust.policy.timestamp_authorities,
        },
        "trusted": {
            "witnesses": [witness.name for witness in trust.witnesses],
            "timestamp_authorities": [authority.name for authority in trust.timestamp_authorities],
        },
        "vouchers": [
            {"kind": one.kind, "name": one.name, "control_leaves": one.size, "time": moment(one.time)}
            for one in sorted(anchored.vouchers, key=lambda one: (one.size, one.time, one.kind, one.name))
        ],
        "not_trusted": anchored.strangers,
        "logs": [_of_log(log, anchored, covered) for log in (*manifest.logs, manifest.control)],
    }


def _of_log(log: LogEvidence, anchored: Anchored, covered: Covered) -> dict[str, Any]:
    """The earliest time by which all of the interval that is covered existed, and the largest stretch without."""
    points = []
    for size in anchored.sizes():
        at = anchored.at(size)
        if at is not None:
            reached = covered(log.log_id, size)
            points.append((min(max(reached or 0, log.begin), log.end), *at))
    upto = max((reached for reached, *_ in points), default=log.begin)
    first = next(((time, names) for reached, time, names in points if reached == upto and upto > log.begin), None)
    return {
        "log_id": log.log_id,
        "partition": shown(log.partition),
        "interval": [log.begin, log.end],
        "anchored_to": upto,
        "existed_at": None if first is None else moment(first[0]),
        "by": [] if first is None else first[1],
        "open": None if upto >= log.end else [upto, log.end],
        "largest_stretch": _largest_stretch([(reached, time) for reached, time, _ in points]),
    }


def _largest_stretch(points: list[tuple[int, int]]) -> dict[str, Any] | None:
    """Of neighbouring anchors with leaves between them, those farthest apart in time."""
    best: dict[str, Any] | None = None
    for (before, since), (after, until) in pairwise(points):
        seconds = (until - since) / _SECOND
        if after > before and (best is None or seconds > best["seconds"]):
            best = {"leaves": [before, after], "from": moment(since), "to": moment(until), "seconds": seconds}
    return best


def anchors_not_proven(report: Report, trust: Trust) -> list[str]:
    """The sentences on time and on second histories, exactly as far as anchors leave them open."""
    logs: list[Mapping[str, Any]] = report.anchors.get("logs", [])
    vouched = sorted({name for log in logs for name in log["by"]})
    said = [_times(vouched), _histories([name for name in vouched if name.startswith("witness ")])]
    if not trust.policy.demands:
        said.append(
            f"That anybody outside of the operator saw these logs: trust.json demands 0 of its {len(trust.witnesses)} "
            f"witnesses and 0 of its {len(trust.timestamp_authorities)} timestamp authorities."
        )
    if vouched:
        left = [log for log in logs if log["open"] is not None]
        said += [_open(log) for log in left[:_MOST_NAMED]]
        if len(left) > _MOST_NAMED:
            said.append(f"The same of {len(left) - _MOST_NAMED} more logs, which the report lists under anchors.")
    return said


def anchor_lines(report: Report) -> list[str]:
    """The anchors of a report, for a person."""
    if not report.anchors:
        return []
    demanded, trusted = report.anchors["demanded"], report.anchors["trusted"]
    lines = [
        f"Anchors: {demanded['witnesses']} of {len(trusted['witnesses'])} witnesses and "
        f"{demanded['timestamp_authorities']} of {len(trusted['timestamp_authorities'])} timestamp authorities demanded"
    ]
    if report.anchors["not_trusted"]:
        lines.append(
            f"  {report.anchors['not_trusted']:,} tokens and cosignatures of others, who are not in trust.json"
        )
    vouched = [log for log in report.anchors["logs"] if log["existed_at"] is not None]
    for log in vouched[:_MOST_NAMED]:
        stretch = log["largest_stretch"]
        apart = "" if stretch is None else f"; neighbouring anchors at most {stretch['seconds']:,.0f} s apart"
        lines.append(
            f"  {log['partition']}: leaves up to {log['anchored_to']:,} existed at {log['existed_at']} by "
            f"{', '.join(log['by'])}{apart}"
        )
    if len(vouched) > _MOST_NAMED:
        lines.append(f"  … and {len(vouched) - _MOST_NAMED:,} more logs; --json lists them")
    return lines


def _times(vouched: list[str]) -> str:
    if not vouched:
        return (
            "That the times are right: arrival times are the collector's clock, and no timestamp authority or witness "
            "that trust.json names vouches for any leaf here."
        )
    return (
        "That the times are right: arrival times are the collector's clock. Others say only that leaves existed by the "
        f"times under Anchors ({', '.join(vouched)}), not since when."
    )


def _histories(witnesses: list[str]) -> str:
    text = "That the signing key was in the right hands, and that no second history was signed with it for someone else"
    if not witnesses:
        return f"{text}."
    return f"{text}: as far as leaves are anchored, {', '.join(witnesses)} would have had to cosign that one as well."


def _open(log: Mapping[str, Any]) -> str:
    begin, end = log["open"]
    return (
        f"When leaves [{begin}, {end}) of {log['partition']} ({log['log_id']}) existed: no anchor in the package "
        "covers them."
    )


def moment(nanoseconds: int) -> str:
    """A time for a person; beyond the calendar it stays a number."""
    try:
        at = datetime.fromtimestamp(nanoseconds // _SECOND, UTC)
    except (ValueError, OverflowError):
        return str(nanoseconds)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
