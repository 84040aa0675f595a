"""How commands that verify end: with a status of their own."""

from __future__ import annotations

from typing import Final

__all__ = ["EXIT_USAGE", "Verdict"]

EXIT_USAGE: Final = 3
"""A command that verifies was used wrongly, or could not be done: 1 and 2 speak of what was verified."""


class Verdict(SystemExit):
    """End of a command that verifies, with the status of its report: 0 valid, 1 invalid, 2 incomplete."""
