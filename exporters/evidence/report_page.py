"""The report of a verification as one page: what the JSON report says, for a person."""

from __future__ import annotations

import json
from typing import Any, Final

from .html import page
from .report import Report

__all__ = ["report_page"]

_PLACED: Final = frozenset(
    {
        "verdict", "exit_code", "verifier", "package", "package_digest", "deployment", "exported_at", "query", "keys",
        "trusted_keys", "leaves_expected", "request", "recovery", "checkpoints", "consistency", "logs", "counts",
        "classes", "streams", "gaps", "duplicates", "unclosed_streams", "dangling_intents", "notes", "not_proven",
        "faults", "fault_counts", "faults_total", "largest_clock_skew_seconds",
    }
)  # fmt: skip
"""What the template has a place for; anything else that a report says is shown as it is."""


def report_page(report: Report) -> str:
    """The whole report, every entry of its lists."""
    said = report.to_dict()
    others = {
        name: json.dumps(value, indent=2, ensure_ascii=False)
        for name, value in said.items()
        if name not in _PLACED and value not in (None, [], {})
    }
    return page("report.html", {"report": said, "results": _results(said), "others": others})


def _results(said: dict[str, Any]) -> list[dict[str, Any]]:
    """By log, what its checkpoint and the proofs over it gave."""
    signed = {one["log_id"]: one for one in said["checkpoints"]}
    grown = {one["log_id"]: one for one in said["consistency"]}
    return [
        {**log, "checkpoint": signed.get(log["log_id"]), "consistency": grown.get(log["log_id"])}
        for log in said["logs"]
    ]
