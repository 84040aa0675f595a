"""Counts in bounded memory: nothing is lost of a sum, whatever is told apart."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from auditspan.exporters.evidence.bounded import HOUR, Groups, Timeline
from hypothesis import given
from hypothesis import strategies as st

EVENTS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5), st.booleans(), st.integers(0, 50)), max_size=60)


@given(EVENTS, st.integers(1, 12), st.integers(1, 12))
def test_what_is_not_told_apart_is_counted_together(
    events: list[tuple[int, int, bool, int]], most: int, listed: int
) -> None:
    groups: Groups[int] = Groups(most)
    wanted: Counter[tuple[int, bool]] = Counter()
    for key, number, shown, at in events:
        groups.add(key, number, (at, at + 1), shown=shown)
        wanted[key, shown] += number
    assert len(groups.of) <= most
    assert groups.total == wanted.total()
    for key, count in groups.of.items():
        assert (count.shown, count.withheld) == (wanted[key, True], wanted[key, False])
        assert count.first == min(at for one, _, _, at in events if one == key)
        assert count.last == max(at + 1 for one, _, _, at in events if one == key)
    rows, rest = groups.largest(listed)
    assert sum(count.total for _, count in rows) + rest.total == groups.total
    assert all(one[1].total >= other[1].total for one, other in pairwise(rows))


@given(
    st.lists(st.tuples(st.integers(0, 20_000), st.sampled_from("abc"), st.integers(1, 3)), min_size=1, max_size=60),
    st.integers(1, 8),
)
def test_a_timeline_stays_short_and_keeps_every_event(events: list[tuple[int, str, int]], most: int) -> None:
    timeline = Timeline(most)
    for hour, emitter, number in events:
        timeline.reach(hour * HOUR, hour * HOUR + 5)
        timeline.add(hour, emitter, number, number - 1)
    # All these events fit into one of the widest spans.
    assert len(timeline.spans) <= most
    assert sum(events for events, _ in timeline.spans.values()) == sum(number for *_, number in events)
    assert sum(flagged for _, flagged in timeline.spans.values()) == sum(number - 1 for *_, number in events)
    for hour, emitter, _ in events:
        assert hour // timeline.hours in timeline.spans and hour // timeline.hours in timeline.emitters[emitter]


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("ab")), min_size=1, max_size=25))
def test_silence_is_what_no_whole_hour_contradicts(events: list[tuple[int, str]]) -> None:
    timeline = Timeline()
    for hour, emitter in events:
        timeline.reach(hour * HOUR + 7, hour * HOUR + 9)
        timeline.add(hour, emitter, 1, 0)
    first, last = min(hour for hour, _ in events), max(hour for hour, _ in events)
    for emitter in {emitter for _, emitter in events}:
        heard = {hour for hour, one in events if one == emitter}
        silent = {hour for begin, end in timeline.silent(emitter) for hour in range(begin // HOUR, -(-end // HOUR))}
        assert silent == set(range(first, last + 1)) - heard
        runs = list(timeline.silent(emitter))
        assert all(begin < end for begin, end in runs)
        assert all(one[1] < other[0] for one, other in pairwise(runs))


def test_an_emitter_that_nobody_heard_is_silent_from_end_to_end() -> None:
    timeline = Timeline()
    timeline.reach(5, 3 * HOUR)
    assert list(timeline.silent("nobody")) == [(5, 3 * HOUR)]
