"""``SUMMARY.html``: what a package holds, on one page."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from .bounded import Groups, Timeline
from .citations import Citations
from .html import page, utc
from .summary import Summary

__all__ = ["summary_page"]

_MOST_GROUPS: Final = 50
_MOST_EMITTERS: Final = 100
_MOST_STREAMS: Final = 100
_MOST_GAPS: Final = 50
_MOST_FLAGGED: Final = 200
_MOST_SILENCES: Final = 5
_WIDTH: Final = 960
_HEIGHT: Final = 120
_MOST_BARS: Final = 400

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Bar:
    x: float
    y: float
    width: float
    height: float
    says: str


def summary_page(
    summary: Summary, predicate: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]], citations: Citations
) -> str:
    """The page of a package.

    Args:
        summary: what was gathered from the rows of its files.
        predicate: of its manifest.
        epochs: bodies of the reference epochs that its leaves name, by number.
        citations: what their packs say of rules.
    """
    # All are gathered, so that the numbers of the page are those of the whole; what is long is cut where it is shown.
    return page(
        "summary.html",
        {
            "predicate": predicate,
            "summary": summary,
            "timeline": _timeline(summary.timeline),
            "emitters": _emitters(summary),
            "streams": _streams(summary),
            "gaps": summary.gaps[:_MOST_GAPS],
            "gaps_not_shown": summary.counts["gaps"] - len(summary.gaps[:_MOST_GAPS]),
            "tables": {
                "Class": _table(summary.classes),
                "Destination": _table(summary.destinations),
                "Determination": _table(summary.determinations),
                "Licence that the event names": _table(summary.licenses),
                "What was wrong with events as they were sent": _table(summary.fault_codes),
                "Leaves that the logs themselves wrote": _table(summary.own_classes),
            },
            "quarantined": _table(summary.quarantined),
            "allocations": _table(summary.allocations),
            "later_findings": _table(summary.later_findings),
            "control_classes": _table(summary.control_classes),
            "reviews": _table(summary.reviews),
            "open_reviews": summary.reviews.total,
            "flagged": [_flagged(row, citations) for row in summary.flagged[:_MOST_FLAGGED]],
            "flagged_not_shown": summary.counts["flagged"] - len(summary.flagged[:_MOST_FLAGGED]),
            "epochs": epochs,
        },
    )


def _table(groups: Groups[Key]) -> dict[str, Any]:
    """The largest groups, and the rest in one row."""
    rows, rest = groups.largest(_MOST_GROUPS)
    return {"rows": rows, "rest": rest, "total": groups.total}


def _emitters(summary: Summary) -> dict[str, Any]:
    """Emitters with the times in which they were silent; those that are silent at the end come first."""
    end = summary.timeline.last or 0
    rows = []
    streams: dict[str, int] = {}
    for emitter, _ in summary.streams:
        streams[emitter] = streams.get(emitter, 0) + 1
    for emitter, count in summary.emitters.of.items():
        silent = sorted(summary.timeline.silent(emitter), key=lambda one: one[0] - one[1])
        rows.append(
            {
                "emitter": emitter,
                "count": count,
                "streams": streams.get(emitter, 0),
                "silent": sorted(silent[:_MOST_SILENCES]),
                "more": max(0, len(silent) - _MOST_SILENCES),
                "at_the_end": any(until >= end for _, until in silent),
            }
        )
    rows.sort(key=lambda row: (not row["at_the_end"], row["emitter"]))
    return {
        "rows": rows[:_MOST_EMITTERS],
        "not_shown": max(0, len(rows) - _MOST_EMITTERS),
        "others": summary.emitters.others,
    }


def _streams(summary: Summary) -> dict[str, Any]:
    """Streams that were not closed come first, those that were silent longest before the others."""
    rows = sorted(summary.streams.items(), key=lambda one: (one[1].closed, one[1].arrived[1], one[0]))
    unclosed = sum(not stream.closed for stream in summary.streams.values())
    return {
        "rows": rows[:_MOST_STREAMS],
        "not_shown": max(0, len(rows) - _MOST_STREAMS),
        "unclosed": unclosed,
        "leaves_of_others": summary.counts["leaves_of_other_streams"],
    }


def _flagged(row: Mapping[str, Any], citations: Citations) -> dict[str, Any]:
    """A flagged event with the rules that govern it, and what these cite."""
    rules = [(rule, citations.of(row["reference_epoch"], rule)) for rule in row["rule_ids"] or ()]
    return {
        **row,
        "rules": [
            {"id": rule, "title": quoted.title if quoted else "", "citations": quoted.citations if quoted else ()}
            for rule, quoted in rules
        ],
    }


def _timeline(timeline: Timeline) -> dict[str, Any]:
    """Bars for all events and, on a scale of their own, for flagged ones."""
    if timeline.first is None or timeline.last is None or not timeline.spans:
        return {"bars": (), "flagged": (), "hours": timeline.hours}
    low, high = min(timeline.spans), max(timeline.spans)
    # Wide spans far apart: one bar may stand for several, and then says so.
    together = -(-(high - low + 1) // _MOST_BARS)
    totals: dict[int, tuple[int, int]] = {}
    for span, (events, flagged) in timeline.spans.items():
        place = (span - low) // together
        known = totals.get(place, (0, 0))
        totals[place] = known[0] + events, known[1] + flagged
    places = -(-(high - low + 1) // together)
    return {
        "bars": _bars(timeline, {place: one[0] for place, one in totals.items()}, places, low, together),
        "flagged": _bars(timeline, {place: one[1] for place, one in totals.items()}, places, low, together),
        "most": max(events for events, _ in totals.values()),
        "most_flagged": max(flagged for _, flagged in totals.values()),
        "hours": timeline.hours * together,
        "begins": timeline.begins(low),
        "ends": timeline.begins(low + places * together),
        "width": _WIDTH,
        "height": _HEIGHT,
    }


def _bars(timeline: Timeline, counts: Mapping[int, int], places: int, low: int, together: int) -> list[_Bar]:
    most = max(counts.values(), default=0)
    each = _WIDTH / places
    bars = []
    for place, count in sorted(counts.items()):
        if count:
            # What is there is seen, however little beside the rest.
            height = max(1.5, _HEIGHT * count / most)
            says = f"{utc(timeline.begins(low + place * together))}: {count:,}"
            bars.append(
                _Bar(
                    round(place * each, 2),
                    round(_HEIGHT - height, 2),
                    round(max(each * 0.9, 0.5), 2),
                    round(height, 2),
                    says,
                )
            )
    return bars
