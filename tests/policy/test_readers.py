"""Conditions by the facts that they read."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from auditspan.policy.readers import Readers, changed_names

NAMES = ("a", "b", "c")
VALUE: st.SearchStrategy[Any] = st.sampled_from([None, False, True, 0, 1, "x", ("x",), ("x", "y")])
ROW = st.tuples(VALUE, VALUE, VALUE)


@given(ROW, ROW)
def test_a_name_has_changed_where_its_value_is_another_or_of_another_type(before: Any, after: Any) -> None:
    expected = [
        name for name, one, other in zip(NAMES, before, after, strict=True) if (type(one), one) != (type(other), other)
    ]
    assert changed_names(NAMES, before, after) == expected


@given(ROW, ROW, st.lists(st.tuples(st.sets(st.sampled_from(NAMES), min_size=1), VALUE), max_size=5))
def test_conditions_hold_as_before_exactly_where_all_of_them_do(
    before: Any, after: Any, conditions: list[tuple[set[str], Any]]
) -> None:
    def condition(names: set[str], wanted: Any) -> Any:
        return lambda values: True if wanted in [values[name] for name in sorted(names)] else None

    made = [(condition(names, wanted), frozenset(names)) for names, wanted in conditions]
    one, other = dict(zip(NAMES, before, strict=True)), dict(zip(NAMES, after, strict=True))
    truths = [evaluate(one) for evaluate, _ in made]
    held = Readers(made).hold_as_before(truths, other, changed_names(NAMES, before, after))
    assert held == (truths == [evaluate(other) for evaluate, _ in made])
