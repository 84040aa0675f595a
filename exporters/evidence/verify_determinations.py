"""Whether the rule packs of a package lead from the facts of its events to the determinations that it states."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from auditspan.ledger.hashing import Digests, listed
from auditspan.policy.rules import NEEDED, names_of_rules
from auditspan.policy.software import reproduces

from .columns import one_array
from .judge import Told
from .judging import Judge, JudgeFailed, Judges
from .package import Package, PathRefused
from .report import Faults, Report, shown

__all__ = ["DeterminationCheck", "Determinations", "DeterminationsFound"]

_LARGEST_RULES: Final = 16 << 20
_MOST_CACHED: Final = 100_000
_MOST_TOLD: Final = 200
_MOST_NOTES: Final = 20
_LAST_INSTANT: Final = 2**63 - 1
_NOT_JUDGED: Final = -1

Ints = npt.NDArray[np.int64]
Leaf = tuple[str, int]
_Key = tuple[bytes, int, int]
"""SHA-256 of a document, and the segments of its rule times."""


@dataclass(slots=True)
class Foreign:
    """Determinations of software that is not known here, and that are not confirmed."""

    events: int
    first: Leaf


@dataclass(slots=True)
class DeterminationsFound:
    """What came of making determinations again."""

    counts: Counter[str] = field(default_factory=Counter)
    foreign: dict[tuple[str, str], Foreign] = field(default_factory=dict)

    def leave(self, software: str, why: str, first: Leaf, events: int) -> None:
        """Note what is not confirmed, and is no fault, since the software that sealed it is not known here."""
        self.counts["not_confirmed"] += events
        key = (software, why)
        if key not in self.foreign and len(self.foreign) >= _MOST_NOTES:
            key = ("other software", "more than is listed")
        known = self.foreign.setdefault(key, Foreign(0, first))
        known.events += events

    def add(self, other: DeterminationsFound) -> None:
        """Add what came of it in another log."""
        confirmed = {name: count for name, count in other.counts.items() if name != "not_confirmed"}
        self.counts.update(confirmed)
        for (software, why), found in other.foreign.items():
            self.leave(software, why, found.first, found.events)

    def write(self, report: Report) -> None:
        """Put it into the report."""
        report.determinations = {
            name: self.counts[name] for name in ("facts", "made_again", "documents", "differing", "not_confirmed")
        }
        for (software, why), found in self.foreign.items():
            log_id, leaf = found.first
            report.not_proven.append(
                f"What {found.events:,} determinations follow from: they were sealed by {shown(software)!r}, which "
                f"this verifier does not know, and {why}; the first is leaf {leaf} of {log_id}."
            )
        if self.counts["made_again"]:
            report.not_proven.append(
                "What the facts of a determination say beyond the payload: registry, lists and addresses are the "
                "operator's word. That the enclosed rules lead from these facts to it was computed again."
            )


@dataclass(slots=True)
class Determinations:
    """What makes the determinations of one log again.

    Args:
        package: the open package.
        signed: paths whose bytes a trusted key signed; no other artifact is looked at.
        epochs: by number, SHA-256 of the artifacts by name.
        software: name and version of the verifier.
        judges: of the rules.
    """

    package: Package
    signed: frozenset[str]
    epochs: Mapping[int, Mapping[str, str]]
    software: str
    judges: Judges
    known: dict[object, dict[_Key, Told | None]] = field(default_factory=dict)
    found: DeterminationsFound = field(default_factory=DeterminationsFound)

    def judge(self, epoch: int) -> tuple[object, Judge] | None:
        """What judges under an epoch, and what its rules are known by; None where a fault says why nothing does.

        Raises:
            JudgeFailed: its rules cannot be loaded.
        """
        named = self.epochs.get(epoch)
        if named is None:
            return None
        if not named.keys() >= NEEDED:
            raise JudgeFailed(f"{' and '.join(sorted(NEEDED))} are not among its artifacts")
        rules = {name: named[name] for name in names_of_rules(named)}
        if any(f"reference/{digest}" not in self.signed for digest in rules.values()):
            return None
        key = tuple(sorted(rules.items()))
        judge = self.judges.of(key, lambda: self._content(rules))
        return None if judge is None else (key, judge)

    def _content(self, rules: Mapping[str, str]) -> dict[str, bytes] | None:
        """The artifacts; None where one is not what its name says, which is a fault already."""
        content: dict[str, bytes] = {}
        left = _LARGEST_RULES
        for name, digest in rules.items():
            try:
                with self.package.open(f"reference/{digest}") as file:
                    content[name] = file.read(left + 1)
            except (OSError, PathRefused):
                return None
            left -= len(content[name])
            if left < 0:
                raise JudgeFailed(f"they have more than {_LARGEST_RULES >> 20} MiB together")
            if hashlib.sha256(content[name]).hexdigest() != digest:
                return None
        return content


class DeterminationCheck:
    """Makes the determinations of one log again, each distinct one once.

    Which software sealed an event is said by the ``audit.batch`` leaf that ends its batch: what differs waits for it.

    Args:
        log_id: the log.
        made: what makes them; None for none.
        faults: where to note what is wrong.
    """

    def __init__(self, log_id: str, made: Determinations | None, faults: Faults) -> None:
        self._log_id, self._made, self._faults = log_id, made, faults
        self._told: list[tuple[int, Told]] = []
        self._differing = 0
        self._unmade: dict[tuple[int, str], tuple[int, int]] = {}
        self._refused: set[int] = set()
        self._ends: list[tuple[int, str]] = []
        self._digests: Digests | None = None
        self._rules: object = None
        self._answers: dict[int, Told | None] = {}

    def batches(self, ends: list[tuple[int, str]]) -> None:
        """Index and software of each ``audit.batch`` leaf of the window whose `rows` follow."""
        self._ends = ends
        if ends:
            self._settle(ends[0][1])

    def finish(self) -> None:
        """The log's interval ends. What no batch ended is not excused by what sealed it."""
        if self._made is not None:
            self._settle(self._made.software)

    def rows(self, index: pa.Array, parsed: pa.Table, facts: pa.DictionaryArray, digests: Digests) -> None:
        """Event leaves of a window.

        Args:
            index: of each leaf, rising.
            parsed: their headers (`auditspan.exporters.evidence.headers.HEADER_TABLE`).
            facts: their facts documents, null where there is none.
            digests: SHA-256 of each document in the dictionary of ``facts``.
        """
        if self._made is None or facts.null_count == len(facts):
            return
        present = np.flatnonzero(facts.is_valid().to_numpy(zero_copy_only=False))
        self._made.found.counts["facts"] += len(present)
        leaves = index.to_numpy().astype(np.int64)
        epochs = parsed["reference_epoch"].to_numpy()[present]
        differing: list[tuple[int, Told]] = []
        unmade: list[tuple[int, tuple[int, str]]] = []
        for epoch in np.unique(epochs).tolist():
            rows = present[epochs == epoch]
            try:
                found = self._made.judge(epoch)
                if found is not None:
                    differing += self._compared(found, rows, leaves, parsed, facts, digests)
            except JudgeFailed as error:
                unmade += [(leaf, (epoch, str(error))) for leaf in leaves[rows].tolist()]
        self._by_batch(differing, unmade)

    def _compared(
        self,
        by: tuple[object, Judge],
        rows: Ints,
        leaves: Ints,
        parsed: pa.Table,
        facts: pa.DictionaryArray,
        digests: Digests,
    ) -> list[tuple[int, Told]]:
        """The leaves whose determination comes out otherwise, with what is told of it."""
        assert self._made is not None
        key, judge = by
        boundaries = np.array(judge.boundaries, np.int64)
        documents = facts.indices.fill_null(0).to_numpy()[rows].astype(np.int64)
        event, arrival = _segments(parsed, rows, boundaries)
        width = len(boundaries) + 1
        combined = (documents * width + event + 1) * width + arrival + 1
        values, first, inverse = np.unique(combined, return_index=True, return_inverse=True)
        answers, wanted = self._answers_of(digests, key), values.tolist()
        if unknown := [place for place, value in enumerate(wanted) if value not in answers]:
            places = first[unknown]
            asked = (each[places].tolist() for each in (documents, event, arrival))
            distinct = list(zip(*asked, strict=True))
            found = self._judged(judge, key, distinct, facts.dictionary, digests, boundaries)
            answers.update(zip(values[unknown].tolist(), found, strict=True))
        self._made.found.counts["made_again"] += len(rows)
        results = [answers[value] for value in wanted]
        if results.count(None) == len(results):
            return []
        wrong = np.flatnonzero(np.array([each is not None for each in results])[inverse]).tolist()
        told = ((int(leaves[rows[row]]), results[inverse[row]]) for row in wrong)
        return [(leaf, each) for leaf, each in told if each is not None]

    def _answers_of(self, digests: Digests, rules: object) -> dict[int, Told | None]:
        """What was found of the documents of one dictionary, by document and segments of rule time."""
        if digests is not self._digests or rules != self._rules:
            # Windows that follow each other have one dictionary.
            self._digests, self._rules, self._answers = digests, rules, {}
        return self._answers

    def _judged(
        self,
        judge: Judge,
        rules: object,
        distinct: list[tuple[int, int, int]],
        documents: pa.Array,
        digests: Digests,
        boundaries: Ints,
    ) -> list[Told | None]:
        """What comes of each document at the segments of its rule times."""
        assert self._made is not None
        if sum(map(len, self._made.known.values())) + len(distinct) > _MOST_CACHED:
            self._made.known.clear()
        known = self._made.known.setdefault(rules, {})
        named = listed(digests[[document for document, _, _ in distinct]])
        keys: list[_Key] = [(name, at, other) for name, (_, at, other) in zip(named, distinct, strict=True)]
        unknown = [place for place, each in enumerate(keys) if each not in known]
        asked = [(distinct[place][0], [at for at in distinct[place][1:] if at != _NOT_JUDGED]) for place in unknown]
        try:
            answers = judge.compare((documents[row].as_py(), boundaries[at].tolist()) for row, at in asked)
        except JudgeFailed as error:
            self._made.judges.failed(rules, error)
            raise
        known.update(zip((keys[place] for place in unknown), answers, strict=True))
        self._made.found.counts["documents"] += len(unknown)
        return [known[each] for each in keys]

    def _by_batch(self, differing: list[tuple[int, Told]], unmade: list[tuple[int, tuple[int, str]]]) -> None:
        """Remember what was found in a window until its batch ends, or settle it where that is in the window too."""
        ends = [index for index, _ in self._ends]
        found: list[tuple[int, Told | None, tuple[int, str] | None]] = [(leaf, told, None) for leaf, told in differing]
        found += [(leaf, None, why) for leaf, why in unmade]
        batch = 0
        for leaf, told, why in sorted(found, key=lambda one: one[0]):
            while batch < len(ends) and ends[batch] < leaf:
                self._settle(self._ends[batch][1])
                batch += 1
            if why is not None:
                first, count = self._unmade.get(why, (leaf, 0))
                self._unmade[why] = first, count + 1
            elif told is not None:
                self._differing += 1
                if len(self._told) < _MOST_TOLD:
                    self._told.append((leaf, told))
        if batch < len(ends):
            self._settle(self._ends[batch][1])

    def _settle(self, software: str) -> None:
        """What differs, and could not be made again, in a batch that ``software`` has sealed."""
        made = self._made
        if made is None or not (self._differing or self._unmade):
            return
        made.found.counts["differing"] += self._differing
        if reproduces(made.software, software):
            rest = self._differing - len(self._told)
            for place, (leaf, (expected, actual)) in enumerate(self._told):
                count = 1 if place else 1 + rest
                self._faults.add("determination.mismatch", (self._log_id, leaf), expected, actual, count=count)
            for (epoch, why), (first, _) in self._unmade.items():
                if epoch not in self._refused:
                    self._refused.add(epoch)
                    wanted = f"rule packs of epoch {epoch} that can be loaded"
                    self._faults.add("reference.malformed", (self._log_id, first), wanted, why)
        else:
            if self._differing:
                first = self._told[0][0]
                made.found.leave(software, "it comes out otherwise here", (self._log_id, first), self._differing)
            for (epoch, why), (first, count) in self._unmade.items():
                wanted = f"the rule packs of epoch {epoch} cannot be loaded here: {why}"
                made.found.leave(software, wanted, (self._log_id, first), count)
        self._told, self._differing, self._unmade = [], 0, {}


def _segments(parsed: pa.Table, rows: Ints, boundaries: Ints) -> tuple[Ints, Ints]:
    """The segment of rule time at each event's time and at its arrival; -1 where that time is not judged."""
    basis = one_array(parsed["time_basis"])
    names = np.array(basis.dictionary.to_pylist(), object)
    codes = basis.indices.to_numpy()[rows]
    event, arrival = (_segment(parsed[name].to_numpy()[rows], boundaries) for name in ("event_time", "arrival_time"))
    event[(names == "arrival")[codes]] = _NOT_JUDGED
    arrival[(names == "event")[codes]] = _NOT_JUDGED
    return event, arrival


def _segment(times: npt.NDArray[Any], boundaries: Ints) -> Ints:
    # Later than any packs say: section 14 has no such times either.
    found = np.searchsorted(boundaries, np.minimum(times, _LAST_INSTANT).astype(np.int64), side="right") - 1
    segments: Ints = np.maximum(found, 0).astype(np.int64)
    return segments
