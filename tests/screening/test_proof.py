"""What the measurements of screening rest on, on the extract. The promises themselves: `test_full_list.py`."""

from __future__ import annotations

import csv
import json

import needs_screening  # noqa: F401 - skips where it is not installed
from screening_data import EXTRACT
from stored_scores import COLUMNS, STORED, answers

from auditspan.screening.screener import Screener
from benchmarks.screening import missed_at, repeated
from benchmarks.screening_growth import grown_records


def test_scores_are_those_that_are_stored(screener: Screener) -> None:
    """Faster is not otherwise: where a score is to change, `stored_scores.py` writes them anew, to be looked at."""
    with STORED.open(encoding="utf-8", newline="") as file:
        columns, *stored = map(tuple, csv.reader(file))
    assert columns == COLUMNS
    assert len({row[0] for row in stored}) > 300
    assert sum(1 for row in stored if row[2]) > 200
    assert list(answers(screener)) == stored


def test_a_larger_list_is_the_real_one_and_its_words_dealt_anew_always_alike() -> None:
    records = json.loads(EXTRACT.read_text())["results"]
    larger = list(grown_records(records, 3))
    assert larger == list(grown_records(records, 3))
    assert [each["name"] for each in larger[: len(records)]] == [each["name"] for each in records]
    copies = larger[len(records) : 2 * len(records)]
    assert len({each["id"] for each in larger}) == len(larger) == 3 * len(records)

    def words(listed: list[dict]) -> list[str]:
        return sorted(w for each in listed for name in (each["name"], *each.get("alt_names", ())) for w in name.split())

    assert words(copies) == words(records)
    assert sum(a["name"] == b["name"] for a, b in zip(records, copies, strict=True)) < len(records) / 10
    assert not any("ids" in each for each in copies)


def test_a_party_that_comes_again_is_answered_from_memory(screener: Screener) -> None:
    found = repeated(screener, 5000, 50)
    assert (found["events"], found["from_memory"]) == (5000, 0.99)


def test_what_is_missed_at_a_review_load() -> None:
    alarms = {"names": 1000, "scores": [0.95, 0.9, 0.85, 0.84]}
    assert missed_at(4, alarms, [1.0]) is None
    assert missed_at(2, alarms, [1.0, 0.85, 0.86, 0.0]) == {"load": 2, "least_score": 0.85, "missed": 0.5}
