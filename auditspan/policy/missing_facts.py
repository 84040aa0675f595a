"""The facts that a determination lacks: what somebody must find out so that `review` becomes an answer.

A rule whose condition is neither true nor false rests on facts that nobody knows. They follow from the rules, the
definitions in force and the facts themselves, so that the explanation and the cases
(``docs/decisions/0010-cases.md``) name the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from auditspan.semconv import AUDIT_ACTOR_ID

from .engine import Determination
from .facts import BASE_FACTS, GROUP_FACTS, INTERVALS, FactValue
from .packs import Definition, Packs, Rule

__all__ = ["MissingFacts"]

ACTOR: Final = "actor_party"
END_USER: Final = "end_user_party"
ACCELERATOR: Final = "accelerator_model"

_FIRST: Final = (ACTOR, END_USER)
"""Who it was comes before everything that a registry says of them."""
_BOUND_OF: Final = {bound: name for name, bounds in INTERVALS.items() for bound in bounds}
_ORDER: Final = {
    name: place
    for place, name in enumerate(dict.fromkeys((*_FIRST, *(_BOUND_OF.get(fact, fact) for fact in BASE_FACTS))))
}
_OF_THE_TABLE: Final = frozenset(
    {_BOUND_OF.get(name, name) for name, fact in BASE_FACTS.items() if "accelerators table" in fact.source}
)
"""What the accelerators table says of a model, intervals under their names."""


class MissingFacts:
    """Finds the missing facts of determinations made with ``packs``. Pure; remembers nothing of them."""

    def __init__(self, packs: Packs) -> None:
        self._definitions: dict[str, list[Definition]] = {}
        for definition in packs.definitions:
            self._definitions.setdefault(definition.fact, []).append(definition)

    def of_rule(self, rule: Rule, values: Mapping[str, FactValue], instant: int | None = None) -> frozenset[str]:
        """The declared facts that leave ``rule`` undecided.

        Empty where every fact is known and yet nothing can be told: a number within limits on both sides of a line.

        Args:
            rule: one whose condition is neither true nor false.
            values: the facts with the terms that packs define.
            instant: rule time in nanoseconds; without it, definitions of any time are looked at.
        """
        letter = {"exporter"} if rule.addressee is not None else frozenset[str]()
        return frozenset(self._unknown(rule.reads | letter, values, instant))

    def of(self, determination: Determination) -> tuple[str, ...]:
        """What to find out for a determination that is ``review``, the most basic fact first; else nothing.

        Facts of a party that nobody knows are that party (``actor_party``, ``end_user_party``), those of an accelerator
        that is in no table ``accelerator_model``, and those of an end user that is the actor the actor's. A number
        known within limits that do not decide has the name that rules compare (``tpp``).
        """
        verdict = determination.verdict
        if verdict.governing != "review":
            return ()
        values = {**determination.facts.values, **verdict.defined}
        found: set[str] = set()
        for entry in verdict.entries:
            if entry.governs and not entry.certain:
                unknown = self.of_rule(entry.rule, values, determination.rule_time)
                found |= unknown or self._undecided(entry.rule.reads, values, determination.rule_time)
        same = determination.facts.known_by.get(END_USER) == AUDIT_ACTOR_ID
        roots = {_root(_BOUND_OF.get(name, name), values, same) for name in found}
        if ACTOR in roots:
            # Where nobody else is named, the actor is the end user: whether somebody was, the facts do not say.
            roots.discard(END_USER)
        return tuple(sorted(roots, key=lambda name: (_ORDER.get(name, len(_ORDER)), name)))

    def _unknown(self, names: Iterable[str], values: Mapping[str, FactValue], instant: int | None) -> set[str]:
        found: set[str] = set()
        for name in self._read(names, values, instant):
            country = GROUP_FACTS.get(name)
            if values.get(name) is None:
                found.add(name if country is None or values.get(country) is not None else country)
        return found

    def _undecided(self, names: Iterable[str], values: Mapping[str, FactValue], instant: int | None) -> set[str]:
        bounds = self._read(names, values, instant)
        return {name for name, (low, high) in INTERVALS.items() if {low, high} & bounds and values[low] != values[high]}

    def _read(self, names: Iterable[str], values: Mapping[str, FactValue], instant: int | None) -> set[str]:
        """The declared facts that ``names`` rest on, through those definitions that could hold and do not surely."""
        found: set[str] = set()
        for name in names:
            if name not in self._definitions:
                found.add(name)
            elif values.get(name) is None:
                for definition in self._definitions[name]:
                    in_force = instant is None or definition.window.covers(instant)
                    if in_force and definition.when(values) is None:
                        found |= self._read(definition.reads, values, instant)
        return found


def _root(name: str, values: Mapping[str, FactValue], end_user_is_actor: bool) -> str:
    """The fact that must be known before ``name`` can be."""
    if name in _OF_THE_TABLE and values.get(ACCELERATOR) is None:
        return ACCELERATOR
    if name.startswith("end_user_"):
        if values.get(END_USER) is None:
            return END_USER if values.get(ACTOR) is not None else ACTOR
        if end_user_is_actor and (counterpart := f"actor_{name.removeprefix('end_user_')}") in BASE_FACTS:
            return counterpart
    if name == "destination_subdivision" and values.get("destination_country") is None:
        return "destination_country"
    if name.startswith("actor_") and values.get(ACTOR) is None:
        return ACTOR
    return name
