"""What a report says of gaps: which records are missing still, and which came after all."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from auditspan.exporters.evidence.headers import parse_headers
from auditspan.exporters.evidence.leaf_files import READ_EVENTS
from auditspan.exporters.evidence.observations import Observations
from auditspan.exporters.evidence.rendering import render
from auditspan.exporters.evidence.report import Report
from auditspan.exporters.evidence.windows import Window
from rich.console import Console

from auditspan.ledger.header import log_leaf

LOG = "0" * 31 + "1"
LATER = "0" * 31 + "2"


def gap(stream: str, begin: object, end: object, event_class: str = "audit.gap") -> bytes:
    body = {"emitter": "gateway", "stream": stream, "from": begin, "to": end}
    if event_class == "audit.gap":
        body["seen_at"] = "1"
    return log_leaf(LOG, event_class, None, 1, 1, body)


def closed(stream: str, begin: object, end: object) -> bytes:
    return gap(stream, begin, end, "audit.gap.closed")


def report_of(*leaves: bytes, later: tuple[bytes, ...] = ()) -> Report:
    """Of a log with these leaves, and of one that goes on with ``later``."""
    seen, report = Observations(), Report("a verifier", "a package")
    for log_id, of in ((LOG, leaves), (LATER, later)):
        headers = pa.array(of, pa.binary())
        index = np.arange(len(of), dtype=np.int64)
        events = pa.RecordBatch.from_pylist([], schema=READ_EVENTS)
        seen.window(log_id, Window(index, headers, np.ones(len(of), bool), events), parse_headers(headers))
    seen.write(report)
    return report


def test_a_gap_says_how_much_of_it_came_late() -> None:
    report = report_of(
        gap("a", 1, 5), gap("b", 1, 5), gap("c", 0, 9), closed("a", 1, 5), closed("c", 0, 2), closed("c", 4, 5)
    )
    assert [(entry["stream"], entry["came_late"]) for entry in report.gaps] == [("a", 4), ("b", 0), ("c", 3)]
    assert (report.counts["gaps"], report.counts["gaps_closed"]) == (3, 3)
    text = io.StringIO()
    render(report, Console(file=text, width=200))
    assert "3 gaps, 3 gaps closed" in text.getvalue() and "came_late 4" in text.getvalue()


def test_what_came_in_the_log_of_the_next_generation_came() -> None:
    report = report_of(
        gap("a", 1, 5), gap("a", 7, 9), closed("a", 2, 3), later=(closed("a", 3, 5), closed("a", 2, 4), gap("a", 9, 10))
    )
    assert [(entry["from"], entry["came_late"]) for entry in report.gaps] == [("1", 3), ("7", 0), ("9", 0)]


@pytest.mark.parametrize("number", ["x", None, -1, 2**53 - 1, "٣", True])
def test_a_hostile_gap_stops_no_report(number: object) -> None:
    report = report_of(gap("a", 1, number), closed("a", number, 5), gap("a", 1, 5))
    assert report.counts["gaps"] == 2 and report.gaps[1]["came_late"] in {0, 4}
