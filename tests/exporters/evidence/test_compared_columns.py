"""Columns are compared value by value, whatever they are made of."""

from __future__ import annotations

import pyarrow as pa
import pytest
from auditspan.exporters.evidence.columns import compared_columns, differing_rows, one_array, plain_columns
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.lists(st.tuples(*[st.none() | st.sampled_from(["", "a", "b", "c"])] * 2), min_size=1, max_size=12)


def encoded(values: list[str | None], order: list[str]) -> pa.DictionaryArray:
    """``values`` with the dictionary ``order``, in which there may be what none of them is."""
    codes = [None if value is None else order.index(value) for value in values]
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(order, pa.string()))


@given(VALUES, *[st.permutations(["", "a", "b", "c"])] * 2, st.booleans(), st.booleans(), st.booleans())
def test_rows_differ_where_their_values_do(
    pairs: list[tuple[str | None, str | None]],
    left: list[str],
    right: list[str],
    shortened: bool,
    plain_left: bool,
    plain_right: bool,
) -> None:
    given_values, derived_values = ([pair[side] for pair in pairs] for side in (0, 1))
    if shortened:
        # A dictionary that lacks what only the other side says.
        left = [value for value in left if value in given_values]
        right = [value for value in right if value in derived_values]
    one, other = encoded(given_values, left), encoded(derived_values, right)
    found = differing_rows(
        one.dictionary_decode() if plain_left else one, other.dictionary_decode() if plain_right else other
    )
    assert found == [row for row, (a, b) in enumerate(pairs) if a != b]


def test_a_value_that_the_other_dictionary_lacks_is_not_taken_for_a_null() -> None:
    """As where an insider has emptied a whole column of a package."""
    emptied, derived = encoded([None, None, None], []), encoded(["a", None, "b"], ["a", "b"])
    assert differing_rows(emptied, derived) == differing_rows(derived, emptied) == [0, 2]


@pytest.mark.parametrize(
    ("left", "right", "differing"),
    [
        ([[], None, ["a"]], [None, [], ["a"]], []),
        ([["a", "b"]], [["a\nb"]], [0]),
        ([["a"], []], [["b"], ["c"]], [0, 1]),
    ],
)
def test_no_list_is_as_good_as_an_empty_one(left: list[object], right: list[object], differing: list[int]) -> None:
    kind = pa.list_(pa.string())
    assert differing_rows(pa.array(left, kind), pa.array(right, kind)) == differing


def test_what_is_compared_is_what_a_package_holds() -> None:
    typed = pa.table(
        {
            "trace_id": pa.array([b"\x01\xff", None], pa.binary()),
            "actor": pa.array(["a", None]).dictionary_encode(),
            "sequence": pa.array([1, None], pa.int64()),
        }
    )
    compared, plain = compared_columns(typed), plain_columns(typed)
    assert plain["trace_id"].to_pylist() == ["01ff", None]
    assert {name: column.to_pylist() for name, column in compared.items()} == {
        name: column.to_pylist() for name, column in plain.items()
    }
    assert isinstance(compared["actor"], pa.DictionaryArray)


def test_a_part_of_a_table_is_compared_as_a_table_of_its_own() -> None:
    table = pa.table(
        {
            "trace_id": pa.array([b"\x01\xff", None, b"\x02\xff", None], pa.binary()),
            "actor": pa.array(["a", None, "b", "a"]).dictionary_encode(),
            "faults": pa.array([["x"], [], ["y", "z"], None], pa.list_(pa.string())),
        }
    )
    part = table.slice(1, 2)
    assert one_array(part["faults"]).to_pylist() == [[], ["y", "z"]]
    compared = compared_columns(part)
    assert {name: column.to_pylist() for name, column in compared.items()} == {
        "trace_id": [None, "02ff"],
        "actor": [None, "b"],
        "faults": [[], ["y", "z"]],
    }
    whole = compared_columns(pa.concat_tables([part, part]))
    assert [len(column) for column in whole.values()] == [4, 4, 4]
    assert not any(differing_rows(whole[name].slice(2), compared[name]) for name in compared)
