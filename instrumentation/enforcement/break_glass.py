"""Letting an action go on that would be refused: for a reason, which its records carry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from .settings import EnforcementSettings

__all__ = ["break_glass", "reason_given"]

_LONGEST: Final = 4_096

_reason: ContextVar[str] = ContextVar("auditspan_break_glass", default="")


@contextmanager
def break_glass(reason: str) -> Iterator[None]:
    """Within the block, what enforcement would refuse goes on; its records carry ``reason``, sealed and flagged.

    It holds for this thread, or asynchronous task and what it starts; threads of a pool need a block of their own. An
    action that nothing would have refused is recorded as always.

    Args:
        reason: why, and who decided so, in words for the export-control officer; 4,096 characters at most.

    Raises:
        ValueError: no reason is given.
    """
    text = reason.strip() if isinstance(reason, str) else ""
    if not text:
        raise ValueError("break_glass needs a reason: it is sealed and flagged for the export-control officer")
    token = _reason.set(text[:_LONGEST])
    try:
        yield
    finally:
        _reason.reset(token)


def reason_given(settings: EnforcementSettings) -> str:
    """The reason that holds here and now; empty where none was given."""
    return _reason.get() or settings.break_glass_reason[:_LONGEST]
