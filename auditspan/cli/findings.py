"""One thing that `auditspan doctor` looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it stands, what was found, and what to do about it.

    ``waiting`` is no fault: it passes by itself, or when somebody does what ``remedy`` says.
    """

    check: str
    state: Literal["ok", "waiting", "wrong"]
    found: str
    remedy: str = ""
