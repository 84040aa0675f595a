"""Which streams repeated themselves: the suppressed records of a batch, counted for whoever watches."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from .batch import Derived
from .identity import Verdict
from .intake import Portion

__all__ = ["suppressed_by_stream"]

_STREAM: Final = "audit.source.id"


def suppressed_by_stream(portion: Portion, derived: Derived) -> pa.Table:
    """``emitter``, ``stream`` and ``records`` (uint64) of the suppressed records of a batch.

    The stream is what the resource names; '' where it names none.
    """
    rows = np.flatnonzero(derived.judgement.verdicts == Verdict.SUPPRESSED)
    spans = portion.spans.select(["entry", _STREAM]).take(pa.array(rows))
    emitters = pa.array([portion.entries[place].emitter for place in spans["entry"].to_pylist()], pa.string())
    streams = spans[_STREAM].cast(pa.string()).fill_null("")
    counted = (
        pa.table({"emitter": emitters, "stream": streams})
        .group_by(["emitter", "stream"], use_threads=False)
        .aggregate([([], "count_all")])
    )
    return counted.rename_columns(["emitter", "stream", "records"]).set_column(
        2, "records", counted["count_all"].cast(pa.uint64())
    )
