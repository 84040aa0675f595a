"""A determination as a person would argue it, question by question, each answer with its source.

The order is that of the regulations: is the item subject to the EAR, how is it classified, where does it go, to whom
and for what, does a list name a party, does an exception or an exclusion apply, and what follows: is a licence needed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from auditspan.canonical import JsonValue

from .engine import Determination, Entry
from .exceptions import Considered, considered
from .explain import Explainer
from .facts import BASE_FACTS, INTERVALS, UNDECLARED, FactValue
from .missing_facts import Unknown
from .ownership_words import AMOUNTS, PARENTS
from .packs import Outcome, Question, Window
from .reference import Reference
from .rule_time import washington

__all__ = ["QUESTIONS", "Argument", "Step", "argue", "washington"]

SUBJECT: Final = "Is the item subject to the EAR?"
CLASSIFICATION: Final = "How is it classified?"
CIRCUMSTANCES: Final = "Where does it go, to whom, and for what?"
LISTS: Final = "Does a list name a party?"
EXCEPTION: Final = "Does an exception or an exclusion apply?"
LICENCE: Final = "Is a licence needed?"
QUESTIONS: Final = (SUBJECT, CLASSIFICATION, CIRCUMSTANCES, LISTS, EXCEPTION, LICENCE)
"""In the order in which they are asked."""

_SUBJECT_FACTS: Final = ("us_origin", "us_content", "foreign_direct_product", "itar", "end_to_end_encrypted")
_OF_RULE: Final[dict[Question, str]] = {
    "subject": SUBJECT,
    "classification": CLASSIFICATION,
    "destination": CIRCUMSTANCES,
    "end_user": CIRCUMSTANCES,
    "end_use": CIRCUMSTANCES,
    "list": LISTS,
    "exception": EXCEPTION,
    "license": LICENCE,
}
_ITEM_FACTS: Final = (
    "item_kind", "item_form", "accelerator_model", "tpp_low", "tpp_high", "performance_density_low",
    "performance_density_high", "data_centre", "dram_bandwidth", "interconnect_bandwidth", "memory_bandwidth_density",
    "co_packaged", "declared_eccn", "model", "training_exaoperations", "derivative", "added_exaoperations",
    "added_permille", "weights_published", "us_origin_training_data", "us_origin_weights", "us_origin_compute",
    "available_in_us", "quantity", "accelerators_per_unit",
)  # fmt: skip
_UNNAMED: Final = {
    "actor_party": "an actor not named",
    "end_user_party": "an end user not named",
    "exporter": "an exporter not named",
}
_SPACE: Final = re.compile(r"\s+")
_STATUS_WORDS: Final = {"secondary": "rests on a secondary source", "unverified": "not verified"}
OUTCOME_WORDS: Final[dict[Outcome, str]] = {
    "no_license_required": "no licence required",
    "exception": "licence exception",
    "review": "review",
    "license_required": "licence required",
    "prohibited": "prohibited",
}
_THOUSANDTHS: Final = frozenset({"performance_density", "memory_bandwidth_density"})
_EXA: Final = frozenset({"training_exaoperations", "added_exaoperations"})
_AUTHORITY_WORDS: Final = {
    "law": "law",
    "enforcement_policy": "enforcement policy",
    "directive": "directive",
    "proposal": "proposal, in shadow",
    "company_policy": "company policy",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One question, with what answers it: sentences of plain text, and the rules that they rest on."""

    question: str
    answers: tuple[str, ...]
    rule_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Argument:
    """A determination, argued.

    Attributes:
        at: the rule time in Washington.
        steps: one for each of `QUESTIONS`, in order.
        missing_facts: facts that are not known, and leave open whether a rule applies; sorted.
        possible_eccns: those that cannot be excluded.
        statuses: what of it is not verified at its source.
        exceptions: the licence exceptions considered, each with why it applies or does not.
        why: the paragraph that the log keeps.
    """

    at: str
    determination: Determination
    steps: tuple[Step, ...]
    rules: tuple[dict[str, Any], ...]
    citations: tuple[str, ...]
    missing_facts: tuple[str, ...]
    possible_eccns: tuple[str, ...]
    statuses: tuple[str, ...]
    exceptions: tuple[Considered, ...]
    why: str

    def to_json(self) -> dict[str, Any]:
        """As `auditspan policy explain --json` prints it."""
        verdict = self.determination.verdict
        facts = {name: _json(value) for name, value in sorted(self.determination.facts.values.items())}
        return {
            "at": self.at,
            "facts": facts | dict(sorted(verdict.defined.items())),
            "known_by": dict(sorted(self.determination.facts.known_by.items())),
            "text": verdict.text,
            "enforced": verdict.enforced,
            "governing": verdict.governing,
            "flagged": verdict.flagged,
            "eccn": verdict.eccn,
            "possible_eccns": list(self.possible_eccns),
            "rule_ids": list(self.determination.rule_ids),
            "rules": list(self.rules),
            "citations": list(self.citations),
            "review_policy": verdict.review_policy,
            "destination": self.determination.destination,
            "missing_facts": list(self.missing_facts),
            "statuses": list(self.statuses),
            "steps": [
                {"question": step.question, "answers": list(step.answers), "rule_ids": list(step.rule_ids)}
                for step in self.steps
            ],
            "exceptions": [one.to_json() for one in self.exceptions],
            "why": self.why,
        }


def argue(reference: Reference, determination: Determination) -> Argument:
    """The argument of a determination that was made under ``reference``."""
    return _Arguing(reference, determination).argument()


class _Wording(Explainer):
    """The words of the explanation that the log keeps, piece by piece."""

    @classmethod
    def of(cls, reference: Reference) -> _Wording:
        """In the names of ``reference``."""
        return cls(reference.packs, reference.countries, reference.parties, reference.ownership)

    def country(self, code: str) -> str:
        """Name and code."""
        return self._country(code)

    def party(self, identifier: FactValue) -> str:
        """Name and id."""
        return self._party(identifier)

    def among(self, values: Mapping[str, FactValue]) -> Unknown:
        """What is unknown of these facts."""
        return self._missing.among(values)

    def explanation(self, entry: Entry, values: Mapping[str, FactValue], missing_facts: Collection[str]) -> str:
        """What a rule says of the facts; of one that could apply, what is not known."""
        if entry.certain:
            said = _SPACE.sub(" ", self._fill(entry.rule.explanation, values)).strip()
            return said[:1].upper() + said[1:]
        missing = ", ".join(name.replace("_", " ") for name in sorted(missing_facts))
        because = f"unknown: {missing}" if missing else "it cannot be told from what is known"
        return f"It cannot be excluded that this rule applies: {entry.rule.title} ({because})."

    def _render(self, name: str, values: Mapping[str, FactValue], unknown: str = "unknown") -> str:
        """As the log's explanation, but that a party without a name is one in a sentence."""
        if name in _UNNAMED and values.get(name) is None:
            return _UNNAMED[name]
        return super()._render(name, values, unknown)

    def rests_on_groups(self, determination: Determination) -> bool:
        """Whether a rule that governs rests on Country Groups."""
        return any(self._rests_on_groups(entry) for entry in determination.verdict.entries if entry.governs)


class _Arguing:
    def __init__(self, reference: Reference, determination: Determination) -> None:
        self._reference = reference
        self._determination = determination
        self._values: dict[str, FactValue] = {**determination.facts.values, **determination.verdict.defined}
        self._verdict = determination.verdict
        self._explainer = _Wording.of(reference)
        self._unknown = self._explainer.among(self._values)
        self._by_question: dict[str, list[Entry]] = {question: [] for question in QUESTIONS}
        for entry in self._verdict.entries:
            self._by_question[_question(entry)].append(entry)

    def argument(self) -> Argument:
        answers = {
            SUBJECT: self._subject(),
            CLASSIFICATION: self._classification(),
            CIRCUMSTANCES: self._circumstances(),
            LISTS: self._lists(),
            EXCEPTION: self._rules_of(EXCEPTION) or ("None that these rules know applies.",),
            LICENCE: self._licence(),
        }
        steps = tuple(
            Step(question, tuple(answers[question]), tuple(e.rule.id for e in self._by_question[question]))
            for question in QUESTIONS
        )
        missing: set[str] = set()
        for entry in self._verdict.entries:
            if not entry.certain:
                missing |= self._unknown.of_rule(entry.rule)
        return Argument(
            washington(self._determination.rule_time),
            self._determination,
            steps,
            tuple(self._rule(entry) for entry in self._verdict.entries),
            self._explainer.citations(self._determination),
            tuple(sorted(missing)),
            tuple(self._possible_eccns()),
            tuple(self._statuses()),
            considered(self._reference.packs, self._determination, self._unknown),
            self._reference.explainer().why(self._determination),
        )

    # The questions

    def _subject(self) -> Iterable[str]:
        stated = list(self._stated(_SUBJECT_FACTS))
        rules = self._rules_of(SUBJECT)
        said = [f"Stated: {'; '.join(stated)}."] if stated else []
        if not rules:
            said.append(
                "Nothing takes it out of the regulations (15 CFR 734.3): it is judged as subject to them."
                if not stated
                else "By what is stated nothing takes it out of the regulations (15 CFR 734.3)."
            )
        return [*said, *rules]

    def _classification(self) -> Iterable[str]:
        stated = list(self._stated(_ITEM_FACTS))
        if stated:
            yield f"The item: {'; '.join(stated)}."
        held = [one for one in self._verdict.definitions if one.eccn is not None]
        for definition in held:
            yield f"{definition.eccn}: {definition.title} {self._source(definition)}"
        undecided = self._possible_eccns()
        if undecided:
            yield f"It cannot be told whether it is {' or '.join(undecided)}: {self._too_little(undecided)}"
        if self._verdict.eccn is not None:
            yield f"ECCN {self._verdict.eccn}."
        elif not undecided:
            yield "No ECCN of these rules fits: that is no classification as EAR99."
        else:
            yield "The ECCN is undetermined."
        yield from self._rules_of(CLASSIFICATION)

    def _possible_eccns(self) -> list[str]:
        """ECCNs that cannot be excluded."""
        return sorted(
            {
                one.eccn
                for one in self._reference.packs.definitions
                if one.eccn is not None
                and one.window.covers(self._determination.rule_time)
                and self._verdict.defined.get(one.fact) is None
            }
        )

    def _too_little(self, eccns: Collection[str]) -> str:
        reads: set[str] = set()
        for one in self._reference.packs.definitions:
            if one.eccn is not None and one.eccn in eccns:
                reads |= one.reads
        missing = sorted(reads & BASE_FACTS.keys() - self._values.keys())
        near = [name for name, (low, high) in INTERVALS.items() if self._values.get(low) != self._values.get(high)]
        told = [f"unknown is {', '.join(map(_words, missing))}"] if missing else []
        told += [f"{_words(name)} is known within limits only, with a line between them" for name in near]
        return f"{'; '.join(told) or 'too little is known of it'}."

    def _circumstances(self) -> Iterable[str]:
        yield self._destination()
        for role, who in (("actor", "who acts"), ("end_user", "the end user")):
            yield self._party(role, who)
        yield from self._explainer.owners(self._determination, PARENTS)
        known = self._values.get("known_end_uses")
        if isinstance(known, tuple):
            yield f"Known end uses: {', '.join(known) or 'none'}."
        matter = self._terms_that_matter()
        for definition in self._verdict.definitions:
            if definition.eccn is None and definition.fact in matter:
                yield f"It holds that: {definition.title} {self._source(definition)}"
        yield from self._rules_of(CIRCUMSTANCES)

    def _terms_that_matter(self) -> set[str]:
        """Terms that a rule which matched reads, or that such a term reads."""
        terms = set().union(*(entry.rule.reads for entry in self._verdict.entries))
        for definition in reversed(self._verdict.definitions):  # a term reads those defined before it
            if definition.fact in terms:
                terms |= definition.reads
        return terms

    def _destination(self) -> str:
        country = self._values.get("destination_country")
        if not isinstance(country, str):
            return "Destination: not known."
        text = f"Destination: {self._explainer.country(country)}"
        if subdivision := self._values.get("destination_subdivision"):
            text += f", {subdivision}"
        text += f" ({self._groups('destination_groups')})"
        candidates = self._values.get("destination_candidates")
        if isinstance(candidates, tuple) and len(candidates) > 1:
            text += f"; evidence names {', '.join(candidates)}, and the one that restricts most is judged"
        return f"{text}."

    def _party(self, role: str, who: str) -> str:
        party = self._values.get(f"{role}_party")
        name = f", {self._explainer.party(party)}" if party else ""
        places = []
        for fact, words in (
            (f"{role}_country", "headquarters in"),
            (f"{role}_parent_country", "ultimate parent in"),
            (f"{role}_nationality", "nationality"),
        ):
            if fact not in BASE_FACTS:
                continue
            value = self._values.get(fact)
            if value == "":
                continue
            place = self._explainer.country(value) if isinstance(value, str) else "a country unknown"
            groups = fact.removesuffix("country") + "groups" if fact.endswith("_country") else f"{fact}_groups"
            if isinstance(value, str) and groups in self._values:
                place += f" ({self._groups(groups)})"
            places.append(f"{words} {place}")
        said = f"{who[0].upper()}{who[1:]}{name}"
        if not name and all(place.endswith("unknown") for place in places):
            return f"{said}: not known."
        return f"{said}: {'; '.join(places)}."

    def _groups(self, name: str) -> str:
        groups = self._values.get(name)
        if not isinstance(groups, tuple):
            return "Country Groups unknown for that day"
        return f"Country Groups {', '.join(groups)}" if groups else "in no Country Group"

    def _lists(self) -> Iterable[str]:
        listings = self._values.get("end_user_listings")
        if isinstance(listings, tuple):
            yield f"The end user stands on: {', '.join(listings) or 'no list, as far as is stated'}."
        else:
            yield "On which lists the end user stands is not known."
        yield from self._explainer.screened(self._determination)
        owned = self._values.get("listed_ownership")
        chains = self._explainer.owners(self._determination, AMOUNTS)
        if owned and not chains:
            yield f"Listed parties own {owned} per cent of it together."
        yield from chains
        yield from self._rules_of(LISTS)

    def _licence(self) -> Iterable[str]:
        yield from self._rules_of(LICENCE)
        verdict = self._verdict
        if not verdict.entries:
            yield "No rule in force at that time catches it."
        yield (
            f"By the text of the law: {OUTCOME_WORDS[verdict.text]}. As enforced: {OUTCOME_WORDS[verdict.enforced]}. "
            f"What governs: {OUTCOME_WORDS[verdict.governing]}"
            f"{', and the event is flagged' if verdict.flagged else ''}."
        )
        if policy := verdict.review_policy:
            yield f"An application is reviewed under: {policy.replace('_', ' ')}."

    # Pieces

    def _stated(self, names: Iterable[str]) -> Iterator[str]:
        ends = {low: (name, high) for name, (low, high) in INTERVALS.items()}
        uppers = {high for _, high in ends.values()}
        for name in names:
            value = self._values.get(name)
            unsaid = value == UNDECLARED or self._determination.facts.known_by.get(name) == "absent"
            if value is None or name in uppers or unsaid:
                continue
            if name not in ends:
                yield f"{_words(name)} {_said(name, value)}"
                continue
            whole, high = ends[name]
            most = self._values.get(high)
            limits = "" if most == value else f" to {_said(whole, most)}"
            yield f"{_words(whole)} {_said(whole, value)}{limits}"

    def _rules_of(self, question: str) -> tuple[str, ...]:
        return tuple(self._entry(entry) for entry in self._by_question[question])

    def _entry(self, entry: Entry) -> str:
        authority = _AUTHORITY_WORDS[entry.authority]
        if entry.lifted and not entry.governs:
            said = self._explanation(entry)
            return f"Sets aside {', '.join(sorted(entry.lifted))} ({authority}): {said} {self._source(entry.rule)}"
        outcome = OUTCOME_WORDS[entry.outcome]
        place = "" if entry.governs or entry.authority == "proposal" else ", does not govern"
        head = f"{outcome[0].upper()}{outcome[1:]} ({authority}{place})"
        return f"{head}: {self._explanation(entry)} {self._source(entry.rule)}"

    def _explanation(self, entry: Entry) -> str:
        return self._explainer.explanation(entry, self._values, self._unknown.of_rule(entry.rule))

    def _source(self, item: Any) -> str:
        status = _STATUS_WORDS.get(item.status)
        return f"[{item.id}: {'; '.join(item.citations)}{f'; {status}' if status else ''}]"

    def _rule(self, entry: Entry) -> dict[str, Any]:
        rule = entry.rule
        return {
            "id": rule.id,
            "title": rule.title,
            "authority": entry.authority,
            "status": rule.status,
            "outcome": entry.outcome,
            "governs": entry.governs,
            "certain": entry.certain,
            "lifts": sorted(entry.lifted),
            "flag": entry.flag,
            "citations": list(rule.citations),
            "effective": _window(rule.window),
            "review_policy": rule.review_policy,
            "addressee": rule.addressee,
            "question": _question(entry),
            "missing_facts": [] if entry.certain else sorted(self._unknown.of_rule(entry.rule)),
            "explanation": self._explanation(entry),
        }

    def _statuses(self) -> Iterator[str]:
        items: list[Any] = [entry.rule for entry in self._verdict.entries]
        reads = frozenset().union(*(item.reads for item in items))
        items += [one for one in self._verdict.definitions if one.eccn is not None or one.fact in reads]
        for item in items:
            if item.status in _STATUS_WORDS:
                yield f"{item.id} {_STATUS_WORDS[item.status]}."
        countries = self._reference.countries
        if self._determination.rule_time < countries.verified_from and self._explainer.rests_on_groups(
            self._determination
        ):
            yield f"Country Groups before {countries.version} rest on secondary knowledge."


def _question(entry: Entry) -> str:
    # What is no law speaks of the licence in the end, whatever it is about.
    return _OF_RULE[entry.rule.question] if entry.authority in ("law", "directive") else LICENCE


def _window(window: Window) -> dict[str, JsonValue]:
    return {"from": washington(window.start), "to": None if window.end is None else washington(window.end)}


def _json(value: FactValue) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _words(name: str) -> str:
    words = name.replace("_", " ")
    return {
        "tpp": "TPP",
        "training exaoperations": "training operations",
        "added exaoperations": "added operations",
        "item kind": "kind",
        "available in us": "sold in the United States:",
        "dram bandwidth": "DRAM bandwidth in GB/s",
        "interconnect bandwidth": "transfer rate in GB/s",
    }.get(words, words)


def _said(name: str, value: FactValue) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    if isinstance(value, int) and name in _THOUSANDTHS:
        return f"{value // 1000}.{value % 1000:03}".rstrip("0").rstrip(".")
    if isinstance(value, int) and name in _EXA:
        mantissa, _, exponent = f"{value * 10**18:.3e}".partition("e+")
        return f"{mantissa.rstrip('0').rstrip('.')} × 10^{int(exponent)}" if value else "below 10^18"
    return str(value).replace("_", " ") if name == "item_kind" else str(value)
