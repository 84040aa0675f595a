"""The proof on the real list, in short: samples of what `benchmarks/screening.py` measures in full."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import needs_screening  # noqa: F401 - skips where it is not installed
import pytest

from auditspan.screening.lists import import_list
from auditspan.screening.screener import Screener, open_screener, write_index
from benchmarks.screening import changed, false_alarms, missed_at, queries, ranks
from benchmarks.screening_growth import LIST

pytestmark = pytest.mark.skipif(not os.environ.get(LIST), reason=f"{LIST} names no Consolidated Screening List file")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Screener:
    folder = tmp_path_factory.mktemp("list")
    kept = import_list(Path(os.environ[LIST]), folder, prepare=write_index)
    assert kept.entries > 20_000
    return open_screener(folder)


def test_own_entry_first_and_changed_names_found_where_ordinary_names_do_not_alarm(
    whole: Screener, record_property: Callable[[str, object], None]
) -> None:
    choose = random.Random(3)
    chosen = choose.sample(queries(whole), 400)
    found = ranks(whole, [(query.name, query.entry_id) for query in chosen])
    record_property("other hits a query", found["other_hits_a_query"])
    assert found["first"] >= 0.995, found["missed"]
    short = {}
    scores = []
    for name, asked in changed(chosen, choose):
        each = ranks(whole, asked)
        short[name] = each["first"]
        scores += each["scores"]
        record_property(f"{name}: own entry first", each["first"])
        # 95 % is the aim; a sample of some hundred names gets two standard errors of room.
        assert short[name] >= 0.93, (name, short)
    alarms = false_alarms(whole, 1500)
    assert alarms["share"] <= 0.0125
    for load in (2, 5):
        missed = missed_at(load, alarms, scores)
        record_property(f"changed names missed at {load} hits in 1,000 ordinary names", missed and missed["missed"])
        # Fewer reviews cost more misses; half of them would mean that the score does not tell parties apart.
        assert missed is None or missed["missed"] < 0.5
