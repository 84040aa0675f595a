"""Some hundred queries on the extract and what they scored when it was last meant.

    PYTHONPATH=. python tests/screening/stored_scores.py

Scores change with the matcher, on purpose, and then this writes the file anew: the difference is what a reviewer sees.
What is only to be faster must leave it as it is.
"""

from __future__ import annotations

import csv
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from screening_data import DATA, EXTRACT

from auditspan.screening.lists import import_list
from auditspan.screening.screener import Party, Screener, open_screener, write_index
from benchmarks.ordinary_names import ordinary_names
from benchmarks.screening import changed, queries

STORED = DATA / "stored_scores.csv"
COLUMNS = ("query", "country", "entry_id", "matched_name", "score", "parts", "conflicts", "weak")


def answers(screener: Screener) -> Iterator[tuple[str, ...]]:
    """A row for each hit, and one with an empty entry for a query without."""
    choose = random.Random(31)
    chosen = choose.sample(queries(screener), 60)
    asked = [query.name for query in chosen]
    for _, made in changed(chosen, choose):
        asked += [text for text, _ in made]
    asked += ordinary_names(60)
    for number, name in enumerate(asked):
        country = ("", "", "", "CN", "RU")[number % 5]
        hits = screener.screen(Party(name, country=country))
        for hit in hits:
            parts = " ".join(f"{part}:{share:.4f}" for part, share in hit.parts.items())
            conflicts = " ".join(hit.conflicts)
            yield name, country, hit.entry_id, hit.matched_name, f"{hit.score:.4f}", parts, conflicts, str(hit.weak)
        if not hits:
            yield name, country, "", "", "", "", "", ""


def main() -> int:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        import_list(EXTRACT, Path(folder), prepare=write_index)
        rows = list(answers(open_screener(Path(folder))))
    with STORED.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
