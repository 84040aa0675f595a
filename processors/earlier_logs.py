"""The logs of earlier generations: what they sealed counts as sealed before a log's own leaves (section 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa

from auditspan.journal.contract import generation_of

from .batch import Opening
from .identity import SealedPayloads

__all__ = ["PayloadsAcross", "earlier_logs"]


def earlier_logs(opened: Iterable[Opening], opening: Opening) -> tuple[str, ...]:
    """Ids of the logs of generations before that of ``opening``, by generation and partition.

    None for the control log and for partitions that others write, which have no generations.
    """
    generation = generation_of(opening.partition)
    if generation is None:
        return ()
    before = [
        (found, one.partition, one.log_id)
        for one in opened
        if (found := generation_of(one.partition)) is not None and found < generation
    ]
    before.sort(key=lambda one: (one[0], len(one[1]), one[1]))
    return tuple(log_id for *_, log_id in before)


class PayloadsAcross:
    """Payloads sealed under identities, in a log and in those of earlier generations.

    Args:
        sealed: where one log is asked.
        earlier: ids of the earlier logs.
    """

    def __init__(self, sealed: SealedPayloads, earlier: Sequence[str]) -> None:
        self._sealed = sealed
        self._earlier = earlier

    def payloads_of_sequences(self, log_id: str, keys: Sequence[tuple[str, str, int]]) -> pa.Table:
        """See `SealedPayloads.payloads_of_sequences`."""
        return self._all(log_id, lambda one: self._sealed.payloads_of_sequences(one, keys))

    def payloads_of_spans(self, log_id: str, keys: Sequence[tuple[str, bytes, bytes]]) -> pa.Table:
        """See `SealedPayloads.payloads_of_spans`."""
        return self._all(log_id, lambda one: self._sealed.payloads_of_spans(one, keys))

    def _all(self, log_id: str, ask: Callable[[str], pa.Table]) -> pa.Table:
        return pa.concat_tables([ask(one) for one in (*self._earlier, log_id)])
