"""Errors that say what to do next."""

from __future__ import annotations

__all__ = ["AuditSpanError"]


class AuditSpanError(Exception):
    """An error a person can act on.

    Args:
        message: what went wrong, in one sentence, without secrets.
        remedy: what to do about it, in one sentence.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """The message, then the remedy where there is one."""
        return f"{self.message} {self.remedy}".strip()
