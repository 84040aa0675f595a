"""A question to ``/v1/decide``: the attributes of a record that is about to be written, as the log will read them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final

from ... import semconv
from ..encode import Attributes, AttributeValue

__all__ = ["encoded", "question"]

_INT64: Final = 2**63
_UNREADABLE: Final = [0]
"""Stands for a value of a type that JSON has not; no attribute is read as a list of numbers either."""


def question(event_class: str, attributes: Attributes, end_user: object = None) -> dict[str, object]:
    """What is asked about a record of this class: the attributes that a determination rests on, and no others.

    Args:
        event_class: of the record.
        attributes: of the record.
        end_user: ``export_control.end_user`` of the resource, which stands where the record names none.
    """
    asked: dict[str, object] = {semconv.AUDIT_EVENT_CLASS: event_class}
    if isinstance(end_user, str):
        asked[semconv.END_USER] = end_user
    for name in (*semconv.READ_FROM_SPAN, *semconv.READ_FOR_FACTS):
        value = attributes.get(name)
        if value is not None and name != semconv.AUDIT_EVENT_CLASS:
            asked[name] = _plain(value)
    return asked


def encoded(asked: dict[str, object]) -> bytes:
    """The question as JSON."""
    return json.dumps({"facts": asked}, ensure_ascii=False, allow_nan=False).encode()


def _plain(value: AttributeValue | object) -> object:
    """``value`` as it will stand in the record (``encode_span``), in JSON."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -_INT64 <= value < _INT64 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _UNREADABLE
    if isinstance(value, bytes | bytearray):
        return _UNREADABLE
    if isinstance(value, Sequence):
        # What is no text makes the whole list one that cannot be read, here as in the record.
        return [_text(item) if isinstance(item, str) else 0 for item in value]
    return f"<{type(value).__name__}>"


def _text(value: str) -> str:
    return str(value).encode("utf-8", "backslashreplace").decode()
