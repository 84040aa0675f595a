"""Counts of what a package holds in bounded memory: so many keys are told apart, the rest are counted together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

__all__ = ["HOUR", "Count", "Groups", "Timeline"]

HOUR: Final = 3_600_000_000_000
"""Nanoseconds."""

_MOST_KEYS: Final = 1_000
_MOST_SPANS: Final = 400
_HOURS: Final = (1, 24, 24 * 7, 24 * 28, 24 * 364, 24 * 3_640)
"""Widths that a span of the timeline may have."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Count:
    """Events that are shown, and those of which the package holds the header alone."""

    shown: int = 0
    withheld: int = 0
    first: int | None = None
    last: int | None = None

    @property
    def total(self) -> int:
        """Both together."""
        return self.shown + self.withheld

    def add(self, events: int, arrived: tuple[int, int], *, shown: bool) -> None:
        """Count events that arrived between two times, both included."""
        if shown:
            self.shown += events
        else:
            self.withheld += events
        self.first = arrived[0] if self.first is None else min(self.first, arrived[0])
        self.last = arrived[1] if self.last is None else max(self.last, arrived[1])

    def join(self, other: Count) -> None:
        """Count what another has counted as well."""
        self.shown += other.shown
        self.withheld += other.withheld
        for moment in (other.first, other.last):
            if moment is not None:
                self.first = moment if self.first is None else min(self.first, moment)
                self.last = moment if self.last is None else max(self.last, moment)


class Groups(Generic[Key]):
    """Counts by key. ``others`` counts what came when there were ``most`` keys already, each under another one."""

    def __init__(self, most: int = _MOST_KEYS) -> None:
        self._most = most
        self.of: dict[Key, Count] = {}
        self.others = Count()

    def add(self, key: Key, events: int, arrived: tuple[int, int], *, shown: bool) -> None:
        """Count events under ``key``."""
        found = self.of.get(key)
        if found is None:
            found = self.of.setdefault(key, Count()) if len(self.of) < self._most else self.others
        found.add(events, arrived, shown=shown)

    @property
    def total(self) -> int:
        """All that was counted."""
        return sum(count.total for count in self.of.values()) + self.others.total

    def largest(self, most: int) -> tuple[list[tuple[Key, Count]], Count]:
        """The ``most`` keys with the largest counts, and all others together."""
        ordered = sorted(self.of.items(), key=lambda one: (-one[1].total, str(one[0])))
        rest = Count()
        for _, count in ordered[most:]:
            rest.join(count)
        rest.join(self.others)
        return ordered[:most], rest


class Timeline:
    """Events by arrival time, in hours while these are few, in days and longer spans then; and who sent in which.

    Emitters beyond the first thousand are not told apart.
    """

    def __init__(self, most: int = _MOST_SPANS) -> None:
        self._most = most
        self._width = 0
        self.spans: dict[int, tuple[int, int]] = {}
        self.emitters: dict[str, set[int]] = {}
        self.first: int | None = None
        self.last: int | None = None

    @property
    def hours(self) -> int:
        """How many hours one span has."""
        return _HOURS[self._width]

    def reach(self, first: int, last: int) -> None:
        """Leaves arrived from ``first`` to ``last`` (nanoseconds), whatever they are."""
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)

    def add(self, hour: int, emitter: str | None, events: int, flagged: int) -> None:
        """Count events of an hour, by its number since 1970."""
        span = hour // self.hours
        known, known_flagged = self.spans.get(span, (0, 0))
        self.spans[span] = known + events, known_flagged + flagged
        if emitter is not None and (emitter in self.emitters or len(self.emitters) < _MOST_KEYS):
            self.emitters.setdefault(emitter, set()).add(span)
        while len(self.spans) > self._most and self._width + 1 < len(_HOURS):
            self._widen()

    def _widen(self) -> None:
        ratio = _HOURS[self._width + 1] // _HOURS[self._width]
        self._width += 1
        wide: dict[int, tuple[int, int]] = {}
        for span, (events, flagged) in self.spans.items():
            known, known_flagged = wide.get(span // ratio, (0, 0))
            wide[span // ratio] = known + events, known_flagged + flagged
        self.spans = wide
        self.emitters = {emitter: {span // ratio for span in spans} for emitter, spans in self.emitters.items()}

    def begins(self, span: int) -> int:
        """When a span begins, in nanoseconds since 1970."""
        return span * self.hours * HOUR

    def silent(self, emitter: str) -> Iterator[tuple[int, int]]:
        """Times (nanoseconds) in which for whole spans nothing of ``emitter`` arrived, while the package covers it."""
        if self.first is None or self.last is None:
            return
        before = self.first // (self.hours * HOUR) - 1
        for span in (*sorted(self.emitters.get(emitter, ())), self.last // (self.hours * HOUR) + 1):
            if span > before + 1:
                yield max(self.begins(before + 1), self.first), min(self.begins(span), self.last)
            before = max(before, span)
