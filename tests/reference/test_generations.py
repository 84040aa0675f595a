"""Random journals of several generations: one record once, and one gap once, whichever generation it came in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .derive import Batch, DerivationError, Derived, Entry, Log, derive
from .journal import batches_of, earlier_of
from .product import GivenFacts, SealedLogs, product_leaves
from .requests import SCOPE, request, resource, span
from .test_random_journals import NOW, SALT_KEY, SECOND

WEEK = 7 * 86_400 * SECOND
STEPS = [0, 1, SECOND, -SECOND, 59 * SECOND, 60 * SECOND, 61 * SECOND, WEEK, WEEK + 1]


@dataclass(frozen=True)
class Made:
    """One log of a random deployment, and before which of its batches a processor starts anew."""

    log: Log
    entries: list[Entry]
    batches: list[Batch]
    restarts: frozenset[int]


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Few streams, sequences and ids, so that what comes has often come before, as it was or changed."""
    source = draw(st.sampled_from(["s", "s", "t", None]))
    told: dict[str, Any] = {} if source is None else {"audit.source.id": source}
    told |= draw(st.sampled_from([{}, {}, {"service.name": "restarted"}]))
    spans = []
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, 7 if source is not None else 2))
        pairs: dict[str, Any] = {} if source is None else {"audit.sequence.number": number}
        pairs |= draw(st.sampled_from([{}, {}, {}, {}, {"audit.event.class": "license.used"}]))
        spans.append(span(number + 1, pairs, start=NOW))
    return request(resource(told), spans, SCOPE)


@st.composite
def deployments(draw: st.DrawFn) -> list[Made]:
    """The logs in order of generation and partition; all but those of the last generation are closed."""
    made: list[Made] = []
    before: list[bytes] = []
    counts = draw(st.lists(st.integers(1, 3), min_size=2, max_size=3))
    for generation, count in enumerate(counts, 1):
        successor = counts[generation] if generation < len(counts) else None
        for index in range(count):
            partition = f"events-{index}" if generation == 1 else f"events.{generation}-{index}"
            opened_at = NOW + draw(st.sampled_from(STEPS))
            log = Log("random", "kafka:random", f"{generation:02x}{index:02x}" * 8, partition, generation, opened_at)
            made.append(_log(draw, log, successor, before))
    return made


def _log(draw: st.DrawFn, log: Log, successor: int | None, before: list[bytes]) -> Made:
    entries = []
    arrival = NOW + draw(st.sampled_from(STEPS)) * log.generation
    for offset in range(draw(st.integers(0, 5))):
        arrival += draw(st.sampled_from(STEPS))
        kind = draw(st.sampled_from(["otlp"] * 9 + ["undecodable", "heartbeat"]))
        body = draw(st.one_of(bodies(), st.sampled_from(before)) if before else bodies()) if kind == "otlp" else b"{}"
        if kind == "otlp":
            before.append(body)
        emitter = draw(st.sampled_from(["a", "a", "a", "b"]))
        entries.append(Entry(offset, kind, emitter, "bearer", arrival, "otlp_proto", body))
    ends = set(draw(st.lists(st.integers(1, len(entries)), max_size=3))) | {len(entries)} if entries else set()
    if len(entries) > 1 and draw(st.integers(0, 4)) == 0:
        # Retention took some that were not sealed, never the last one: nothing would say how many there were.
        begin = draw(st.integers(0, len(entries) - 2))
        end = draw(st.integers(begin + 1, len(entries) - 1))
        ends = {one for one in ends if not begin < one < end} | {begin, end} - {0}
        entries = [entry for entry in entries if not begin <= entry.offset < end]
    batches = [Batch(one, 1, "ab" * 32, "software") for one in sorted(ends)]
    if successor is not None:
        batches.append(Batch(max(ends, default=0), 1, "ab" * 32, "software", successor))
    restarts = draw(st.sets(st.integers(0, max(len(batches) - 1, 0))))
    return Made(log, entries, batches, frozenset(restarts))


def test_product_and_deriver_agree_over_generations() -> None:
    rests_on_earlier: Counter[str] = Counter()

    @settings(max_examples=75, deadline=None, suppress_health_check=list(HealthCheck))
    @given(deployments())
    def check(deployment: list[Made]) -> None:
        sealed = SealedLogs()
        derived: dict[str, Derived] = {}
        logs = {one.log.partition: one.log for one in deployment}
        for one in deployment:
            log, before = one.log, earlier_of(logs, one.log)
            leaves = product_leaves(
                log,
                one.entries,
                one.batches,
                SALT_KEY,
                GivenFacts({}),
                sealed,
                [each.log_id for each in before],
                one.restarts,
            )
            earlier = [derived[each.partition] for each in before]
            expected = derive(log, one.entries, one.batches, SALT_KEY, {}, earlier)
            for made, wanted in zip(leaves, expected.leaves, strict=False):
                assert json.loads(made) == json.loads(wanted), log.partition
            assert leaves == expected.leaves
            assert batches_of(leaves) == one.batches
            derived[log.partition] = expected
            if earlier:
                alone = derive(log, one.entries, one.batches, SALT_KEY, {})
                rests_on_earlier.update(_kinds(expected.leaves) - _kinds(alone.leaves))

    check()
    # What this is about did occur.
    assert {"duplicates", "audit.gap.closed", "duplicate_suspect"} <= rests_on_earlier.keys(), rests_on_earlier


def _kinds(leaves: Sequence[bytes]) -> Counter[str]:
    """How often each fault and each kind of gap occurs, and what was suppressed."""
    found: Counter[str] = Counter()
    for leaf in map(json.loads, leaves):
        found.update(leaf.get("faults", ()))
        if leaf["class"] in ("audit.gap", "audit.gap.closed"):
            found[leaf["class"]] += 1
        if leaf["class"] == "audit.batch":
            found["duplicates"] += leaf["body"]["duplicates"]
    return found


LOG = Log("small", "kafka:small", "0a" * 16, "events-0", 1, NOW)
NEXT = Log("small", "kafka:small", "0b" * 16, "events.2-0", 2, NOW + SECOND)


def _batch(to: int, successor: int | None = None) -> Batch:
    return Batch(to, 1, "ab" * 32, "software", successor)


def _entry(offset: int, *sequences: int, arrival: int = NOW) -> Entry:
    spans = [span(number + 1, {"audit.sequence.number": number}, start=NOW) for number in sequences]
    body = request(resource({"audit.source.id": "s"}), spans, SCOPE)
    return Entry(offset, "otlp", "a", "bearer", arrival, "otlp_proto", body)


def test_a_closing_says_what_the_document_says() -> None:
    derived = derive(LOG, [_entry(0, 0, 3)], [_batch(1), _batch(1, 4)], SALT_KEY, {})
    gap, closed, batch = map(json.loads, derived.leaves[-3:])
    assert gap["class"] == "audit.gap"
    assert gap["body"] == {"emitter": "a", "stream": "s", "from": 1, "to": 3, "seen_at": str(NOW)}
    assert closed["class"] == "audit.log.closed"
    assert closed["body"] == {"successor": {"generation": 2, "partitions": 4}}
    assert (batch["body"]["from"], batch["body"]["to"], batch["body"]["first_leaf"]) == (1, 1, 4)
    assert (batch["body"]["sealed"], batch["body"]["gaps"]) == (2, 1)
    assert {leaf["arrival_time"] for leaf in (gap, closed, batch)} == {batch["body"]["watermark"]} == {str(NOW)}


@pytest.mark.parametrize(("opened_after", "suppressed"), [(WEEK, 1), (WEEK + 1, 0)])
def test_a_foreign_identity_counts_from_a_week_before_the_log_was_opened(opened_after: int, suppressed: int) -> None:
    entry = Entry(0, "otlp", "a", "bearer", NOW, "otlp_proto", request(resource({}), [span(1, {}, start=NOW)], SCOPE))
    ended = derive(LOG, [entry], [_batch(1), _batch(1, 1)], SALT_KEY, {})
    later = Log("small", "kafka:small", "0b" * 16, "events.2-0", 2, NOW + opened_after)
    derived = derive(later, [entry], [_batch(1)], SALT_KEY, {}, [ended])
    assert json.loads(derived.leaves[-1])["body"]["duplicates"] == suppressed
    sealed = SealedLogs()
    product_leaves(LOG, [entry], [_batch(1), _batch(1, 1)], SALT_KEY, GivenFacts({}), sealed, [], frozenset())
    made = product_leaves(later, [entry], [_batch(1)], SALT_KEY, GivenFacts({}), sealed, [LOG.log_id], frozenset())
    assert made == derived.leaves


def test_a_clock_far_ahead_in_one_earlier_log_hides_nothing_of_another() -> None:
    def entry(number: int, arrival: int) -> Entry:
        body = request(resource({}), [span(number, {}, start=NOW)], SCOPE)
        return Entry(0, "otlp", "a", "bearer", arrival, "otlp_proto", body)

    ahead = Log("small", "kafka:small", "0c" * 16, "events-1", 1, NOW)
    again, sealed, ended = entry(1, NOW), SealedLogs(), []
    for log, one in ((LOG, again), (ahead, entry(2, NOW + 9 * WEEK))):
        ended.append(derive(log, [one], [_batch(1), _batch(1, 1)], SALT_KEY, {}))
        product_leaves(log, [one], [_batch(1), _batch(1, 1)], SALT_KEY, GivenFacts({}), sealed, [], frozenset())
    derived = derive(NEXT, [again], [_batch(1)], SALT_KEY, {}, ended)
    assert json.loads(derived.leaves[-1])["body"]["duplicates"] == 1
    earlier = [LOG.log_id, ahead.log_id]
    assert derived.leaves == product_leaves(
        NEXT, [again], [_batch(1)], SALT_KEY, GivenFacts({}), sealed, earlier, frozenset()
    )


@pytest.mark.parametrize(
    ("entries", "batches"),
    [
        ([_entry(0, 0)], [_batch(1, 1)]),
        ([_entry(0, 0), _entry(1, 1)], [_batch(1), _batch(1, 1), _batch(2)]),
        ([], [_batch(0, 1), _batch(0, 1)]),
    ],
    ids=["it consumes an entry", "a batch follows", "closed twice"],
)
def test_what_is_no_closing_is_not_derived(entries: list[Entry], batches: list[Batch]) -> None:
    with pytest.raises(DerivationError):
        derive(LOG, entries, batches, SALT_KEY, {})


def test_a_generation_begins_after_the_earlier_ones_are_closed() -> None:
    open_ = derive(LOG, [_entry(0, 0)], [_batch(1)], SALT_KEY, {})
    with pytest.raises(DerivationError, match="not closed"):
        derive(NEXT, [], [_batch(0, 1)], SALT_KEY, {}, [open_])
