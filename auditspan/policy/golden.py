"""Golden cases: facts and a date, and the determination that a person read out of the law before the rule was written.

A file of them is YAML as ``data/golden.schema.json`` says. A case passes when all that it names comes out: the three
outcomes, flag, ECCN, and, where it gives them, the rules that govern, the licence review policy, what a proposal says
in shadow, and citations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from auditspan.errors import AuditSpanError

from .engine import Determination, Engine, Verdict, more_restrictive
from .errors import PolicyError
from .given_facts import facts_from
from .parties import Parties, validate
from .reference import Reference
from .rule_time import parse_instant
from .yaml_text import Document, load

__all__ = ["Case", "CaseFile", "Difference", "Judge", "Result", "parse_cases", "read_cases", "run", "shipped_cases"]

SHIPPED: Final = "auditspan.policy.golden_cases"
"""The package that the cases of the shipped packs stand in; in the source, `tests/golden`."""

_SHORT: Final = {"nlr": "no_license_required"}
_DEFAULT_PACK: Final = "us-ear"


@dataclass(frozen=True, slots=True)
class Case:
    """One golden case, with the place where it stands.

    Attributes:
        instant: the rule time in nanoseconds; ``at`` as it is written.
        given: facts, those that the file gives every case included.
        expected: what must come out, by field.
        citations: those that must be among the determination's.
        reviewed: who of the lawyers confirmed it, ``yes``, or empty.
        adopted: packs whose proposals bind in this case.
        registry: the file, where it has a party registry of its own.
    """

    name: str
    file: str
    line: int
    at: str
    instant: int
    given: Mapping[str, Any]
    stated: Mapping[str, Any]
    expected: Mapping[str, Any]
    citations: tuple[str, ...]
    reviewed: str
    note: str
    adopted: frozenset[str]
    registry: Document | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class CaseFile:
    """The cases of one file, and what it says of itself."""

    file: str
    title: str
    source: str
    defaults: Mapping[str, Any]
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of a case that came out otherwise."""

    field: str
    expected: Any
    found: Any


@dataclass(frozen=True, slots=True)
class Result:
    """How a case came out; it passed when nothing differs."""

    case: Case
    determination: Determination
    differences: tuple[Difference, ...]


class Judge:
    """Judges cases under one reference, with an engine for each set of proposals that cases adopt."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._explainer = reference.explainer()
        self._of_registry: dict[str, Reference] = {}
        self._engines: dict[frozenset[str], Engine] = {}

    def determination(self, case: Case, instant: int | None = None) -> Determination:
        """The determination of a case, at its own rule time or at ``instant``.

        Raises:
            PolicyError: a fact of the case is none, or of another type; a pack that it adopts is not there.
        """
        if strange := sorted(case.adopted - self.reference.packs.versions.keys()):
            raise PolicyError(
                f"there is no pack {strange[0]!r} to adopt", file=case.file, line=case.line, remedy="Add the pack."
            )
        instant = case.instant if instant is None else instant
        reference = self.reference_of(case)
        try:
            facts = facts_from(reference, case.given, instant)
        except AuditSpanError as error:
            raise PolicyError(
                f"{case.name}: {error.message}", file=case.file, line=case.line, remedy=error.remedy
            ) from error
        engine = self._engines.get(case.adopted)
        if engine is None:
            engine = Engine(
                self.reference.packs, self.reference.countries, adopted=self.reference.adopted | case.adopted
            )
            self._engines[case.adopted] = engine
        return engine.determine([facts], instant)

    def reference_of(self, case: Case) -> Reference:
        """The reference under which a case is judged: with the registry of its file, where that has one.

        Raises:
            PolicyError: the registry cannot be used, at its line in the file.
        """
        if case.registry is None:
            return self.reference
        found = self._of_registry.get(case.file)
        if found is None:
            parties = Parties(case.registry, case.file, self.reference.countries)
            found = self._of_registry[case.file] = self.reference.with_parties(parties)
        return found

    def result(self, case: Case) -> Result:
        """Runs one case.

        Raises:
            PolicyError: as `determination`.
        """
        determination = self.determination(case)
        verdict = determination.verdict
        found: dict[str, Any] = {
            "text": verdict.text,
            "enforced": verdict.enforced,
            "governing": verdict.governing,
            "flagged": verdict.flagged,
            "eccn": verdict.eccn,
            "rules": list(determination.rule_ids),
            "review_policy": verdict.review_policy,
            "shadow": _shadow(verdict),
        }
        differences = [
            Difference(field, expected, found[field])
            for field, expected in case.expected.items()
            if expected != found[field]
        ]
        cited = self._explainer.citations(determination)
        if lacking := [citation for citation in case.citations if citation not in cited]:
            differences.append(Difference("citations", lacking, list(cited)))
        return Result(case, determination, tuple(differences))


def _shadow(verdict: Verdict) -> str | None:
    """The most restrictive outcome of the proposals that stand beside; None when none does."""
    beside = [entry.outcome for entry in verdict.entries if entry.authority == "proposal"]
    return more_restrictive(beside) if beside else None


def run(reference: Reference, cases: Iterable[Case]) -> Iterator[Result]:
    """Runs ``cases`` in order.

    Raises:
        PolicyError: a case that cannot be judged, at its line.
    """
    judge = Judge(reference)
    for case in cases:
        yield judge.result(case)


def parse_cases(content: bytes, file: str) -> CaseFile:
    """The cases of a file.

    Raises:
        PolicyError: not as ``golden.schema.json`` says, a name twice, or a date that is none; with line and remedy.
    """
    document = load(content, file)
    validate(document, "golden.schema.json")
    data = document.data
    pack = data.get("pack", _DEFAULT_PACK)
    defaults: dict[str, Any] = {}
    for group in (data.get("defaults") or {}).values():
        defaults |= group
    cases: list[Case] = []
    names: set[str] = set()
    registry = Document(file, {"parties": data["parties"]}, document.lines) if "parties" in data else None
    for index, entry in enumerate(data["cases"]):
        case = replace(_case(document, index, entry, defaults, pack), registry=registry)
        if case.name in names:
            raise PolicyError(
                f"the case {case.name!r} occurs twice", file=file, line=case.line, remedy="Give each its own name."
            )
        names.add(case.name)
        cases.append(case)
    return CaseFile(file, data.get("title") or Path(file).stem, data.get("source") or "", defaults, tuple(cases))


def _case(document: Document, index: int, entry: Mapping[str, Any], defaults: Mapping[str, Any], pack: str) -> Case:
    line = document.line(("cases", index))
    try:
        instant = parse_instant(entry["at"])
    except ValueError as error:
        raise PolicyError(
            str(error), file=document.file, line=line, remedy="Write YYYY-MM-DD or YYYY-MM-DDThh:mm."
        ) from error
    expected: dict[str, Any] = {
        **{key: _SHORT.get(entry[key], entry[key]) for key in ("text", "enforced", "governing")},
        "flagged": entry["flagged"],
        "eccn": entry["eccn"],
    }
    if "rules" in entry:
        expected["rules"] = sorted(name if "/" in name else f"{pack}/{name}" for name in entry["rules"])
    if "review_policy" in entry:
        expected["review_policy"] = entry["review_policy"]
    if "shadow" in entry:
        expected["shadow"] = _SHORT.get(entry["shadow"], entry["shadow"])
    citations = entry.get("citations") or ()
    return Case(
        name=entry["name"],
        file=document.file,
        line=line,
        at=entry["at"],
        instant=instant,
        given={**defaults, **entry["given"]},
        stated=entry["given"],
        expected=expected,
        citations=(citations,) if isinstance(citations, str) else tuple(citations),
        reviewed={True: "yes", False: ""}.get(entry["reviewed"], entry["reviewed"]),
        note=entry.get("note", ""),
        adopted=frozenset(entry.get("adopted") or ()),
    )


def read_cases(paths: Sequence[Path]) -> list[CaseFile]:
    """The cases of files.

    Raises:
        PolicyError: as `parse_cases`.
        OSError: a file cannot be read.
    """
    return [parse_cases(path.read_bytes(), str(path)) for path in paths]


def shipped_cases() -> list[CaseFile]:
    """The cases of the packs that ship, in order of their files.

    Raises:
        AuditSpanError: this installation has none.
    """
    try:
        folder = resources.files(SHIPPED)
    except ModuleNotFoundError:
        raise AuditSpanError(
            "This installation has no golden cases of its own.", remedy="Name files: auditspan policy test FILE."
        ) from None
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".yaml")), key=lambda item: item.name)
    return [parse_cases(item.read_bytes(), item.name) for item in files]
