"""The figures of the alert budget as a reader sees them."""

from __future__ import annotations

from typing import Any

from benchmarks.report import aligned, write

__all__ = ["page", "write_page"]

_MARK = "figures of the alert budget"


def page(found: dict[str, Any], when: str) -> list[str]:
    """What `benchmarks.alert_budget` found, under the profile that it was found on."""
    days = len(found["new_cases_a_day"])
    rows = [
        ["unflagged reviews", _number(found["unflagged_reviews"] / days), ""],
        *(
            [name, _number(sum(found[key]) / days), f"{max(found[key]):,}"]
            for name, key in (
                ("new pairs of actor and missing fact", "new_pairs_a_day"),
                ("**new cases**", "new_cases_a_day"),
            )
        ),
    ]
    sample = found["sample"]
    same = "the same cases and flags" if sample["same"] else "OTHER CASES OR FLAGS"
    return [
        when,
        "",
        *(f"- {line}" for line in found["profile"]),
        "",
        *aligned(["a day", "mean", "worst"], rows),
        "",
        f"Flagged events: {found['flagged_before']:,} as determined, {found['flagged_after']:,} shown, "
        f"{found['flagged_in_cases']:,} in a case. Unflagged reviews: {found['unflagged_reviews']:,}, and "
        f"{found['in_cases']:,} are in cases. All cases are read in {found['page_seconds']:.1f} s. "
        f"Of {sample['calls']:,} calls that went through journal and processor came {same} as in the short way.",
        "",
        f"New cases, day by day: {', '.join(map(str, found['new_cases_a_day']))}.",
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def write_page(found: dict[str, Any], when: str) -> None:
    """Put them into ``docs/benchmarks.md``."""
    write(_MARK, page(found, when))
