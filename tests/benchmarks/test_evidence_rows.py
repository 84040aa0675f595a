"""The rows that the evidence benchmark exports are rows of the store as it is now."""

from __future__ import annotations

from auditspan.store.schema import EVENTS
from benchmarks.evidence_rows import event_rows


def test_they_have_every_column_of_the_store():
    rows = event_rows(7, 3, 5)
    assert rows.schema == EVENTS
    assert rows["leaf_index"].to_pylist() == [7, 8, 9, 10, 11]
    assert len(set(rows["header"].to_pylist())) == 5
