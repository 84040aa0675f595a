"""Errors of policy data, with the place where they stand and the remedy."""

from __future__ import annotations

from auditspan.errors import AuditSpanError

__all__ = ["PolicyError"]


class PolicyError(AuditSpanError):
    """A rule pack, table or registry that cannot be used.

    Args:
        message: what is wrong.
        file: name of the artifact.
        line: line in it, from 1; 0 when the whole file is meant.
        remedy: what to do about it.
    """

    def __init__(self, message: str, *, file: str, line: int = 0, remedy: str = "") -> None:
        place = f"{file}:{line}" if line else file
        super().__init__(f"{place}: {message}", remedy=remedy)
        self.file = file
        self.line = line
