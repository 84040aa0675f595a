"""The facts that a determination lacks: what somebody must find out so that `review` becomes an answer.

A rule whose condition is neither true nor false rests on facts that nobody knows. They follow from the rules, the
definitions in force and the facts themselves, so that the explanation and the cases
(``docs/decisions/0010-cases.md``) name the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from auditspan.semconv import AUDIT_ACTOR_ID

from .engine import Determination
from .facts import BASE_FACTS, GROUP_FACTS, INTERVALS, FactValue
from .packs import Definition, Packs, Rule

__all__ = ["MissingFacts", "Unknown"]

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
        self._definitions = packs.definitions

    def among(self, values: Mapping[str, FactValue], instant: int | None = None) -> Unknown:
        """What is unknown of these facts, to ask of one rule after the other.

        Args:
            values: the facts with the terms that packs define.
            instant: rule time in nanoseconds; without it, definitions of any time are looked at.
        """
        return Unknown(self._definitions, values, instant)

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
        among = self.among(values, determination.rule_time)
        found: set[str] = set()
        for entry in verdict.entries:
            if entry.governs and not entry.certain:
                found |= among.of_rule(entry.rule) or among.undecided(entry.rule)
        same = determination.facts.known_by.get(END_USER) == AUDIT_ACTOR_ID
        roots = {_root(_BOUND_OF.get(name, name), values, same) for name in found}
        if ACTOR in roots:
            # Where nobody else is named, the actor is the end user: whether somebody was, the facts do not say.
            roots.discard(END_USER)
        return tuple(sorted(roots, key=lambda name: (_ORDER.get(name, len(_ORDER)), name)))


class Unknown:
    """What leaves rules undecided by one set of facts.

    What a term rests on is found once for all rules, and terms in the order in which packs define them: each reads
    those before it alone. So the work grows with what is written in the packs, however their terms build upon each
    other.
    """

    def __init__(
        self, definitions: Sequence[Definition], values: Mapping[str, FactValue], instant: int | None = None
    ) -> None:
        self._values = values
        self._rests: dict[str, frozenset[str]] = {}
        """The declared facts that a defined term rests on; none where it is known."""
        for definition in definitions:
            rests = self._rests.setdefault(definition.fact, frozenset())
            in_force = instant is None or definition.window.covers(instant)
            # Only through those that could hold and do not surely.
            if values.get(definition.fact) is None and in_force and definition.when(values) is None:
                self._rests[definition.fact] = rests | self._read(definition.reads)

    def of_rule(self, rule: Rule) -> frozenset[str]:
        """The declared facts that leave ``rule``, whose condition is neither true nor false, undecided.

        Empty where every fact is known and yet nothing can be told: a number within limits on both sides of a line.
        """
        letter = {"exporter"} if rule.addressee is not None else frozenset[str]()
        return self.of(rule.reads | letter)

    def of(self, reads: Iterable[str]) -> frozenset[str]:
        """The declared facts that are not known of those that a condition reads, or that its terms rest on."""
        found: set[str] = set()
        for name in self._read(reads):
            country = GROUP_FACTS.get(name)
            if self._values.get(name) is None:
                found.add(name if country is None or self._values.get(country) is not None else country)
        return frozenset(found)

    def undecided(self, rule: Rule) -> frozenset[str]:
        """The numbers that ``rule`` rests on and that are known within limits only."""
        bounds = self._read(rule.reads)
        return frozenset(
            name
            for name, (low, high) in INTERVALS.items()
            if {low, high} & bounds and self._values[low] != self._values[high]
        )

    def _read(self, names: Iterable[str]) -> frozenset[str]:
        return frozenset().union(*(self._rests.get(name, (name,)) for name in names))


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
