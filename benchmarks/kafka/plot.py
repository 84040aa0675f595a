"""How cost grows, as a picture for the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

from benchmarks.kafka.growth import Points
from benchmarks.report import PAGE

__all__ = ["PLOT", "draw"]

PLOT = PAGE.with_name("benchmarks-kafka.svg")
_LOGARITHMIC = 10
"""Ratio of the largest to the smallest x from which steps are shown as equal."""
_STYLES = {"processor": ("#1f5fa8", "o"), "store": ("#b5651d", "s")}


def draw(parts: Mapping[str, Mapping[str, Points]], path: Path = PLOT) -> None:
    """Write one SVG: a panel for each part, CPU per span over what grows. The same figures give the same bytes."""
    mpl.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullLocator

    with mpl.rc_context({"svg.hashsalt": "auditspan", "svg.fonttype": "none", "font.size": 9}):
        figure, panels = pyplot.subplots(1, len(parts), figsize=(3.2 * len(parts), 2.8), sharey=True, squeeze=False)
        for panel, (name, curves) in zip(panels[0], parts.items(), strict=True):
            ticks: list[float] = []
            for curve, points in curves.items():
                color, marker = _STYLES[curve]
                panel.plot(*zip(*points, strict=True), label=curve, color=color, marker=marker, linewidth=1.4)
                ticks = [x for x, _ in points]
            if min(ticks) > 0 and max(ticks) >= _LOGARITHMIC * min(ticks):
                panel.set_xscale("log")
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xticks(ticks, [f"{x:g}" if x == int(x) else f"{x:.1f}" for x in ticks])
            panel.set_xlabel(name)
            panel.grid(visible=True, linewidth=0.3)
        panels[0][0].set_ylim(bottom=0)
        panels[0][0].set_ylabel("µs of CPU a span")
        panels[0][0].legend(frameon=False)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
