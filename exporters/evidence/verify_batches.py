"""Batches: what each ``audit.batch`` leaf says, compared with the leaves it ends, and where an interval may be cut."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .report import Faults

__all__ = ["BatchCheck", "BatchLeaf", "read_batch"]

_NUMBERS = ("from", "to", "first_leaf", "sealed", "duplicates", "conflicts", "quarantined", "gaps")
_FIELDS = {"from": "begin", "to": "end"}
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BatchLeaf:
    """The body of an ``audit.batch`` leaf (section 10)."""

    begin: int
    end: int
    first_leaf: int
    sealed: int
    duplicates: int
    conflicts: int
    quarantined: int
    gaps: int
    watermark: int
    epoch: int
    epoch_digest: str


def read_batch(body: dict[str, Any]) -> BatchLeaf:
    """The body of an ``audit.batch`` leaf.

    Raises:
        ValueError: it is not as section 10.
    """
    numbers = [body.get(name) for name in _NUMBERS]
    epoch, watermark = body.get("epoch"), body.get("watermark")
    if not (isinstance(epoch, dict) and isinstance(watermark, str) and watermark.isdigit() and len(watermark) <= 20):
        raise ValueError("watermark or epoch has the wrong type")
    if any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in (*numbers, epoch.get("number"))):
        raise ValueError("a number is missing or negative")
    if not _HEX.fullmatch(str(body.get("suppressed_digest"))):
        raise ValueError("suppressed_digest is no SHA-256")
    return BatchLeaf(
        **{_FIELDS.get(name, name): body[name] for name in _NUMBERS},
        watermark=int(watermark),
        epoch=epoch["number"],
        epoch_digest=str(epoch.get("digest")),
    )


class BatchCheck:
    """Follows the leaves of one log from batch to batch."""

    def __init__(self, log_id: str, begin: int, end: int, time_from: int, time_to: int, faults: Faults) -> None:
        self._log_id, self._begin, self._end, self._faults = log_id, begin, end, faults
        self._from, self._to = time_from, time_to
        self._previous: BatchLeaf | None = None
        self._next_first = 0 if begin == 0 else None
        self._conflicts = self._quarantined = self._gaps = 0
        self._leaf_epochs: dict[int, int] = {}
        self._last_position = (-1, -1)
        self._ended_at: int | None = None
        self._closing: int | None = None
        self._closed_at: int | None = None
        self.duplicates = 0
        self.watermark: int | None = None
        self.epochs: dict[int, tuple[str, int]] = {}

    def leaves(
        self,
        index: npt.NDArray[np.int64],
        offsets: npt.NDArray[np.float64],
        ordinals: npt.NDArray[np.float64],
        epochs: npt.NDArray[np.int64],
        kinds: dict[str, npt.NDArray[np.bool_]],
        batches: list[tuple[int, dict[str, Any]]],
    ) -> None:
        """The next leaves.

        Args:
            index: of each in the log.
            offsets: first number of the position; NaN where it is null.
            ordinals: second number of the position; NaN where it is null.
            epochs: number of the reference epoch; -1 where it cannot be read.
            kinds: by class that a batch counts, which leaves are of it.
            batches: row and body of each ``audit.batch`` leaf, in order.
        """
        start = 0
        for row, body in batches:
            self._count(index, offsets, ordinals, kinds, slice(start, row))
            # With its own leaf: that names an epoch as well.
            self._follow_epochs(index, epochs, slice(start, row + 1))
            self._batch(int(index[row]), body)
            start = row + 1
        self._count(index, offsets, ordinals, kinds, slice(start, len(index)))
        self._follow_epochs(index, epochs, slice(start, len(index)))

    def _count(
        self,
        index: npt.NDArray[np.int64],
        offsets: npt.NDArray[np.float64],
        ordinals: npt.NDArray[np.float64],
        kinds: dict[str, npt.NDArray[np.bool_]],
        part: slice,
    ) -> None:
        self._conflicts += int(kinds["audit.conflict"][part].sum())
        self._quarantined += int(kinds["audit.quarantined"][part].sum())
        self._gaps += int(kinds["audit.gap"][part].sum())
        self._follow_closing(index[part], kinds["audit.log.closed"][part])
        placed = ~np.isnan(offsets[part])
        if not placed.any():
            return
        offset, ordinal = offsets[part][placed], ordinals[part][placed]
        before = np.concatenate([[self._last_position], np.column_stack([offset, ordinal])[:-1]])
        rising = (offset > before[:, 0]) | ((offset == before[:, 0]) & (ordinal > before[:, 1]))
        for place in np.flatnonzero(~rising)[:100].tolist():
            leaf = int(index[part][placed][place])
            self._faults.add(
                "leaf.order",
                (self._log_id, leaf),
                f"a journal position after [{before[place, 0]:.0f}, {before[place, 1]:.0f}]",
                f"[{offset[place]:.0f}, {ordinal[place]:.0f}]",
            )
        low = self._previous.end if self._previous else 0
        if offset.min() < low and self._next_first is not None:
            leaf = int(index[part][placed][int(offset.argmin())])
            self._faults.add("batch.contiguity", (self._log_id, leaf), f"journal offsets from {low}", int(offset.min()))
        self._last_position = (int(offset[-1]), int(ordinal[-1]))

    def _follow_epochs(self, index: npt.NDArray[np.int64], epochs: npt.NDArray[np.int64], part: slice) -> None:
        """Which epochs the leaves of the batch name, each with the first leaf that does."""
        numbers, first = np.unique(epochs[part], return_index=True)
        for number, place in zip(numbers.tolist(), first.tolist(), strict=True):
            # What cannot be read is malformed, and two that differ are one too many.
            if number >= 0 and len(self._leaf_epochs) < 2:
                self._leaf_epochs.setdefault(number, int(index[part][place]))

    def _check_epochs(self, batch: BatchLeaf) -> None:
        for number, leaf in self._leaf_epochs.items():
            if number != batch.epoch:
                self._faults.add(
                    "batch.epoch", (self._log_id, leaf), f"epoch {batch.epoch}, as its audit.batch says", number
                )

    def _follow_closing(self, index: npt.NDArray[np.int64], closing: npt.NDArray[np.bool_]) -> None:
        """Leaves of a batch, and which of them are ``audit.log.closed``."""
        if not len(index):
            return
        if self._closed_at is not None:
            self._refuse_after_closing(int(index[0]), len(index))
        for leaf in index[closing].tolist():
            if self._closing is not None:
                self._refuse_closing(self._closing)
            self._closing = leaf

    def _check_closing(self, index: int, batch: BatchLeaf | None) -> None:
        """Whether ``audit.log.closed`` stands directly before a batch that consumes nothing, and nowhere else.

        ``batch`` is None when the leaf at ``index`` does not say what it consumed.
        """
        closing, self._closing = self._closing, None
        if self._closed_at is not None:
            self._refuse_after_closing(index, 1)
        consumes_nothing = batch is not None and batch.begin == batch.end
        if closing is not None and (closing != index - 1 or not consumes_nothing):
            self._refuse_closing(closing)
        elif consumes_nothing:
            # What closes the log that an interval begins with stands before it.
            if closing is None and not (index == self._begin and self._begin > 0):
                self._faults.add(
                    "log.closed", (self._log_id, index), "audit.log.closed before a batch of nothing", "none"
                )
            self._closed_at = index

    def _refuse_closing(self, leaf: int) -> None:
        self._faults.add(
            "log.closed", (self._log_id, leaf), "directly before an audit.batch that consumes nothing", leaf
        )

    def _refuse_after_closing(self, leaf: int, count: int) -> None:
        self._faults.add(
            "log.closed",
            (self._log_id, leaf),
            f"no leaf after {self._closed_at}, which ended the log",
            leaf,
            count=count,
        )

    def _batch(self, index: int, body: dict[str, Any]) -> None:
        leaf = (self._log_id, index)
        try:
            batch = read_batch(body)
        except ValueError as error:
            self._faults.add("leaf.malformed", leaf, "a batch as section 10 of the evidence format", error)
            self._check_closing(index, None)
            self._previous, self._next_first = None, None
            self._leaf_epochs.clear()
            return
        self._check_closing(index, batch)
        self._check_epochs(batch)
        self._leaf_epochs.clear()
        self._interval(index, batch)
        self.epochs.setdefault(batch.epoch, (batch.epoch_digest, index))
        if self.epochs[batch.epoch][0] != batch.epoch_digest:
            self._faults.add("epoch.unknown", leaf, self.epochs[batch.epoch][0], batch.epoch_digest)
        # The batch leaf that begins an interval ends a batch whose leaves are not here.
        if not (index == self._begin and self._begin > 0):
            self._compare(index, batch)
            self.duplicates += batch.duplicates
        self._previous, self._next_first = batch, index + 1
        self._conflicts = self._quarantined = self._gaps = 0
        self.watermark = batch.watermark

    def _compare(self, index: int, batch: BatchLeaf) -> None:
        leaf = (self._log_id, index)
        if self._next_first is not None:
            counted = {
                "first_leaf": self._next_first,
                "sealed": index - self._next_first,
                "conflicts": self._conflicts,
                "quarantined": self._quarantined,
                "gaps": self._gaps,
            }
            stated = {name: getattr(batch, name) for name in counted}
            if stated != counted:
                self._faults.add("batch.counts", leaf, counted, stated)
            begin = self._previous.end if self._previous else 0
            if batch.begin != begin or batch.end < batch.begin:
                self._faults.add(
                    "batch.contiguity", leaf, f"journal entries from {begin} on", f"[{batch.begin}, {batch.end})"
                )
            if self._last_position[0] >= batch.end:
                self._faults.add(
                    "batch.contiguity", leaf, f"offsets below {batch.end}", f"offset {self._last_position[0]}"
                )
            if self._previous and batch.watermark < self._previous.watermark:
                self._faults.add("batch.contiguity", leaf, f"a watermark ≥ {self._previous.watermark}", batch.watermark)

    def _interval(self, index: int, batch: BatchLeaf) -> None:
        leaf = (self._log_id, index)
        if index == self._begin:
            if self._begin > 0 and batch.watermark >= self._from:
                self._faults.add("interval.start", leaf, f"a batch with a watermark < {self._from}", batch.watermark)
        elif batch.watermark < self._from:
            self._faults.add(
                "interval.start", leaf, "the interval begins at the last such batch", f"begins at {self._begin}"
            )
        if batch.watermark >= self._to and self._ended_at is None:
            self._ended_at = index
            if index != self._end - 1:
                self._faults.add("interval.end", leaf, f"the interval ends after leaf {index}", f"ends at {self._end}")

    def finish(self, checkpoint_size: int | None, first_is_batch: bool, *, complete: bool) -> None:
        """Check the ends of the interval. ``complete``: every leaf of it was seen."""
        if not complete:
            return
        if self._closing is not None:
            self._refuse_closing(self._closing)
        if self._closed_at is not None and checkpoint_size is not None and checkpoint_size > self._end:
            self._refuse_after_closing(self._end, checkpoint_size - self._end)
        if self._begin > 0 and not first_is_batch:
            self._faults.add("interval.start", (self._log_id, self._begin), "an audit.batch leaf", "another leaf")
        if self._ended_at is None and checkpoint_size is not None and self._end != checkpoint_size:
            self._faults.add(
                "interval.end",
                None,
                f"{self._log_id}: a batch with a watermark ≥ {self._to}, or all {checkpoint_size} signed leaves",
                f"ends at leaf {self._end}",
            )

    @property
    def closed(self) -> bool:
        """Whether the log ends with the interval."""
        return self._closed_at is not None

    @property
    def reached_end(self) -> bool:
        """Whether a batch at or after the end of the queried time closes the interval."""
        return self._ended_at is not None
