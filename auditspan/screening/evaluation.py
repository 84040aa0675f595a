"""How well the matcher tells labelled pairs apart: precision, recall and F1, overall and per kind."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .addresses import address_score
from .errors import ListError
from .importer import TextSource
from .kind_guess import guessed_kind
from .name_form import KINDS, Kind, name_form
from .name_score import name_score
from .policies import kind_thresholds

__all__ = ["Judged", "Pair", "Quality", "evaluate", "judge", "pair_score", "read_pairs"]

_COLUMNS: Final = ("query", "candidate", "is_match")
_TRUE: Final = frozenset({"1", "true", "yes", "y", "t"})
_FALSE: Final = frozenset({"0", "false", "no", "n", "f"})


@dataclass(frozen=True, slots=True)
class Pair:
    """Two names, or addresses, and whether they are known to be of one party."""

    query: str
    candidate: str
    is_match: bool
    kind: Kind
    line: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair with its score, and whether that says that it is one party."""

    pair: Pair
    score: float
    matches: bool


@dataclass(frozen=True, slots=True)
class Quality:
    """Counts of judged pairs; the three figures are 0 where there is nothing to divide by."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def pairs(self) -> int:
        """All of them."""
        return self.true_positives + self.false_positives + self.false_negatives + self.true_negatives

    @property
    def precision(self) -> float:
        """Share of what was called a match that is one."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the matches that were called one."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        return _share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    def document(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "pairs": self.pairs,
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
            "true_positives": self.true_positives,
            "false_positives": self.false_positives,
            "false_negatives": self.false_negatives,
            "true_negatives": self.true_negatives,
        }


def pair_score(query: str, candidate: str, kind: Kind = "") -> float:
    """How surely two names of ``kind``, or two addresses, are of one party: 0 to 1.

    Where the kind is empty it is guessed (`guessed_kind`).
    """
    kind = kind or guessed_kind(query, candidate)
    if kind == "address":
        return address_score(query, candidate)
    left, right = name_form(query, kind), name_form(candidate, kind)
    return name_score(left, right, kind).score


def judge(pair: Pair, threshold: float | None = None) -> Judged:
    """The pair with its score; a match from ``threshold`` on, by default that of its kind, known or guessed."""
    kind = pair.kind or guessed_kind(pair.query, pair.candidate)
    score = pair_score(pair.query, pair.candidate, kind)
    return Judged(pair, score, score >= (kind_thresholds()[kind] if threshold is None else threshold))


def evaluate(judged: Sequence[Judged]) -> Mapping[str, Quality]:
    """The quality of each kind that occurs, and of all as ``overall``."""
    kinds = [kind for kind in KINDS if any(each.pair.kind == kind for each in judged)]
    return {
        "overall": _quality(judged),
        **{kind or "unknown": _quality([each for each in judged if each.pair.kind == kind]) for kind in kinds},
    }


def read_pairs(path: Path) -> Iterator[Pair]:
    """The labelled pairs of a CSV file with the columns query, candidate, is_match and kind, in UTF-8, gzip or not.

    Raises:
        ListError: a column is missing, or a row cannot be read; says the line and what to do.
    """
    source = TextSource(path)
    reader = csv.reader(source.lines(), strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        if missing := [name for name in _COLUMNS if name not in columns]:
            raise ListError(
                f"it has no column {', '.join(missing)}",
                file=source.file,
                line=1,
                remedy="The header is query,candidate,is_match,kind.",
            )
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _pair(dict(zip(columns, cells, strict=False)), source.file, reader.line_num)
    except csv.Error as error:
        raise ListError(
            f"it is no CSV: {error}", file=source.file, line=reader.line_num, remedy="Correct the quoting."
        ) from error


def _pair(row: Mapping[str, str], file: str, line: int) -> Pair:
    if missing := [name for name in _COLUMNS if name not in row]:
        raise ListError(f"it has no {', '.join(missing)}", file=file, line=line, remedy="Give a cell for each column.")
    label = row["is_match"].strip().lower()
    if label not in _TRUE | _FALSE:
        raise ListError(f"is_match is {label[:40]!r}", file=file, line=line, remedy="Write 1 or 0, true or false.")
    kind = row.get("kind", "").strip().lower()
    if kind not in KINDS:
        raise ListError(
            f"kind is {kind[:40]!r}", file=file, line=line, remedy=f"Write {', '.join(KINDS[:-1])}, or leave it empty."
        )
    return Pair(row["query"], row["candidate"], label in _TRUE, kind, line)


def _quality(judged: Sequence[Judged]) -> Quality:
    def count(matches: bool, is_match: bool) -> int:
        return sum(1 for each in judged if each.matches == matches and each.pair.is_match == is_match)

    return Quality(count(True, True), count(True, False), count(False, True), count(False, False))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
