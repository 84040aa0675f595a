"""Times as users write and read them: ISO 8601 in, RFC 3339 in UTC out, nanoseconds since 1970 between."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from auditspan.errors import AuditSpanError

__all__ = ["interval", "nanoseconds", "rfc3339"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = 2**63 - 1
"""In the year 2262. What was meant is `for ever`, so a later time is no mistake."""


def nanoseconds(text: str | None, default: int) -> int:
    """The time ``text`` in nanoseconds since 1970, from 0 to the last that there is; ``default`` for none.

    Raises:
        AuditSpanError: it is no time.
    """
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise AuditSpanError(
            f"{text!r} is no time.", remedy="Write 2026-11-24T00:00:00Z, or a date alone; without a zone it is UTC."
        ) from error
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return min(max((since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000, 0), _LAST)


def interval(begin: tuple[str, str | None], end: tuple[str, str | None], for_ever: int) -> tuple[int, int]:
    """Two times in nanoseconds since 1970, from options given as name and text; without text all time is meant.

    Raises:
        AuditSpanError: one is no time, or no time is between them: a report on nothing would read like good news.
    """
    first, last = nanoseconds(begin[1], 0), nanoseconds(end[1], for_ever)
    if first >= last:
        raise AuditSpanError(
            f"There is no time between {begin[0]} and {end[0]}.", remedy=f"Give {end[0]} a time later than {begin[0]}."
        )
    return first, last


def rfc3339(moment: int | None) -> str | None:
    """A time in nanoseconds since 1970, to the nanosecond."""
    if moment is None:
        return None
    seconds, rest = divmod(moment, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
