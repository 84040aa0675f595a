"""When a deployment's keys retire, as the ``keys`` of ``trust.json`` say (``docs/evidence-format.md`` section 11)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["retired_keys", "rfc3339_seconds"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000_000


def retired_keys(entries: Iterable[Mapping[str, Any]]) -> dict[bytes, int]:
    """By the 32 bytes of a key, from when on (ns) what it signs counts no longer: the optional ``retired_at``.

    Raises:
        ValueError: a ``retired_at`` is no time of RFC 3339.
    """
    found = {}
    for entry in entries:
        text = entry.get("retired_at")
        if text is not None:
            found[base64.b64decode(entry["public_key"])] = _nanoseconds(text)
    return found


def rfc3339_seconds(nanoseconds: int) -> str:
    """A time in whole seconds, as ``trust.json`` has them."""
    return datetime.fromtimestamp(nanoseconds // _SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _nanoseconds(text: Any) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except TypeError as error:
        raise ValueError("retired_at is no text") from error
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * _SECOND + since.microseconds * 1_000
