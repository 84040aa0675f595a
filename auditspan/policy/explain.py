"""A determination as a sentence that a person would write: who, what, where to, which rule, why."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from .countries import Countries
from .engine import Determination, Entry
from .exceptions import relied_on
from .facts import GROUP_FACTS, INTERVALS, FactValue
from .missing_facts import MissingFacts, Unknown
from .owned_parties import Ownership
from .ownership_words import OWNERSHIP_FACTS, OwnershipWords
from .packs import QUESTIONS, Definition, Packs, Rule
from .parties import Parties
from .screened_facts import screening_words

__all__ = ["Explainer"]

_PLACEHOLDER: Final = re.compile(r"\{([a-z0-9_]+)\}")
_SPACE: Final = re.compile(r"\s+")
_ACTS: Final = {
    "access": "used a model",
    "transfer": "transferred {item}",
    "provision": "provisioned {item}",
    "inventory": "holds {item}",
    "release": "released {item}",
}
_ITEMS: Final = {
    "model": "a model",
    "model_weights": "model weights",
    "memory": "memory",
    "technology": "technology",
    "source_code": "source code",
}
_OUTCOMES: Final = {
    "no_license_required": "no licence required",
    "exception": "licence exception",
    "review": "review",
    "license_required": "licence required",
    "prohibited": "prohibited",
}


class Explainer:
    """Renders determinations with the names of countries and parties."""

    def __init__(
        self, packs: Packs, countries: Countries, parties: Parties, ownership: Ownership | None = None
    ) -> None:
        self._countries = countries
        self._parties = parties
        self._owners = None if ownership is None else OwnershipWords(ownership, self._country)
        self._missing = MissingFacts(packs)
        self._packs = packs
        self._terms: dict[str, frozenset[str]] = {}
        """What each defined term rests on, other terms resolved."""
        readers: tuple[Rule | Definition, ...] = (*packs.rules, *packs.definitions)
        self._read: frozenset[str] = frozenset().union(*(item.reads for item in readers))
        for definition in packs.definitions:
            self._terms[definition.fact] = self._terms.get(definition.fact, frozenset()) | self._rests_on(
                definition.reads
            )

    def why(self, determination: Determination) -> str:
        """One paragraph of plain text."""
        verdict = determination.verdict
        values = {**determination.facts.values, **verdict.defined}
        among = self._missing.among(values)
        entries = sorted(verdict.entries, key=lambda entry: QUESTIONS.index(entry.rule.question))
        deciding = [entry for entry in entries if entry.governs and entry.outcome == verdict.governing]
        others = [entry for entry in entries if entry.governs and entry not in deciding]
        beside = [entry for entry in entries if not entry.governs]
        sentences = [f"{self._who_did_what(values, verdict.eccn)}: {_OUTCOMES[verdict.governing]}."]
        sentences += [self._entry(entry, values, among) for entry in deciding]
        if not verdict.entries:
            sentences.append("No rule in force on that day catches it.")
        sentences += [self._entry(entry, values, among) for entry in others]
        if verdict.text != verdict.governing:
            sentences.append(f"By text: {_OUTCOMES[verdict.text]}; as enforced: {_OUTCOMES[verdict.enforced]}.")
        sentences += [self._beside(entry, values, among) for entry in beside]
        for one in relied_on(self._packs, determination, among):
            if not (one.applies and one.lifts):  # where it applies, its rule has spoken
                sentences.append(f"Licence exception {one.why} [{one.rule.id}: {'; '.join(one.rule.citations)}]")
        sentences += self.owners(determination)
        sentences += self.screened(determination)
        if (
            any(self._rests_on_groups(entry) for entry in deciding)
            and determination.rule_time < self._countries.verified_from
        ):
            sentences.append(f"Country Groups before {self._countries.version} rest on secondary knowledge.")
        return _SPACE.sub(" ", " ".join(sentences))

    def owners(self, determination: Determination, of: frozenset[str] = OWNERSHIP_FACTS) -> list[str]:
        """The chains of owners that rules which matched rest on; none where they rest on what somebody stated."""
        if self._owners is None:
            return []
        values = {**determination.facts.values, **determination.verdict.defined}
        read = frozenset().union(*(self._rests_on(entry.rule.reads) for entry in determination.verdict.entries))
        return self._owners.sentences(values, determination.rule_time, read & of)

    def screened(self, determination: Determination) -> list[str]:
        """Which entries of the screening list rules that matched rest on: by which name, with which score."""
        read = frozenset().union(*(self._rests_on(entry.rule.reads) for entry in determination.verdict.entries))
        return screening_words(determination.facts.values, determination.facts.known_by, read)

    def citations(self, determination: Determination) -> tuple[str, ...]:
        """The sources of a determination, in order, each once.

        First those of the rules that govern and of the definitions they read that hold. Then, where the text asks for
        more than is enforced, those of the rules that make the difference. Last, of what holds whatever the rules ask:
        the classification, and what no rule reads.
        """
        verdict = determination.verdict
        governing = [entry.rule for entry in verdict.entries if entry.governs]
        if verdict.text != verdict.enforced:
            governing += [entry.rule for entry in verdict.entries if entry.lifted and not entry.governs]
        reads = frozenset().union(*(rule.reads for rule in governing))
        held = [definition for definition in verdict.definitions if definition.fact in reads]
        beside = [one for one in verdict.definitions if one.eccn is not None or one.fact not in self._read]
        quoted: tuple[Rule | Definition, ...] = (*governing, *held, *beside)
        return tuple(dict.fromkeys(citation for item in quoted for citation in item.citations))

    def _who_did_what(self, values: Mapping[str, FactValue], eccn: str | None) -> str:
        actor, end_user = values.get("actor_party"), values.get("end_user_party")
        who = self._party(actor) if actor else "An actor that the party registry does not know"
        act = str(values.get("act") or "did something with {item}")
        text = f"{who} {_ACTS.get(act, act).replace('{item}', self._item(values, eccn))}"
        if end_user and end_user != actor:
            text += f" for {self._party(end_user)}"
        preposition = {"access": "from", "transfer": "to"}.get(act, "in")
        text += f" {preposition} {self._render('destination_country', values, 'an unknown country')}"
        candidates = values.get("destination_candidates")
        if isinstance(candidates, tuple) and len(candidates) > 1:
            names = ", ".join("one that cannot be told" if code == "?" else self._country(code) for code in candidates)
            text += f" (evidence names {names}; the one that restricts most is judged)"
        return text

    def _item(self, values: Mapping[str, FactValue], eccn: str | None) -> str:
        kind = str(values.get("item_kind"))
        if kind in _ITEMS:
            return f"{_ITEMS[kind]} ({eccn})" if eccn else _ITEMS[kind]
        model = values.get("accelerator_model") or "accelerators of an unknown model"
        quantity, tpp = values.get("quantity"), values.get("tpp_low")
        details = [f"TPP {tpp}" if tpp is not None else "TPP unknown", eccn or "classification undetermined"]
        # A unit may be a machine with several accelerators: what is named here are the accelerators.
        per_unit = values.get("accelerators_per_unit") or 1
        counted = f"{quantity * per_unit} × " if isinstance(quantity, int) and isinstance(per_unit, int) else ""
        return f"{counted}{model} ({', '.join(details)})"

    def _entry(self, entry: Entry, values: Mapping[str, FactValue], among: Unknown) -> str:
        rule = entry.rule
        policy = f", {rule.review_policy.replace('_', ' ')}" if rule.review_policy and entry.certain else ""
        source = (
            f"[{rule.id}: {'; '.join(rule.citations)}{policy}{'' if rule.status == 'verified' else f', {rule.status}'}]"
        )
        if entry.certain:
            return f"{self._fill(rule.explanation, values)} {source}"
        unknown = ", ".join(sorted(name.replace("_", " ") for name in among.of_rule(rule)))
        because = f"unknown: {unknown}" if unknown else "it cannot be told from what is known"
        return f"It cannot be excluded that this rule applies: {rule.title} ({because}) {source}"

    def _beside(self, entry: Entry, values: Mapping[str, FactValue], among: Unknown) -> str:
        if entry.lifted:
            return f"Set aside by what follows: {', '.join(sorted(entry.lifted))}. {self._entry(entry, values, among)}"
        word = "Proposal, in shadow" if entry.authority == "proposal" else "Does not govern"
        return f"{word}: {_OUTCOMES[entry.outcome]}. {self._entry(entry, values, among)}"

    def _rests_on(self, names: frozenset[str]) -> frozenset[str]:
        return frozenset().union(*(self._terms.get(name, {name}) for name in names))

    def _rests_on_groups(self, entry: Entry) -> bool:
        return not self._rests_on(entry.rule.reads).isdisjoint(GROUP_FACTS)

    def _fill(self, template: str, values: Mapping[str, FactValue]) -> str:
        replace: Callable[[re.Match[str]], str] = lambda match: self._render(match.group(1), values)  # noqa: E731
        return _PLACEHOLDER.sub(replace, template)

    def _render(self, name: str, values: Mapping[str, FactValue], unknown: str = "unknown") -> str:
        if name in INTERVALS:
            low, high = (values.get(bound) for bound in INTERVALS[name])
            return unknown if low is None or high is None else str(low)
        value = values.get(name)
        if value is None:
            return unknown
        if isinstance(value, tuple):
            return ", ".join(value) or "none"
        if name.endswith(("_country", "_nationality")):
            return self._country(str(value))
        if name.endswith("_party"):
            return self._party(value)
        return str(value)

    def _country(self, code: str) -> str:
        name = self._countries.names.get(code)
        return f"{name} ({code})" if name else code

    def _party(self, identifier: FactValue) -> str:
        party = self._parties.by_id(identifier) if isinstance(identifier, str) else None
        return f"{party.name} ({party.id})" if party else f"{identifier}"
