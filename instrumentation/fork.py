"""What a forked child must forget, and how a parent holds still while it forks.

``fork`` copies memory and file descriptors but only one thread. A lock that another thread held stays held for ever
in the child; an inherited descriptor keeps the parent's ``flock`` alive after the parent is gone. So, before a fork,
recorders are brought to rest; in the child, tracked descriptors are closed and every recorder starts afresh with new
locks.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Final, Protocol

__all__ = ["Forkable", "close_tracked", "open_tracked", "register"]

_PATIENCE: Final = 2.0
"""Seconds a fork waits for a lock: a thread stuck in a dead file system must not stop the host from forking."""


class Forkable(Protocol):
    """What has locks or descriptors that must not cross a fork."""

    def before_fork(self, timeout: float) -> bool:
        """Take the locks, in at most ``timeout`` seconds; whether they were taken."""

    def after_fork_in_parent(self) -> None:
        """Release what ``before_fork`` took."""

    def after_fork_in_child(self) -> None:
        """Forget everything inherited. New locks only: the old ones may be held by threads that do not exist here."""


class _State:
    def __init__(self) -> None:
        self.guard = threading.RLock()
        self.descriptors: set[int] = set()
        self.members: weakref.WeakSet[Forkable] = weakref.WeakSet()
        self.held = threading.local()


_state: Final = _State()


def register(member: Forkable) -> None:
    """Have ``member`` told about every fork, for as long as it lives."""
    _state.members.add(member)


def open_tracked(path: str | os.PathLike[str], flags: int, mode: int = 0o600) -> int:
    """``os.open`` of a descriptor that every forked child closes at once."""
    with _state.guard:
        descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
        _state.descriptors.add(descriptor)
        return descriptor


def close_tracked(descriptor: int) -> None:
    """Close a descriptor from ``open_tracked``; one that a fork has closed already is left alone."""
    with _state.guard:
        if descriptor in _state.descriptors:
            _state.descriptors.discard(descriptor)
            os.close(descriptor)


def _before() -> None:
    # Members first, the guard last: the order in which recording takes them.
    held: list[Forkable] = [member for member in list(_state.members) if member.before_fork(_PATIENCE)]
    guarded = _state.guard.acquire(timeout=_PATIENCE)
    _state.held.value = (held, guarded)


def _after_in_parent() -> None:
    held, guarded = getattr(_state.held, "value", ([], False))
    _state.held.value = ([], False)
    if guarded:
        _state.guard.release()
    for member in reversed(held):
        member.after_fork_in_parent()


def forget_inherited() -> None:
    """Close the descriptors inherited from another process and reset every member. For a child only."""
    _state.guard = threading.RLock()
    _state.held = threading.local()
    descriptors, _state.descriptors = _state.descriptors, set()
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    for member in list(_state.members):
        member.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=forget_inherited)
