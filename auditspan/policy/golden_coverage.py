"""What golden cases leave untried of the packs they are for.

For every rule there is a case in which it surely applies, and one of the same act, while it is in force, in which it
surely does not. For every number in a condition there is a case at it and one right beside it. For every day on which
a rule begins or ends there is a case on the first day and one on the day before; what has held since 1970-01-01 has
no first day. For every licence exception there is a case in which it is relied on and cannot be told, and for each
requirement of its own one in which nothing but this fails; for what all exceptions ask for, one with any of them.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .codes import atoms
from .engine import Determination
from .facts import INTERVALS, FactValue
from .golden import Case, Judge
from .packs import Definition, Rule
from .reference import Reference
from .rule_time import SINCE_EVER, WASHINGTON
from .yaml_text import load

__all__ = ["Missing", "coverage"]

_HOUR: Final = 3600 * 10**9
_DAY: Final = 24 * _HOUR
_LONGEST_DAY: Final = 25 * _HOUR
"""The day on which clocks go back."""
_COMPARISON: Final = re.compile(r"^\s*([a-z][a-z0-9_]*)\s*(>=|<=|<|>)\s*(\d{1,16})\s*$")
_TURNED: Final = re.compile(r"^\s*(\d{1,16})\s*(>=|<=|<|>)\s*([a-z][a-z0-9_]*)\s*$")
_MIRROR: Final = {">=": "<=", "<=": ">=", "<": ">", ">": "<"}
_COMPARE: Final[Mapping[str, Callable[[int, int], bool]]] = {
    ">=": int.__ge__,
    "<=": int.__le__,
    "<": int.__lt__,
    ">": int.__gt__,
}


@dataclass(frozen=True, slots=True, order=True)
class Missing:
    """A case that is not there: of which rule or definition, and what it would have to be."""

    id: str
    kind: Literal["applies", "does not apply", "number", "first day", "day before", "requirement", "unknown"]
    wanted: str


@dataclass(frozen=True, slots=True)
class _Judged:
    """A case with its determination, and the rules that surely apply or surely do not, of those in force."""

    case: Case
    determination: Determination
    applies: frozenset[str]
    possible: frozenset[str]

    def fact(self, name: str) -> FactValue:
        return self.determination.facts.values.get(name)

    def number(self, name: str) -> int | None:
        """The value of a fact, or of both ends of an interval where they are one."""
        low, high = (self.fact(bound) for bound in INTERVALS.get(name, (name, name)))
        return low if isinstance(low, int) and not isinstance(low, bool) and low == high else None


def coverage(
    reference: Reference, cases: Iterable[Case], packs: Iterable[str] | None = None, *, adjacent: bool = True
) -> list[Missing]:
    """The cases that are missing, sorted.

    Args:
        reference: with the packs.
        cases: all of them.
        packs: ids of the packs that they are for; all of the reference when absent.
        adjacent: a number wants one case at its own value and one at the next beyond the line; otherwise any case on
            either side will do.

    Raises:
        PolicyError: a case that cannot be judged.
    """
    judge = Judge(reference)
    judged = [_judged(judge, case) for case in cases]
    wanted = set(reference.packs.versions if packs is None else packs)
    dated: list[Rule | Definition] = [rule for rule in reference.packs.rules if rule.pack in wanted]
    dated += [definition for definition in reference.packs.definitions if definition.pack in wanted]
    comparisons = _comparisons(reference, wanted)
    missing: list[Missing] = []
    for item in dated:
        in_force = [one for one in judged if item.window.covers(one.case.instant)]
        if isinstance(item, Rule):
            missing += _rule(item, in_force)
            missing += _days(item, judged)
        for name, operator, number in comparisons.get(item.id, ()):
            missing += _number(item.id, name, operator, number, in_force, adjacent)
    missing += _exceptions([rule for rule in reference.packs.rules if rule.pack in wanted], judged)
    return sorted(set(missing))


def _judged(judge: Judge, case: Case) -> _Judged:
    determination = judge.determination(case)
    entries = determination.verdict.entries
    return _Judged(
        case,
        determination,
        frozenset(entry.rule.id for entry in entries if entry.certain),
        frozenset(entry.rule.id for entry in entries),
    )


def _rule(rule: Rule, in_force: Sequence[_Judged]) -> Iterator[Missing]:
    held = [one for one in in_force if rule.id in one.applies]
    if not held:
        yield Missing(rule.id, "applies", "a case in which it surely applies")
    acts = {one.fact("act") for one in held}
    if not any(rule.id not in one.possible and (not held or one.fact("act") in acts) for one in in_force):
        yield Missing(rule.id, "does not apply", "a case of the same act in which it surely does not apply")


def _exceptions(rules: Sequence[Rule], judged: Sequence[_Judged]) -> Iterator[Missing]:
    """Of each exception every requirement fails once alone, and it is open once."""
    failing: dict[str, set[tuple[str, str]]] = {}
    for rule in (rule for rule in rules if rule.exception is not None):
        alone = failing.setdefault(rule.pack, set())
        is_open = False
        for one in judged:
            if not rule.window.covers(one.case.instant) or one.fact("declared_license") != rule.exception:
                continue
            values = {**one.determination.facts.values, **one.determination.verdict.defined}
            is_open = is_open or rule.when(values) is None
            truths = [(requirement, requirement.when(values)) for requirement in rule.requirements]
            not_met = [(requirement, truth) for requirement, truth in truths if truth is not True]
            if len(not_met) == 1 and not_met[0][1] is False:
                alone.add(("" if not_met[0][0].general else rule.id, not_met[0][0].says))
        if not is_open:
            yield Missing(rule.id, "unknown", "a case in which it is relied on and cannot be told")
        for requirement in rule.requirements:
            if not requirement.general and (rule.id, requirement.says) not in alone:
                yield Missing(rule.id, "requirement", f"a case in which alone this fails: {requirement.says}")
    for pack, alone in failing.items():
        general = {one.says for rule in rules if rule.pack == pack for one in rule.requirements if one.general}
        for says in sorted(says for says in general if ("", says) not in alone):
            yield Missing(pack, "requirement", f"a case with an exception in which alone this fails: {says}")


def _days(rule: Rule, judged: Sequence[_Judged]) -> Iterator[Missing]:
    acts = {one.fact("act") for one in judged if rule.id in one.applies}
    start, end = rule.window.start, rule.window.end
    sides: list[tuple[Literal["first day", "day before"], int, int, bool]] = []
    if start > SINCE_EVER:
        sides += [("first day", start, start + _DAY, True), ("day before", start - _LONGEST_DAY, start, False)]
    if end is not None:
        sides += [("first day", end, end + _DAY, False), ("day before", end - _LONGEST_DAY, end, True)]
    for kind, begin, until, in_force in sides:
        near = [one for one in judged if begin <= one.case.instant < until and one.fact("act") in acts]
        if not any(not in_force or rule.id in one.applies for one in near):
            does = "in which it applies" if in_force else "of the same act"
            day = f"from {_washington(begin)} on" if kind == "first day" else f"before {_washington(until)}"
            yield Missing(rule.id, kind, f"a case {does} within the day {day}")


def _number(
    identifier: str, name: str, operator: str, number: int, in_force: Sequence[_Judged], adjacent: bool
) -> Iterator[Missing]:
    values = {value for one in in_force if (value := one.number(name)) is not None}
    holds = _COMPARE[operator]
    if adjacent:
        beside = _before(name, number) if operator in (">=", "<") else number + 1
        wanted = {number: f"{name} = {number}", beside: f"{name} = {beside}"}
        for value, text in wanted.items():
            if value not in values and value >= 0:
                yield Missing(identifier, "number", f"a case with {text}, for `{name} {operator} {number}`")
        return
    for side in (True, False):
        if not any(holds(value, number) is side for value in values):
            does = "holds" if side else "does not hold"
            yield Missing(identifier, "number", f"a case in which `{name} {operator} {number}` {does}")


def _before(name: str, number: int) -> int:
    """The value right before ``number``; of a fact that is a day written YYYYMMDD, the day before."""
    if name.endswith("_date"):
        try:
            day = datetime.datetime.strptime(str(number), "%Y%m%d").replace(tzinfo=WASHINGTON)
        except ValueError:
            return number - 1
        return int((day - datetime.timedelta(days=1)).strftime("%Y%m%d"))
    return number - 1


def _comparisons(reference: Reference, packs: set[str]) -> dict[str, list[tuple[str, str, int]]]:
    """The comparisons with a number, by the id of the rule or definition whose condition has them."""
    found: dict[str, list[tuple[str, str, int]]] = {}
    for artifact in reference.artifacts:
        document = load(artifact.content, artifact.name) if artifact.kind == "pack" else None
        if document is None or document.data["pack"] not in packs:
            continue
        for path, text in atoms(document):
            if match := _COMPARISON.match(text):
                name, operator, number = match.groups()
            elif match := _TURNED.match(text):
                number, turned, name = match.groups()
                operator = _MIRROR[turned]
            else:
                continue
            kind, index = path[0], path[1]
            identifier = document.data[kind][index].get("id", document.data["pack"])
            found.setdefault(identifier, []).append((name, operator, int(number)))
    return found


def _washington(instant: int) -> str:
    return datetime.datetime.fromtimestamp(instant // 10**9, WASHINGTON).strftime("%Y-%m-%dT%H:%M")
