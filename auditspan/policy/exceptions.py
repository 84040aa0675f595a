"""Licence exceptions as considered for one determination: each with why it applies, or why it does not.

An exception is considered where it is relied on, and where it is for the item and the place and a rule that it would
lift asks for something. What its conditions are stands in the packs (15 CFR part 740): nothing here knows one by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .conditions import Truth
from .engine import Determination
from .facts import FactValue
from .missing_facts import Unknown
from .packs import Packs, Requirement, Rule
from .rule_time import washington

__all__ = ["Considered", "Met", "considered", "relied_on"]


@dataclass(frozen=True, slots=True)
class Met:
    """A requirement of an exception, and whether it is met; None where it cannot be told, for want of these facts."""

    requirement: Requirement
    holds: Truth
    missing_facts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `auditspan policy explain --json` prints it."""
        return {
            "says": self.requirement.says,
            "holds": self.holds,
            "scope": self.requirement.scope,
            "general": self.requirement.general,
            "missing_facts": list(self.missing_facts),
            "citations": list(self.requirement.citations),
            "status": self.requirement.status,
        }


@dataclass(frozen=True, slots=True)
class Considered:
    """One exception.

    Attributes:
        relied_on: whether the exporter relies on it; None where what is relied on is not known.
        in_force: whether it is at the rule time.
        applies: whether it is relied on and all requirements are met; None where that cannot be told.
        lifts: ids of the rules that ask for a licence, or the like, and that it lifts or would lift; sorted.
        requirements: its own and then the general ones.
    """

    rule: Rule
    relied_on: Truth
    in_force: bool
    applies: Truth
    lifts: tuple[str, ...]
    requirements: tuple[Met, ...]

    @property
    def why(self) -> str:
        """Why it applies or does not, as one sentence, or two."""
        symbol = self.rule.exception
        failed = [met.requirement.says for met in self.requirements if met.holds is False]
        open_ = [_open(met) for met in self.requirements if met.holds is None]
        if not self.in_force:
            return f"{symbol} does not apply: {_not_in_force(self.rule)}."
        if self.applies and self.lifts:
            return f"{symbol} applies: it is relied on, and every condition is met. It sets aside {_and(self.lifts)}."
        if self.applies:
            return f"{symbol} is relied on and its conditions are met, but nothing asks for a licence that it lifts."
        if self.relied_on is not False:
            told = (
                f"{symbol} is relied on"
                if self.relied_on
                else f"What is relied on cannot be read, so whether {symbol} is is not known"
            )
            if failed:
                return f"{told}, and does not apply. Not met: {'; '.join(failed)}." + (
                    f" Not known: {'; '.join(open_)}." if open_ else ""
                )
            return f"{told}; whether it applies cannot be told." + (f" Not known: {'; '.join(open_)}." if open_ else "")
        if failed:
            return f"{symbol} is not relied on, and would not apply. Not met: {'; '.join(failed)}."
        if open_:
            return f"{symbol} is not relied on; whether it could be turns on: {'; '.join(open_)}."
        return f"{symbol} does not apply, since it is not relied on; its other conditions are met."

    def to_json(self) -> dict[str, Any]:
        """As `auditspan policy explain --json` prints it."""
        return {
            "exception": self.rule.exception,
            "rule": self.rule.id,
            "title": self.rule.title,
            "relied_on": self.relied_on,
            "in_force": self.in_force,
            "applies": self.applies,
            "lifts": list(self.lifts),
            "why": self.why,
            "citations": list(self.rule.citations),
            "status": self.rule.status,
            "requirements": [met.to_json() for met in self.requirements],
        }


def considered(packs: Packs, determination: Determination, unknown: Unknown) -> tuple[Considered, ...]:
    """The exceptions considered: those relied on first, then in the order of the packs.

    Args:
        packs: those that the determination was made with.
        determination: at its own rule time.
        unknown: what is unknown of its facts.
    """
    exceptions = [rule for rule in packs.rules if rule.exception is not None]
    return tuple(sorted(_found(exceptions, determination, unknown), key=lambda one: one.relied_on is not True))


def relied_on(packs: Packs, determination: Determination, unknown: Unknown) -> tuple[Considered, ...]:
    """Those of `considered` that the exporter relies on, without a look at the others: there are many."""
    declared = determination.facts.values.get("declared_license")
    exceptions = [rule for rule in packs.rules if rule.exception is not None and rule.exception == declared]
    return tuple(_found(exceptions, determination, unknown))


def _found(exceptions: Sequence[Rule], determination: Determination, unknown: Unknown) -> Iterator[Considered]:
    values: Mapping[str, FactValue] = {**determination.facts.values, **determination.verdict.defined}
    matched = {entry.rule.id for entry in determination.verdict.entries}
    declared = values.get("declared_license")
    in_force = [rule for rule in exceptions if rule.window.covers(determination.rule_time)]
    known = {rule.exception for rule in in_force}
    for rule in exceptions:
        relied = None if declared is None else declared == rule.exception
        if rule not in in_force:
            if relied and rule.exception not in known:
                known.add(rule.exception)
                yield Considered(rule, True, False, False, (), ())
            continue
        requirements = tuple(_met(requirement, values, unknown) for requirement in rule.requirements)
        lifts = tuple(sorted(rule.lifts & matched))
        act = rule.considered_when is None or rule.considered_when(values)
        available = act is not False and all(met.holds is not False for met in requirements if met.requirement.scope)
        if relied or (available and lifts):
            yield Considered(rule, relied, True, rule.when(values), lifts, requirements)


def _met(requirement: Requirement, values: Mapping[str, FactValue], unknown: Unknown) -> Met:
    holds = requirement.when(values)
    return Met(requirement, holds, () if holds is not None else tuple(sorted(unknown.of(requirement.reads))))


def _open(met: Met) -> str:
    missing = ", ".join(name.replace("_", " ") for name in met.missing_facts)
    return f"{met.requirement.says}{f' (unknown: {missing})' if missing else ''}"


def _not_in_force(rule: Rule) -> str:
    until = "" if rule.window.end is None else f" to {washington(rule.window.end)}"
    return f"it is in force from {washington(rule.window.start)}{until} only"


def _and(names: Iterable[str]) -> str:
    return ", ".join(names)
