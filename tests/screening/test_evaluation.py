"""Labelled pairs: the figures, and the bounds that the matcher keeps on ours."""

from __future__ import annotations

from pathlib import Path

import needs_screening  # noqa: F401 - skips where it is not installed
import pytest
from rapidfuzz import fuzz, utils
from screening_data import DATA

from auditspan.screening.errors import ListError
from auditspan.screening.evaluation import Judged, Pair, evaluate, judge, read_pairs


def test_precision_recall_and_f1_are_counted_overall_and_by_kind() -> None:
    def judged(kind, is_match: bool, matches: bool) -> Judged:
        return Judged(Pair("a", "b", is_match, kind, 2), 0.5, matches)

    found = evaluate(
        [judged("person", True, True), judged("person", True, False), judged("", False, True), judged("", False, False)]
    )
    assert [*found] == ["overall", "person", "unknown"]
    assert found["overall"].document() == {
        "pairs": 4, "precision": 0.5, "recall": 0.5, "f1": 0.5,
        "true_positives": 1, "false_positives": 1, "false_negatives": 1, "true_negatives": 1,
    }  # fmt: skip
    assert (found["person"].precision, found["person"].recall) == (1.0, 0.5)
    assert found["unknown"].f1 == 0.0


def test_the_matcher_keeps_its_bounds_on_labelled_aliases_and_near_misses() -> None:
    pairs = list(read_pairs(DATA / "labelled.csv"))
    assert len(pairs) > 400
    found = evaluate([judge(pair) for pair in pairs])
    assert found["overall"].f1 >= 0.88
    assert found["organization"].f1 >= 0.90
    assert found["person"].f1 >= 0.89
    assert found["vessel"].f1 >= 0.70


def test_it_does_better_than_a_ratio_of_letters_at_its_best_threshold() -> None:
    """The yardstick that published comparisons use, given the advantage of a threshold set on these very pairs."""
    pairs = list(read_pairs(DATA / "labelled.csv"))
    scored = [(fuzz.WRatio(p.query, p.candidate, processor=utils.default_process), p) for p in pairs]
    best = max(
        evaluate([Judged(pair, score, score >= least) for score, pair in scored])["overall"].f1
        for least in range(50, 100)
    )
    assert evaluate([judge(pair) for pair in pairs])["overall"].f1 > best + 0.1


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("query,candidate\na,b\n", 1, "is_match"),
        ("query,candidate,is_match,kind\na,b,maybe,\n", 2, "is_match is 'maybe'"),
        ("query,candidate,is_match,kind\na,b,1,\na,b,1,planet\n", 3, "kind is 'planet'"),
        ("query,candidate,is_match,kind\na,b\n", 2, "no is_match"),
        ('query,candidate,is_match,kind\na,"b\n', 2, "no CSV"),
    ],
)
def test_a_broken_labelled_file_is_named_with_its_line(tmp_path: Path, content: str, line: int, said: str) -> None:
    path = tmp_path / "labelled.csv"
    path.write_text(content)
    with pytest.raises(ListError) as raised:
        list(read_pairs(path))
    assert (raised.value.line, said in raised.value.message) == (line, True), raised.value
