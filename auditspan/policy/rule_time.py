"""Instants of the law: dates and minutes in Washington as nanoseconds since the epoch."""

from __future__ import annotations

import datetime
import re
from typing import Final
from zoneinfo import ZoneInfo

__all__ = ["SINCE_EVER", "WASHINGTON", "parse_instant", "washington"]

WASHINGTON: Final = ZoneInfo("America/New_York")
"""The zone in which a Federal Register effective date begins."""

SINCE_EVER: Final = 5 * 3600 * 10**9
"""Midnight of 1970-01-01 in Washington: in a pack, in force since before anything that it judges."""

_LATEST: Final = (2**63 - 1) // 1_000_000_000
_FORM: Final = re.compile(r"^(\d{4}-\d{2}-\d{2})(?:T(\d{2}:\d{2})(?::(\d{2}))?(Z|[+-]\d{2}:\d{2})?)?$")


def parse_instant(text: str) -> int:
    """Nanoseconds of ``YYYY-MM-DD`` or ``YYYY-MM-DDThh:mm[:ss][offset]``; midnight and Washington where not said.

    Raises:
        ValueError: another form, a date that does not exist, or one before 1970 or after April 2262, the last that
            64 bits of nanoseconds hold.
    """
    match = _FORM.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not YYYY-MM-DD or YYYY-MM-DDThh:mm")
    date, minute, second, offset = match.groups()
    moment = datetime.datetime.fromisoformat(f"{date}T{minute or '00:00'}:{second or '00'}{offset or ''}")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=WASHINGTON)
    seconds = int(moment.timestamp())
    if seconds < 0:
        raise ValueError(f"{text!r} is before 1970")
    if seconds > _LATEST:
        raise ValueError(f"{text!r} is after April 2262: what has no end has no `to`")
    return seconds * 1_000_000_000


def washington(instant: int) -> str:
    """A rule time as it is written in packs: to the minute, in Washington; a date alone at midnight."""
    moment = datetime.datetime.fromtimestamp(instant // 10**9, WASHINGTON)
    if (moment.hour, moment.minute, moment.second) == (0, 0, 0):
        return moment.strftime("%Y-%m-%d")
    return moment.strftime("%Y-%m-%dT%H:%M" if not moment.second else "%Y-%m-%dT%H:%M:%S")
