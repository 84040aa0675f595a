"""Screening in ``docs/benchmarks.md``: its rows, and how its cost grows with the list, as a table and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report import PAGE, Row, aligned, write

__all__ = ["PLOT", "draw", "page", "rows", "write_page"]

PLOT: Final = PAGE.with_name("benchmarks-screening.svg")
_BLOCK: Final = "figures of screening"
_MICROSECONDS: Final = 1e6


def rows(found: dict[str, Any]) -> Iterator[Row]:
    """Of `benchmarks.screening.measure`, with the targets of screening."""
    pace = found["pace"]
    parties = f"screening, {found['list']['entries']:,} listed parties"
    yield Row(f"{parties}: import and index, CPU-seconds", found["import"]["cpu_seconds"], 20, limit=True, pace=pace)
    yield Row(f"{parties}: ordinary names, first seen, a CPU-second", found["ordinary"]["names_per_cpu_second"], 2000,
              pace=pace)  # fmt: skip
    yield Row(f"{parties}: listed names, first seen, a CPU-second", found["listed_names_per_cpu_second"])
    yield Row(f"{parties}: peak memory, import included", found["peak_memory_mb"], 500, limit=True, unit=" MB")
    again = found["repeated"]
    events = f"screening, {again['events']:,} events by {again['parties']:,} parties"
    yield Row(f"{events}: from memory", 100 * again["from_memory"], unit=" %")
    yield Row(f"{events}: repeated ones a CPU-second", again["repeated_a_cpu_second"])
    for name in ("primary", "alias"):
        yield Row(f"screening, {name} names: own entry first", 100 * found[name]["first"], 99.5, unit=" %")
    for name, each in found["changes"].items():
        yield Row(f"screening, {name.replace('_', ' ')} changed: own entry first", 100 * each["first"], 95, unit=" %")
    yield Row("screening, ordinary names that have a hit", 100 * found["ordinary"]["share"], 1, limit=True, unit=" %")
    for each in found["missed"]:
        yield Row(f"screening, changed names missed at {each['load']:.1f} hits in 1,000 ordinary ones",
                  100 * each["missed"], unit=" %")  # fmt: skip


def page(grown: Sequence[dict[str, Any]], when: str) -> list[str]:
    """The lines of its block, from `benchmarks.screening_growth.grow`."""
    head = ["as large as the real list", *(f"{each['times']}×" for each in grown)]
    lines = [[name, *(value(each) for each in grown)] for name, value in _LINES]
    return [when, "", "![Import, CPU per name and memory by size of the list](benchmarks-screening.svg)", "",
            *aligned(head, lines)]  # fmt: skip


_LINES: Final = (
    ("entries", lambda each: f"{each['import']['entries']:,}"),
    ("names", lambda each: f"{each['import']['names']:,}"),
    ("import and index, CPU-seconds", lambda each: f"{each['import']['cpu_seconds']:.1f}"),
    ("import and index, peak memory, MB", lambda each: f"{each['import']['peak_mb']:,.0f}"),
    ("kept on disk, MB", lambda each: f"{each['kept_mb']:,.0f}"),
    ("open, CPU-seconds", lambda each: f"{each['screen']['open_cpu_seconds']:.2f}"),
    ("ordinary names first seen, a CPU-second", lambda each: f"{each['screen']['ordinary_names_per_cpu_second']:,.0f}"),
    ("listed names first seen, a CPU-second", lambda each: f"{each['screen']['listed_names_per_cpu_second']:,.0f}"),
    ("screening, peak memory, MB", lambda each: f"{each['screen']['peak_mb']:,.0f}"),
    ("pace of the machine, import", lambda each: f"{each['import']['pace']:.0%}"),
    ("pace of the machine, screening", lambda each: f"{each['screen']['pace']:.0%}"),
)  # fmt: skip


def draw(grown: Sequence[dict[str, Any]], path: Path = PLOT) -> None:
    """Write one SVG: a panel for each cost over the size of the list. The same figures give the same bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullLocator

    times = [each["times"] for each in grown]
    panels = {
        "import and index, CPU-seconds": {"": [each["import"]["cpu_seconds"] for each in grown]},
        "µs of CPU a name, first seen": {
            kind: [_MICROSECONDS / each["screen"][f"{kind}_names_per_cpu_second"] for each in grown]
            for kind in ("ordinary", "listed")
        },
        "peak memory, MB": {
            "import": [each["import"]["peak_mb"] for each in grown],
            "screening": [each["screen"]["peak_mb"] for each in grown],
        },
    }
    with mpl.rc_context({"svg.hashsalt": "auditspan", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(1, len(panels), figsize=(3.2 * len(panels), 2.8), squeeze=False)
        for panel, (title, curves) in zip(axes[0], panels.items(), strict=True):
            for (name, values), (color, marker) in zip(curves.items(), _STYLES, strict=False):
                panel.plot(times, values, label=name, color=color, marker=marker, linewidth=1.4)
            panel.set_xscale("log")
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xticks(times, [f"{each}×" for each in times])
            panel.set_ylim(bottom=0)
            panel.set_title(title, fontsize=9)
            panel.grid(visible=True, linewidth=0.3)
            if len(curves) > 1:
                panel.legend(frameon=False)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


_STYLES: Final = (("#1f5fa8", "o"), ("#b5651d", "s"))


def write_page(grown: Sequence[dict[str, Any]], when: str) -> None:
    """Put it onto the page, and the plot beside it."""
    write(_BLOCK, page(grown, when))
    draw(grown)
