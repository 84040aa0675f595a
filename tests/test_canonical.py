from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from auditspan.canonical import LARGEST_INTEGER, canonical_json

INTEGERS = st.integers(-LARGEST_INTEGER, LARGEST_INTEGER)
TEXTS = st.text(st.characters(codec="utf-8"))
KEYS = st.text(st.characters(max_codepoint=127))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), INTEGERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


@settings(deadline=None)
@given(VALUES)
def test_equals_the_rfc_8785_package(value: Any) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)
    assert json.loads(canonical_json(value)) == value


def test_every_control_character_and_the_two_that_json_escapes() -> None:
    value = {"text": "".join(map(chr, range(0x80))) + '\u2028\U0001f600é"\\/'}
    assert canonical_json(value) == rfc8785.dumps(value)


def test_keys_are_sorted_and_nothing_is_spaced() -> None:
    assert canonical_json({"b": [1, {"d": None, "c": True}], "a": ""}) == b'{"a":"","b":[1,{"c":true,"d":null}]}'


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.0, "float"),
        (float("nan"), "float"),
        ([LARGEST_INTEGER + 1], "beyond"),
        ([-LARGEST_INTEGER - 1], "beyond"),
        ({"é": 1}, "ASCII"),
        ({1: 1}, "ASCII"),
        ("\ud800", "surrogate"),
        ({"a": ["\udfff"]}, "surrogate"),
        (b"bytes", "bytes"),
        ({"a": {1, 2}}, "set"),
    ],
)
def test_refuses_what_another_implementation_might_write_in_another_way(value: Any, reason: str) -> None:
    with pytest.raises((ValueError, TypeError), match=reason):
        canonical_json(value)
