"""The determination of facts at a rule time: text, enforced and governing outcome (evidence format, section 6).

* **text**: the most restrictive outcome of the rules with authority ``law`` that match and no other law excepts.
* **enforced**: the same without what an enforcement policy lifts, and with the directives.
* **governing**: the enforced outcome, raised by company policy. A proposal never governs: it is listed beside.

A rule whose condition cannot be excluded because a fact is unknown counts as ``review``. A rule lifts another, or
changes how applications under another are reviewed, only when it surely matches. A rule with an addressee binds where
the exporter is the addressee, and nobody else. What governs are the rules that ask for the outcome: one that lifted
others, and is less restrictive than what is left, stands beside as the reason why those do not govern.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from auditspan.canonical import JsonValue, canonical_json

from .conditions import Truth
from .countries import Countries
from .facts import BASE_FACTS, GROUP_FACTS, SELDOM_FACTS, UNDECLARED, FactSet, FactValue
from .memory import Memory, weigh
from .packs import OUTCOMES, REVIEW_POLICIES, Definition, Outcome, Packs, ReviewPolicy, Rule
from .readers import Readers, changed_names

__all__ = ["Determination", "Engine", "Entry", "Verdict", "more_restrictive"]

_MOST_REMEMBERED: Final = 16_384
_MOST_BYTES: Final = 128 * 1024 * 1024
"""Of the verdicts remembered, with the facts that they rest on."""
_LONGEST_KEY: Final = 16_384
"""Bytes of the facts that a verdict rests on, some 5,000 as a rule: with longer ones it is worked out each time."""
_READ_AS_THEY_ARE: Final = frozenset({"exporter", "declared_eccn"})
"""Facts that a verdict rests on beside what conditions read."""
_PER_ITEM: Final = 100
"""Bytes of an entry, or of a term and its value, in a verdict."""
_RANK: Final[dict[Outcome, int]] = {outcome: rank for rank, outcome in enumerate(OUTCOMES)}


def more_restrictive(outcomes: Iterable[Outcome]) -> Outcome:
    """The most restrictive of ``outcomes``; ``no_license_required`` when there is none."""
    return OUTCOMES[max((_RANK[outcome] for outcome in outcomes), default=0)]


@dataclass(frozen=True, slots=True)
class Entry:
    """A rule that matched, or that could match (``certain`` false, outcome ``review``)."""

    rule: Rule
    authority: str
    outcome: Outcome
    flag: bool
    governs: bool
    certain: bool
    lifted: frozenset[str] = frozenset()
    """Ids of the rules that matched and that this one lifts."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say about the facts that they read."""

    entries: tuple[Entry, ...]
    defined: Mapping[str, Truth]
    definitions: tuple[Definition, ...]
    eccn: str | None
    text: Outcome
    enforced: Outcome
    governing: Outcome
    flagged: bool
    review_policy: ReviewPolicy | None
    """How an application for the licence that is needed is reviewed; None where none is needed or no rule says."""

    @property
    def rank(self) -> tuple[int, int, int, bool]:
        """Orders verdicts from least to most restrictive."""
        return _RANK[self.governing], _RANK[self.enforced], _RANK[self.text], self.flagged


@dataclass(frozen=True, slots=True)
class Determination:
    """The determination of one event at one rule time.

    Attributes:
        facts: the facts it rests on, those that follow from the rule time included.
        verdict: what the rules say.
        in_force: the longest span of rule time in which the same rules are in force.
        rule_time: nanoseconds, within the span.
    """

    facts: FactSet
    verdict: Verdict
    in_force: tuple[int, int | None]
    rule_time: int

    @property
    def destination(self) -> str | None:
        """The country that drives it."""
        country = self.facts.values.get("destination_country")
        return country if isinstance(country, str) else None

    @property
    def rule_ids(self) -> tuple[str, ...]:
        """Sorted ids of the rules that govern."""
        return tuple(entry.rule.id for entry in self.verdict.entries if entry.governs)

    def document(self) -> dict[str, JsonValue]:
        """The facts document, version 1."""
        verdict = self.verdict
        unsaid = {
            name
            for name, usual in SELDOM_FACTS.items()
            if self.facts.values.get(name) == usual and name not in self.facts.known_by
        }
        values: dict[str, JsonValue] = {name: self.facts.values.get(name) for name in BASE_FACTS if name not in unsaid}
        values |= verdict.defined
        known_by = {name: "definition" for name, truth in verdict.defined.items() if truth is not None}
        start, end = self.in_force
        return {
            "v": 1,
            "facts": values,
            "known_by": {**self.facts.known_by, **known_by},
            "in_force": {"from": str(start), "to": None if end is None else str(end)},
            "rules": [
                {
                    "authority": entry.authority,
                    "flag": entry.flag,
                    "governs": entry.governs,
                    "id": entry.rule.id,
                    "outcome": entry.outcome,
                }
                for entry in verdict.entries
            ],
            "text": verdict.text,
            "enforced": verdict.enforced,
            "governing": verdict.governing,
            "flagged": verdict.flagged,
            "destination": self.destination,
            "eccn": verdict.eccn,
        }

    def document_bytes(self) -> bytes:
        """The document as canonical JSON."""
        return canonical_json(self.document())


@dataclass(frozen=True, slots=True)
class _Segment:
    """A span of rule time in which neither rules nor Country Groups change."""

    start: int
    in_force: tuple[int, int | None]
    definitions: tuple[Definition, ...]
    rules: tuple[Rule, ...]


class Engine:
    """Evaluates packs over facts. Pure: same facts and time, same determination; not safe for concurrent calls.

    Verdicts are remembered, some 128 MiB of them at most.

    Args:
        packs: compiled packs.
        countries: names and groups of countries.
        adopted: packs whose proposals an officer adopted: they bind as company policy.
        boundaries: further moments, in nanoseconds, at which facts change.
    """

    def __init__(
        self,
        packs: Packs,
        countries: Countries,
        *,
        adopted: frozenset[str] = frozenset(),
        boundaries: Iterable[int] = (),
    ) -> None:
        self._countries = countries
        self._adopted = adopted
        dated: tuple[Definition | Rule, ...] = (*packs.definitions, *packs.rules)
        windows = [item.window for item in dated]
        changes = sorted(
            {0, *(window.start for window in windows), *(window.end for window in windows if window.end is not None)}
        )
        starts = sorted({*changes, *countries.boundaries, *boundaries})
        self._segments = _segments(starts, changes, packs)
        self.boundaries: tuple[int, ...] = tuple(starts)
        """Starts of the segments of rule time, in nanoseconds."""
        defined = {definition.fact for definition in packs.definitions}
        self._undefined: dict[str, Truth] = dict.fromkeys(sorted(defined), False)
        reads = frozenset().union(*(item.reads for item in dated))
        self._reads: tuple[str, ...] = tuple(sorted((reads | _READ_AS_THEY_ARE) - defined))
        self._verdicts: Memory[tuple[object, ...], Verdict] = Memory(_MOST_REMEMBERED, _MOST_BYTES)
        self._last: _Evaluated | None = None
        self._readers: dict[int, Readers] = {}
        self._groups: dict[tuple[int, str], tuple[str, ...] | None] = {}
        self.evaluated = 0
        """Verdicts computed; the rest came from memory."""

    def segment(self, instant: int) -> int:
        """Index of the segment in which ``instant`` lies."""
        return max(bisect.bisect_right(self.boundaries, instant) - 1, 0)

    def determine(self, candidates: Iterable[FactSet], instant: int) -> Determination:
        """The determination at ``instant`` (nanoseconds): of several candidates, the one that restricts most.

        ``candidates`` differ where evidence conflicts; the first of equals stands.
        """
        index = self.segment(instant)
        segment = self._segments[index]
        best: Determination | None = None
        for candidate in candidates:
            facts = self._completed(candidate, index)
            verdict = self._verdict(facts.values, index)
            if best is None or verdict.rank > best.verdict.rank:
                best = Determination(facts, verdict, segment.in_force, instant)
        if best is None:
            raise ValueError("no facts to determine")
        return best

    def _completed(self, candidate: FactSet, index: int) -> FactSet:
        """With what follows from the rule time, and what holds where nothing is said."""
        facts = candidate.copy()
        for name, usual in SELDOM_FACTS.items():
            facts.values.setdefault(name, usual)
        for name, country_name in GROUP_FACTS.items():
            countries = facts.values.get(country_name)
            if isinstance(countries, str):
                groups = self._groups_of(countries, index)
            elif isinstance(countries, tuple):
                each = [self._groups_of(country, index) for country in countries]
                groups = None if None in each else tuple(sorted({group for found in each for group in found or ()}))
            else:
                continue
            if groups is not None:
                facts.values[name] = groups
                facts.known_by[name] = "country_groups"
        return facts

    def _groups_of(self, country: str, index: int) -> tuple[str, ...] | None:
        key = index, country
        if key not in self._groups:
            self._groups[key] = self._countries.groups(country, self._segments[index].start)
        return self._groups[key]

    def _verdict(self, values: Mapping[str, FactValue], index: int) -> Verdict:
        segment = self._segments[index]
        read = tuple(map(values.get, self._reads))
        key = (segment.in_force[0], *read)
        verdict = self._verdicts.get(key)
        if verdict is None:
            last = self._last
            if last is not None and last.start == segment.in_force[0] and self._holds_again(last, read, values):
                verdict = last.verdict
            else:
                self.evaluated += 1
                verdict, truths = self._evaluate(dict(values), segment)
                self._last = _Evaluated(segment.in_force[0], read, truths, verdict)
            items = len(verdict.entries) + len(verdict.defined) + len(verdict.definitions)
            size = weigh(key)
            if size <= _LONGEST_KEY:
                self._verdicts.keep(key, verdict, size + _PER_ITEM * items)
        return verdict

    def _holds_again(self, last: _Evaluated, read: tuple[FactValue, ...], values: Mapping[str, FactValue]) -> bool:
        """Whether facts lead to the verdict worked out last, since no condition comes out otherwise.

        A definition reads only facts that are defined before it. So where none that reads a changed fact comes out
        otherwise, all defined facts are as they were, and what reads these alone comes out as it did.
        """
        changed = changed_names(self._reads, last.read, read)
        if not _READ_AS_THEY_ARE.isdisjoint(changed):
            return False
        return self._readers[last.start].hold_as_before(last.truths, {**values, **last.verdict.defined}, changed)

    def _evaluate(self, values: dict[str, FactValue], segment: _Segment) -> tuple[Verdict, list[Truth]]:
        """What the rules say, and how each definition and each rule of the segment has come out."""
        if segment.in_force[0] not in self._readers:
            of_rules = ((partial(_holds, rule), rule.reads) for rule in segment.rules)
            self._readers[segment.in_force[0]] = Readers(
                [*((definition.when, definition.reads) for definition in segment.definitions), *of_rules]
            )
        held, eccn, defined, of_definitions = _define(values, segment.definitions, self._undefined)
        values.update(defined)
        truths = [_holds(rule, values) for rule in segment.rules]
        matched = [
            (rule, self._authority(rule), truth)
            for rule, truth in zip(segment.rules, truths, strict=True)
            if truth is not False
        ]
        ids = {rule.id for rule, _, _ in matched}
        # What lifts says nothing where none of what it lifts could apply, and lifts only when it surely applies.
        matched = [
            (rule, authority, truth)
            for rule, authority, truth in matched
            if not (touches := rule.lifts | rule.reviews) or (truth and touches & ids)
        ]
        excepted: set[str] = set()
        lifted: set[str] = set()
        for rule, authority, truth in matched:
            if truth:
                (excepted if authority == "law" else lifted).update(rule.lifts)
        entries = tuple(
            Entry(
                rule,
                authority,
                rule.outcome if truth else "review",
                rule.flag if truth else False,
                authority != "proposal" and rule.id not in excepted and rule.id not in lifted,
                bool(truth),
                rule.lifts & ids,
            )
            for rule, authority, truth in sorted(matched, key=lambda item: item[0].id)
        )
        text = more_restrictive(e.outcome for e in entries if e.authority == "law" and e.rule.id not in excepted)
        enforced = more_restrictive(e.outcome for e in entries if e.governs and e.authority != "company_policy")
        governing = more_restrictive(e.outcome for e in entries if e.governs)
        entries = tuple(
            replace(e, governs=False) if e.governs and e.lifted and _RANK[e.outcome] < _RANK[governing] else e
            for e in entries
        )
        verdict = Verdict(
            entries,
            defined,
            held,
            eccn,
            text,
            enforced,
            governing,
            any(e.flag and e.governs for e in entries),
            _review_policy(entries) if governing == "license_required" else None,
        )
        return verdict, [*of_definitions, *truths]

    def _authority(self, rule: Rule) -> str:
        return "company_policy" if rule.authority == "proposal" and rule.pack in self._adopted else rule.authority


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """What was worked out last: under the rules in force since ``start``, of the facts ``read``."""

    start: int
    read: tuple[FactValue, ...]
    truths: list[Truth]
    verdict: Verdict


def _segments(starts: Iterable[int], changes: list[int], packs: Packs) -> list[_Segment]:
    found: list[_Segment] = []
    for start in starts:
        position = bisect.bisect_right(changes, start)
        in_force = (changes[position - 1], changes[position] if position < len(changes) else None)
        if found and found[-1].in_force == in_force:
            found.append(_Segment(start, in_force, found[-1].definitions, found[-1].rules))
            continue
        definitions = tuple(definition for definition in packs.definitions if definition.window.covers(start))
        rules = tuple(rule for rule in packs.rules if rule.window.covers(start))
        found.append(_Segment(start, in_force, definitions, rules))
    return found


def _holds(rule: Rule, values: Mapping[str, FactValue]) -> Truth:
    """Whether the rule applies: its condition, and for a letter that it is addressed to the exporter."""
    if rule.addressee is None:
        return rule.when(values)
    exporter = values.get("exporter")
    if exporter is not None and exporter != rule.addressee:
        return False
    truth = rule.when(values)
    return None if truth and exporter is None else truth


def _review_policy(entries: Iterable[Entry]) -> ReviewPolicy | None:
    """The strictest policy of the rules that ask for a licence, another rule's where it has taken its place."""
    asking = [
        entry.rule for entry in entries if entry.governs and entry.certain and entry.outcome == "license_required"
    ]
    replaced = frozenset().union(*(rule.reviews for rule in asking))
    policies = [rule.review_policy for rule in asking if rule.review_policy and rule.id not in replaced]
    return max(policies, key=REVIEW_POLICIES.index, default=None)


def _define(
    values: Mapping[str, FactValue], definitions: tuple[Definition, ...], undefined: Mapping[str, Truth]
) -> tuple[tuple[Definition, ...], str | None, dict[str, Truth], list[Truth]]:
    """The definitions that hold, the ECCN, the value of each defined fact, and how each definition has come out.

    A fact none of whose definitions is in force is false. The first ECCN in order stands, unless another before it
    could hold as well: then it cannot be told. Where no definition gives one or could, the declared one stands.
    """
    known: dict[str, FactValue] = {**values, **undefined}
    defined: dict[str, Truth] = dict(undefined)
    held: list[Definition] = []
    eccn: str | None = None
    open_eccns: set[str] = set()
    truths: list[Truth] = []
    for definition in definitions:
        truth = definition.when(known)
        truths.append(truth)
        earlier = defined[definition.fact]
        defined[definition.fact] = known[definition.fact] = (
            True if truth or earlier else (None if truth is None or earlier is None else False)
        )
        if truth:
            held.append(definition)
        if definition.eccn is not None and eccn is None:
            if truth and open_eccns <= {definition.eccn}:
                eccn = definition.eccn
            elif truth is None or truth:
                open_eccns.add(definition.eccn)
    declared = values.get("declared_eccn")
    if eccn is None and not open_eccns and isinstance(declared, str) and declared != UNDECLARED:
        eccn = declared
    return tuple(held), eccn, defined, truths
