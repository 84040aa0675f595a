"""RFC 8785 canonical JSON within the limits of the evidence format (``docs/evidence-format.md`` section 1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

__all__ = ["LARGEST_INTEGER", "JsonValue", "canonical_json"]

JsonValue = None | bool | int | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

LARGEST_INTEGER = 2**53 - 1
"""Largest magnitude an integer may have: beyond it RFC 8785 section 3.2.2.3 would round."""


def canonical_json(value: JsonValue) -> bytes:
    """The RFC 8785 serialization of ``value`` as UTF-8.

    Sorted compact JSON equals RFC 8785 only for ASCII keys, no floats and integers that a double holds exactly, so
    anything else is refused rather than written in a form that another implementation would not reproduce.

    Raises:
        ValueError: a non-ASCII key, an integer beyond ±(2^53 − 1) or a lone surrogate.
        TypeError: a float, bytes, or anything else that has no form under these limits.
    """
    _check(value)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a lone surrogate cannot be written as UTF-8") from error


_PLAIN = frozenset({str, bool, type(None)})
"""Types that need no look: a document is made of little else."""


def _check(value: JsonValue) -> None:
    if type(value) in _PLAIN or isinstance(value, str):
        return
    if isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise ValueError(f"the integer {value} is beyond ±(2^53 − 1)")
    elif type(value) is dict or isinstance(value, Mapping):
        _check_keys(value)
        # Most mappings hold nothing else.
        if not _PLAIN.issuperset(map(type, value.values())):
            for item in value.values():
                if type(item) not in _PLAIN:
                    _check(item)
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        for item in value:
            if type(item) not in _PLAIN:
                _check(item)
    else:
        raise TypeError(f"{type(value).__name__} has no canonical form")


def _check_keys(value: Mapping[str, JsonValue]) -> None:
    try:
        if "".join(value).isascii():
            return
    except TypeError:
        pass
    for key in value:
        if not (isinstance(key, str) and key.isascii()):
            raise ValueError(f"the key {key!r} is not ASCII text")
