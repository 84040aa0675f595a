"""Bytes cut out, compared and laid out by templates are those that one would take row by row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditspan.ledger.templates import bounds_of, by_length, cut_out, fitting, in_words, of_templates

TEXTS = st.lists(st.text("abc", max_size=20).map(str.encode), min_size=1, max_size=30)


@given(TEXTS, st.integers(0, 2), st.integers(1, 3))
def test_rows_of_one_length_stand_in_words(values: list[bytes], skipped: int, fewest: int) -> None:
    array = pa.array(values, pa.binary()).slice(min(skipped, len(values) - 1))
    values = array.to_pylist()
    seen = {}
    for rows, length in by_length(np.diff(bounds_of(array)), fewest):
        words = in_words(array, bounds_of(array), rows, length)
        block = words.view(np.uint8)[:, :length]
        assert [row.tobytes() for row in block] == [values[row] for row in rows]
        seen[length] = rows.tolist()
    lengths = [len(value) for value in values]
    assert seen == {
        length: [row for row, other in enumerate(lengths) if other == length]
        for length in set(lengths)
        if length and lengths.count(length) >= fewest
    }


@given(st.data(), st.integers(1, 40))
def test_rows_fit_that_differ_in_no_compared_bit(data: st.DataObject, length: int) -> None:
    template = data.draw(st.binary(min_size=length, max_size=length))
    compared = data.draw(st.binary(min_size=length, max_size=length))
    rows = data.draw(st.lists(st.binary(min_size=length, max_size=length) | st.just(template), min_size=1, max_size=9))
    array = pa.array(rows, pa.binary())
    words = in_words(array, bounds_of(array), np.arange(len(rows)), length)
    wanted = [all((a ^ b) & mask == 0 for a, b, mask in zip(row, template, compared, strict=True)) for row in rows]
    assert fitting(words, template, np.frombuffer(compared, np.uint8)).tolist() == wanted


def test_many_rows_are_compared_in_pieces() -> None:
    array = pa.array([bytes([number % 3]) * 4096 for number in range(300)], pa.binary())
    words = in_words(array, bounds_of(array), np.arange(300), 4096)
    fits = fitting(words, bytes([1]) * 4096, np.full(4096, 255, np.uint8))
    assert np.flatnonzero(fits).tolist() == list(range(1, 300, 3))


@given(st.lists(st.tuples(st.text("xy", max_size=3), st.text("abc", max_size=4)), min_size=1, max_size=12))
def test_texts_are_cut_out(pieces: list[tuple[str, str]]) -> None:
    texts = [text for _, text in pieces]
    data = "".join(map("".join, pieces)).encode()
    ends = np.cumsum([len(gap) + len(text) for gap, text in pieces])
    begins = ends - [len(text) for text in texts]
    found = cut_out(np.frombuffer(data, np.uint8), begins, ends)
    found.validate(full=True)
    assert found.to_pylist() == list(texts)


@pytest.mark.parametrize("width", [1, 7, 36])
def test_texts_of_one_width_are_cut_out(width: int) -> None:
    texts = [f"{number:0{width}d}"[-width:] for number in range(50)]
    begins = np.arange(50) * (width + 2)
    found = cut_out(np.frombuffer("..".join(texts).encode(), np.uint8), begins, begins + width)
    found.validate(full=True)
    assert found.to_pylist() == texts


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.dictionary(pa.int32(), pa.string()), ["a", "b", None, "a"]),
        (pa.dictionary(pa.int32(), pa.string()), ["a", "a"]),
        (pa.dictionary(pa.int32(), pa.string()), [None, None]),
        (pa.list_(pa.string()), [[], ["a", "b"], []]),
        (pa.list_(pa.string()), [[], []]),
        (pa.list_(pa.string()), [["a"]]),
        (pa.bool_(), [True, False, None]),
        (pa.bool_(), [True]),
        (pa.int64(), [None]),
    ],
    ids=str,
)
def test_each_row_has_the_value_of_its_template(kind: pa.DataType, values: list[object]) -> None:
    numbers = np.array([*range(len(values)), 0, 0, len(values) - 1])
    found = of_templates(kind, values, numbers)
    found.validate(full=True)
    assert found.type == kind
    assert found.to_pylist() == [values[number] for number in numbers]
