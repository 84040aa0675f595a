"""What decides, in a forked child: a lock that another thread held at the fork stays held there for ever.

``fork`` copies one thread. What has a lock says here how to renew it; what a thread was changing under it is begun
anew.
"""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol

__all__ = ["Renewable", "renew_in_children"]


class Renewable(Protocol):
    """What has a lock that must not cross a fork."""

    def after_fork_in_child(self) -> None:
        """Have a new lock, and nothing that a thread may have left half done under the old one."""


_members: Final[weakref.WeakSet[Renewable]] = weakref.WeakSet()


def renew_in_children(member: Renewable) -> None:
    """Have ``member`` renewed in every child that is forked while it lives."""
    _members.add(member)


def _renew() -> None:
    for member in list(_members):
        member.after_fork_in_child()


os.register_at_fork(after_in_child=_renew)
