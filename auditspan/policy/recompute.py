"""A stored facts document judged again: from its facts and a rule time, under the packs of a reference.

What follows from the facts is computed anew: Country Groups, the terms that packs define, rules and outcomes. The
document comes out byte for byte when nothing changed. A fact that later versions declare is not in an earlier
document, and one that they no longer declare stays as it is: the names are those of the stored document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from auditspan.canonical import canonical_json
from auditspan.errors import AuditSpanError

from .engine import Determination, Engine, more_restrictive
from .facts import GROUP_FACTS, SELDOM_FACTS, FactSet
from .packs import Outcome, Packs

__all__ = [
    "InForce",
    "Recomputer",
    "Stated",
    "UnreadableFacts",
    "differences",
    "facts_in",
    "stated_by",
    "stated_in",
    "times_of",
]

_BEYOND_FACTS: Final = ("in_force", "rules", "text", "enforced", "governing", "flagged", "destination", "eccn")


class InForce(Protocol):
    """What an epoch brings into force: `auditspan.policy.rules.Rules`, or a whole reference."""

    @property
    def packs(self) -> Packs:
        """Compiled packs."""

    def engine(self) -> Engine:
        """A new engine over them."""


class UnreadableFacts(AuditSpanError):
    """A facts document is not as evidence format, section 6."""


@dataclass(frozen=True, slots=True)
class Stated:
    """What a facts document makes a header say, faults aside, and the two outcomes that it does not say."""

    text: Outcome
    enforced: Outcome
    governing: Outcome
    flagged: bool
    destination: str | None
    eccn: str | None
    rule_ids: tuple[str, ...]

    @property
    def at_least_review(self) -> Outcome:
        """What a header says where a fault demands it."""
        return more_restrictive((self.governing, "review"))


def times_of(basis: str, event: int, arrival: int) -> tuple[int, ...]:
    """The rule times, in nanoseconds, at which an event is judged, by the ``time_basis`` of its header."""
    return {"event": (event,), "arrival": (arrival,)}.get(basis, (event, arrival))


def differences(document: bytes, again: bytes) -> list[tuple[str, Any, Any]]:
    """Where two facts documents differ: name, value in ``document``, value in ``again``; empty for equal bytes.

    Both must be documents as section 6 of the evidence format; of a document of both times each part is compared.
    """
    if document == again:
        return []
    stored, made = json.loads(document), json.loads(again)
    pairs = list(zip(stored.get("both", [stored]), made.get("both", [made]), strict=False))
    found: list[tuple[str, Any, Any]] = []
    for one, other in pairs:
        for part in ("facts", "known_by"):
            names = sorted(one[part].keys() | other[part].keys())
            found += [
                (f"{part}.{name}", one[part].get(name), other[part].get(name))
                for name in names
                if one[part].get(name) != other[part].get(name)
            ]
        found += [(name, one.get(name), other.get(name)) for name in _BEYOND_FACTS if one.get(name) != other.get(name)]
    return found or [("facts", "other bytes", "canonical JSON")]


def facts_in(reference: InForce, document: bytes) -> list[FactSet]:
    """The facts that a document was judged from, without what follows from them; two where both times were judged.

    Raises:
        UnreadableFacts: it is no facts document.
    """
    follows = {definition.fact for definition in reference.packs.definitions} | GROUP_FACTS.keys()
    return [_facts(single, follows) for single in _singles(document)]


def stated_in(document: bytes) -> Stated:
    """What a document states (evidence format, section 6).

    Raises:
        UnreadableFacts: it is no facts document.
    """
    singles = _singles(document)
    try:
        last = singles[-1]
        return Stated(
            more_restrictive(one["text"] for one in singles),
            more_restrictive(one["enforced"] for one in singles),
            more_restrictive((*(one["governing"] for one in singles), *(("review",) if len(singles) > 1 else ()))),
            any(one["flagged"] for one in singles),
            last["destination"],
            last["eccn"],
            tuple(sorted({rule["id"] for one in singles for rule in one["rules"] if rule["governs"]})),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _unreadable(error) from error


class Recomputer:
    """Judges stored documents under one reference. Not safe for concurrent calls."""

    def __init__(self, reference: InForce) -> None:
        self.engine: Engine = reference.engine()
        self._terms = frozenset(definition.fact for definition in reference.packs.definitions)
        self._follows = self._terms | GROUP_FACTS.keys()

    def determinations(self, document: bytes, times: Sequence[int]) -> list[Determination]:
        """The determinations of a document's facts at the rule times.

        A document of both times is judged with the facts of each at its own.

        Raises:
            UnreadableFacts: it is no facts document.
        """
        return self._judged(_singles(document), times)

    def document(self, document: bytes, times: Sequence[int]) -> bytes:
        """What the document is when it is judged again: the same bytes, or something changed.

        Raises:
            UnreadableFacts: it is no facts document.
        """
        stored = _singles(document)
        again: list[Any] = [
            self._with_stored_names(one, determination)
            for one, determination in zip(
                [stored[-1]] * len(times) if len(stored) != len(times) else stored,
                self._judged(stored, times),
                strict=True,
            )
        ]
        return canonical_json(again[0] if len(again) == 1 else {"v": 1, "both": again})

    def _judged(self, stored: Sequence[Mapping[str, Any]], times: Sequence[int]) -> list[Determination]:
        facts = [_facts(single, self._follows) for single in stored]
        if len(facts) != len(times):
            facts = [facts[-1]] * len(times)
        return [self.engine.determine([each], time) for each, time in zip(facts, times, strict=True)]

    def _with_stored_names(self, stored: Mapping[str, Any], determination: Determination) -> dict[str, Any]:
        document = determination.document()
        values: Any = document["facts"]
        known_by: Any = document["known_by"]
        names = stored["facts"].keys() | self._terms
        undeclared = {name: value for name, value in stored["facts"].items() if name not in values}
        document["facts"] = {name: value for name, value in values.items() if name in names} | undeclared
        document["known_by"] = {name: how for name, how in known_by.items() if name in names} | {
            name: how for name, how in stored["known_by"].items() if name not in values
        }
        return document


def stated_by(determinations: Sequence[Determination]) -> Stated:
    """What determinations of one event make its header say."""
    verdicts = [determination.verdict for determination in determinations]
    last = determinations[-1]
    return Stated(
        more_restrictive(verdict.text for verdict in verdicts),
        more_restrictive(verdict.enforced for verdict in verdicts),
        more_restrictive((*(verdict.governing for verdict in verdicts), *(("review",) if len(verdicts) > 1 else ()))),
        any(verdict.flagged for verdict in verdicts),
        last.destination,
        last.verdict.eccn,
        tuple(sorted({name for determination in determinations for name in determination.rule_ids})),
    )


def _singles(document: bytes) -> list[dict[str, Any]]:
    try:
        data = json.loads(document)
        if data["v"] != 1:
            raise ValueError(f"version {data['v']}")
        singles: list[dict[str, Any]] = data.get("both", [data])
        if not singles or not all(
            isinstance(one["facts"], dict) and isinstance(one["known_by"], dict) for one in singles
        ):
            raise ValueError("no facts")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(error) from error
    return singles


def _facts(document: Mapping[str, Any], follows: frozenset[str] | set[str]) -> FactSet:
    facts = FactSet()
    for name, value in document["facts"].items():
        if name not in follows and value is not None:
            facts.values[name] = tuple(value) if isinstance(value, list) else value
        elif name in SELDOM_FACTS:
            facts.values[name] = None  # not known, unlike one that is not there
    facts.known_by.update({name: how for name, how in document["known_by"].items() if name in facts.values})
    return facts


def _unreadable(error: Exception) -> UnreadableFacts:
    return UnreadableFacts(
        f"A facts document is not as evidence format v1, section 6: {type(error).__name__}: {error}",
        remedy="See whether the store was altered: auditspan doctor --full.",
    )
