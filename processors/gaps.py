"""Gaps: what a stream's numbers say should have come and has not (``docs/evidence-format.md`` section 9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from auditspan.canonical import JsonValue
from auditspan.ledger.header import header_text

from .identity import StreamKey
from .streams import UNSEEN, Holes, Int64s, Stream, runs

__all__ = ["PATIENCE", "ClosedGap", "Gap", "Waiting", "closed_gaps", "declare", "undeclared"]

PATIENCE: Final = 60 * 10**9
"""Nanoseconds of the arrival watermark that a missing sequence is waited for."""


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Sequences ``[begin, end)`` have not come; ``seen_at`` (ns) is when the log first saw beyond them."""

    emitter: str
    stream: str
    begin: int
    end: int
    seen_at: int

    def body(self) -> dict[str, JsonValue]:
        """Body of the ``audit.gap`` leaf."""
        return {
            "emitter": header_text(self.emitter),
            "stream": self.stream,
            "from": self.begin,
            "to": self.end,
            "seen_at": str(self.seen_at),
        }


@dataclass(frozen=True, slots=True, order=True)
class ClosedGap:
    """Sequences ``[begin, end)``, once declared missing, came after all."""

    emitter: str
    stream: str
    begin: int
    end: int

    def body(self) -> dict[str, JsonValue]:
        """Body of the ``audit.gap.closed`` leaf."""
        return {"emitter": header_text(self.emitter), "stream": self.stream, "from": self.begin, "to": self.end}


Waiting = dict[StreamKey, int]
"""The streams with holes that are not declared yet, each with the earliest ``seen_at`` (ns) of those."""


def undeclared(streams: Iterable[tuple[StreamKey, Stream]]) -> Waiting:
    """Which of these streams wait, and since when."""
    waiting: Waiting = {}
    for key, stream in streams:
        open_ = stream.holes.seen_at[~stream.holes.declared]
        if len(open_):
            waiting[key] = int(open_.min())
    return waiting


def declare(
    sealed: Mapping[StreamKey, Stream],
    touched: dict[StreamKey, Stream],
    waiting: Mapping[StreamKey, int],
    watermark: int,
) -> tuple[list[Gap], Waiting]:
    """The gaps due at the end of a batch, in order, and the streams that wait from then on.

    ``sealed`` is the state before the batch and ``touched`` what the batch makes of some streams; streams that declare
    are added to it. ``waiting`` belongs to ``sealed``.
    """
    still = {key: since for key, since in waiting.items() if key not in touched}
    still.update(undeclared((key, stream) for key, stream in touched.items() if len(stream.holes)))
    gaps: list[Gap] = []
    for key in [key for key, since in still.items() if since + PATIENCE <= watermark]:
        stream = touched.get(key) or sealed.get(key, UNSEEN)
        holes = stream.holes
        due = ~holes.declared & (holes.seen_at + PATIENCE <= watermark)
        for place in np.flatnonzero(due).tolist():
            gaps.append(Gap(*key, int(holes.begin[place]), int(holes.end[place]), int(holes.seen_at[place])))
        touched[key] = Stream(stream.highest, Holes(holes.begin, holes.end, holes.seen_at, holes.declared | due))
        del still[key]
        still.update(undeclared([(key, touched[key])]))
    return sorted(gaps), still


def closed_gaps(closed: Mapping[StreamKey, Int64s]) -> list[ClosedGap]:
    """The runs of declared sequences that came, in order."""
    return sorted(ClosedGap(*key, begin, end) for key, sequences in closed.items() for begin, end in runs(sequences))
