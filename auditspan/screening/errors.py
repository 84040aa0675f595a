"""Errors of lists and of what is to be screened, with the place where they stand and the remedy."""

from __future__ import annotations

from auditspan.errors import AuditSpanError

__all__ = ["ListError", "ScreeningError"]


class ScreeningError(AuditSpanError):
    """A name that cannot be screened, or a directory without a list."""


class ListError(AuditSpanError):
    """A list that cannot be imported or used.

    Args:
        message: what is wrong.
        file: name of the file.
        line: line in it, from 1; 0 when it is not known.
        record: which entry, from 1; 0 when the whole file is meant.
        remedy: what to do about it.
    """

    def __init__(self, message: str, *, file: str, line: int = 0, record: int = 0, remedy: str = "") -> None:
        place = f"{file}:{line}" if line else file
        super().__init__(f"{place}{f', record {record}' if record else ''}: {message}", remedy=remedy)
        self.file = file
        self.line = line
        self.record = record
