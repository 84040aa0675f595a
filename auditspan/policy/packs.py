"""Rule packs: YAML, checked against ``data/pack.schema.json``, compiled over the declared facts.

All packs of a reference are compiled together: a pack may read a term that an earlier one defines.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from .codes import compared
from .conditions import Compiled, Compiler, Condition, together
from .errors import PolicyError
from .facts import BASE_FACTS, FactType
from .parties import validate
from .rule_time import parse_instant
from .yaml_text import Document, Path, load

__all__ = [
    "AUTHORITIES",
    "OUTCOMES",
    "QUESTIONS",
    "REVIEW_POLICIES",
    "Authority",
    "Definition",
    "Milestone",
    "Obligation",
    "Outcome",
    "Packs",
    "Question",
    "Requirement",
    "ReviewPolicy",
    "Rule",
    "Window",
    "compile_packs",
]

Outcome = Literal["no_license_required", "exception", "review", "license_required", "prohibited"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("no_license_required", "exception", "review", "license_required", "prohibited")
"""From least to most restrictive (evidence format, section 6)."""

ReviewPolicy = Literal["presumption_of_approval", "case_by_case", "presumption_of_denial"]
REVIEW_POLICIES: Final[tuple[ReviewPolicy, ...]] = ("presumption_of_approval", "case_by_case", "presumption_of_denial")
"""How an application for a licence is reviewed, from least to most restrictive."""

Question = Literal["subject", "classification", "destination", "end_user", "end_use", "list", "exception", "license"]
QUESTIONS: Final[tuple[Question, ...]] = (
    "subject",
    "classification",
    "destination",
    "end_user",
    "end_use",
    "list",
    "exception",
    "license",
)
"""The questions of a determination in the order in which a person asks them (15 CFR 732.1, 736.2)."""

Period = Literal["quarter", "half_year", "year"]

Authority = Literal["law", "enforcement_policy", "directive", "proposal", "company_policy"]
AUTHORITIES: Final[tuple[Authority, ...]] = ("law", "enforcement_policy", "directive", "proposal", "company_policy")

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Window:
    """When something is in force: ``[start, end)`` in nanoseconds; ``end`` ``None`` = without end."""

    start: int
    end: int | None

    def covers(self, instant: int) -> bool:
        """Whether ``instant`` lies in it."""
        return self.start <= instant and (self.end is None or instant < self.end)


@dataclass(frozen=True, slots=True)
class Definition:
    """A term of the law: ``fact`` holds when ``when`` does."""

    id: str
    pack: str
    fact: str
    title: str
    eccn: str | None
    citations: tuple[str, ...]
    status: str
    window: Window
    when: Condition
    reads: frozenset[str]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition of a licence exception.

    Attributes:
        says: the condition in words, as what must be so.
        scope: whether it says for which items and places the exception is, rather than what using it takes.
        general: whether every licence exception asks for it (15 CFR 740.2).
    """

    says: str
    citations: tuple[str, ...]
    status: str
    when: Condition
    reads: frozenset[str]
    scope: bool
    general: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with everything that its determination quotes.

    Attributes:
        exception: the symbol of the licence exception that it is, such as ``NAC``: it applies where that is relied on
            and every requirement holds.
        considered_when: of an exception, for which acts it is at all.
        requirements: of an exception, its own and then the general ones.
    """

    id: str
    pack: str
    title: str
    citations: tuple[str, ...]
    authority: Authority
    status: str
    window: Window
    addressee: str | None
    confidential: bool
    when: Condition
    reads: frozenset[str]
    outcome: Outcome
    flag: bool
    lifts: frozenset[str]
    reviews: frozenset[str]
    question: Question
    review_policy: ReviewPolicy | None
    explanation: str
    exception: str | None = None
    considered_when: Condition | None = None
    requirements: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class Obligation:
    """What is due once for each period of the calendar: ``due_days`` after its end."""

    id: str
    pack: str
    title: str
    citations: tuple[str, ...]
    authority: Authority
    status: str
    window: Window
    period: Period
    due_days: int


@dataclass(frozen=True, slots=True)
class Milestone:
    """A date that explains a pack and decides nothing."""

    pack: str
    date: datetime.date
    title: str
    citations: tuple[str, ...]
    status: str


@dataclass(frozen=True, slots=True)
class Packs:
    """Compiled packs: definitions, rules, obligations and milestones in their order, and each pack's version by id and
    by file.
    """

    definitions: tuple[Definition, ...]
    rules: tuple[Rule, ...]
    obligations: tuple[Obligation, ...]
    milestones: tuple[Milestone, ...]
    versions: Mapping[str, str]
    version_of_file: Mapping[str, str]
    compared: Mapping[str, frozenset[str]]
    """The texts that conditions compare each fact with, by fact."""


def compile_packs(texts: Sequence[tuple[str, bytes]]) -> Packs:
    """Compiles packs, given as (file name, text), in this order.

    Raises:
        PolicyError: at file and line, with a remedy.
    """
    documents = [load(text, file) for file, text in texts]
    for document in documents:
        validate(document, "pack.schema.json")
    versions: dict[str, str] = {}
    for document in documents:
        name = document.data["pack"]
        if name in versions:
            raise _fault(document, ("pack",), f"the pack {name!r} is given twice", "Leave one out.")
        versions[name] = document.data["version"]
    types: dict[str, FactType] = {name: fact.type for name, fact in BASE_FACTS.items()}
    types |= {entry["fact"]: "bool" for document in documents for entry in document.data.get("definitions") or ()}
    _check_defined_names(documents)
    compiler = Compiler(types)
    definitions = _definitions(documents, compiler)
    rules = _rules(documents, compiler, {*types, "tpp", "performance_density"})
    return Packs(
        tuple(definitions),
        tuple(rules),
        tuple(_obligations(documents, {rule.id for rule in rules})),
        tuple(_milestones(documents)),
        versions,
        {document.file: document.data["version"] for document in documents},
        compared(documents),
    )


def _check_defined_names(documents: Sequence[Document]) -> None:
    """A defined name belongs to one pack, and is no declared fact."""
    owners: dict[str, str] = {}
    for document in documents:
        for index, entry in enumerate(document.data.get("definitions") or ()):
            owner = owners.setdefault(entry["fact"], document.data["pack"])
            if entry["fact"] in BASE_FACTS or owner != document.data["pack"]:
                raise _fault(
                    document,
                    ("definitions", index, "fact"),
                    f"{entry['fact']!r} is defined elsewhere",
                    "Choose another name.",
                )


def _definitions(documents: Sequence[Document], compiler: Compiler) -> list[Definition]:
    definitions: list[Definition] = []
    pending = [entry["fact"] for document in documents for entry in document.data.get("definitions") or ()]
    seen: set[str] = set()
    for document in documents:
        for index, entry in enumerate(document.data.get("definitions") or ()):
            path: Path = ("definitions", index)
            _check_id(document, path, entry["id"], seen)
            compiled = compiler.compile(document, (*path, "when"), entry["when"])
            if too_early := sorted(compiled.reads.intersection(pending)):
                raise _fault(
                    document,
                    (*path, "when"),
                    f"it reads {', '.join(too_early)} before its last definition",
                    "Move it below.",
                )
            pending.remove(entry["fact"])
            definitions.append(
                Definition(
                    entry["id"],
                    document.data["pack"],
                    entry["fact"],
                    entry["title"],
                    entry.get("eccn"),
                    tuple(entry["citations"]),
                    entry["status"],
                    _window(document, path, entry["effective"]),
                    compiled.evaluate,
                    compiled.reads,
                )
            )
    return definitions


def _rules(documents: Sequence[Document], compiler: Compiler, placeholders: set[str]) -> list[Rule]:
    rules: list[Rule] = []
    seen: set[str] = set()
    lifting: list[tuple[Document, Path, str]] = []
    for document in documents:
        general = _requirements(document, compiler, ("exception_requirements",), document.data, general=True)
        for index, entry in enumerate(document.data["rules"]):
            path: Path = ("rules", index)
            _check_id(document, path, entry["id"], seen)
            compiled = compiler.compile(document, (*path, "when"), entry["when"])
            for name in _PLACEHOLDER.findall(entry["explanation"]):
                if name not in placeholders:
                    raise _fault(document, (*path, "explanation"), f"no such fact: {{{name}}}", "Name a declared fact.")
            lifting += [
                (document, (*path, key), other) for key in ("lifts", "reviews") for other in entry.get(key) or ()
            ]
            if entry.get("reviews") and not entry.get("review_policy"):
                raise _fault(document, (*path, "reviews"), "it names no review policy", "Add `review_policy:`.")
            if entry["authority"] == "enforcement_policy" and not entry.get("lifts"):
                raise _fault(document, path, "an enforcement policy lifts nothing", "Name the rules under `lifts:`.")
            if entry["authority"] in ("proposal", "company_policy") and entry.get("lifts"):
                raise _fault(document, path, f"a {entry['authority']} cannot lift a rule", "Remove `lifts:`.")
            if entry.get("exception") or entry.get("requirements"):
                rules.append(_exception(document, path, entry, compiler, compiled, general))
            else:
                rules.append(_rule(document, path, entry, compiled.evaluate, compiled.reads))
    for document, path, lifted in lifting:
        if lifted not in seen:
            raise _fault(document, path, f"no such rule: {lifted}", "Name a rule of these packs.")
    return rules


def _rule(document: Document, path: Path, entry: dict[str, Any], when: Condition, reads: frozenset[str]) -> Rule:
    return Rule(
        id=entry["id"],
        pack=document.data["pack"],
        title=entry["title"],
        citations=tuple(entry["citations"]),
        authority=entry["authority"],
        status=entry["status"],
        window=_window(document, path, entry["effective"]),
        addressee=entry.get("addressee"),
        confidential=entry.get("confidential", False),
        when=when,
        reads=reads,
        outcome=entry["outcome"],
        flag=entry.get("flag", False),
        lifts=frozenset(entry.get("lifts") or ()),
        reviews=frozenset(entry.get("reviews") or ()),
        question=entry.get("question", "destination"),
        review_policy=entry.get("review_policy"),
        explanation=entry["explanation"],
    )


def _requirements(
    document: Document, compiler: Compiler, path: Path, entry: Mapping[str, Any], *, general: bool = False
) -> tuple[Requirement, ...]:
    found: list[Requirement] = []
    for index, each in enumerate(entry.get(str(path[-1])) or ()):
        compiled = compiler.compile(document, (*path, index, "when"), each["when"])
        found.append(
            Requirement(
                each["says"],
                tuple(each["citations"]),
                each["status"],
                compiled.evaluate,
                compiled.reads,
                each.get("scope", False),
                general,
            )
        )
    return tuple(found)


def _exception(
    document: Document,
    path: Path,
    entry: dict[str, Any],
    compiler: Compiler,
    when: Compiled,
    general: tuple[Requirement, ...],
) -> Rule:
    """A rule that is a licence exception: it holds when it is relied on, and all its requirements do."""
    own = _requirements(document, compiler, (*path, "requirements"), entry)
    if not (entry.get("exception") and own):
        raise _fault(document, path, "a licence exception has a symbol and requirements", "Give both, or neither.")
    if (entry["outcome"], entry["authority"]) != ("exception", "law") or not entry.get("lifts"):
        raise _fault(
            document,
            path,
            f"the licence exception {entry['exception']} does not lift rules by law",
            "Write `outcome: exception`, `authority: law`, and the rules under `lifts:`.",
        )
    relied_on = compiler.compile(document, (*path, "exception"), f"declared_license == '{entry['exception']}'")
    requirements = (*own, *general)
    whole = together([when, relied_on, *(Compiled(one.when, one.reads) for one in requirements)])
    rule = _rule(document, path, entry, whole.evaluate, whole.reads)
    return replace(rule, exception=entry["exception"], considered_when=when.evaluate, requirements=requirements)


def _obligations(documents: Sequence[Document], seen: set[str]) -> Iterator[Obligation]:
    for document in documents:
        for index, entry in enumerate(document.data.get("obligations") or ()):
            path: Path = ("obligations", index)
            _check_id(document, path, entry["id"], seen)
            yield Obligation(
                id=entry["id"],
                pack=document.data["pack"],
                title=entry["title"],
                citations=tuple(entry["citations"]),
                authority=entry["authority"],
                status=entry["status"],
                window=_window(document, path, entry["effective"]),
                period=entry["period"],
                due_days=entry["due_days"],
            )


def _milestones(documents: Sequence[Document]) -> Iterator[Milestone]:
    for document in documents:
        for index, entry in enumerate(document.data.get("milestones") or ()):
            try:
                date = datetime.date.fromisoformat(entry["date"])
            except ValueError as error:
                path: Path = ("milestones", index, "date")
                raise _fault(document, path, str(error), "Write a day that exists, as YYYY-MM-DD.") from error
            yield Milestone(document.data["pack"], date, entry["title"], tuple(entry["citations"]), entry["status"])


def _check_id(document: Document, path: Path, identifier: str, seen: set[str]) -> None:
    if not identifier.startswith(document.data["pack"] + "/"):
        raise _fault(
            document,
            (*path, "id"),
            f"the id {identifier!r} is not the pack's",
            f"Begin it with {document.data['pack']}/.",
        )
    if identifier in seen:
        raise _fault(document, (*path, "id"), f"the id {identifier!r} occurs twice", "Give each its own id.")
    seen.add(identifier)


def _window(document: Document, path: Path, effective: Mapping[str, str | None]) -> Window:
    instants: dict[str, int | None] = {"to": None}
    for key, text in effective.items():
        if text is not None:
            try:
                instants[key] = parse_instant(text)
            except ValueError as error:
                raise _fault(
                    document, (*path, "effective", key), str(error), "Write YYYY-MM-DD or YYYY-MM-DDThh:mm."
                ) from error
    start, end = instants["from"], instants["to"]
    assert start is not None
    if end is not None and end <= start:
        raise _fault(document, (*path, "effective"), "`to` is not after `from`", "Correct the dates.")
    return Window(start, end)


def _fault(document: Document, path: Path, message: str, remedy: str) -> PolicyError:
    return PolicyError(message, file=document.file, line=document.line(path), remedy=remedy)
