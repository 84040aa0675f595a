"""How the partitions of a consumer group are shared out: sticky, cooperative (KIP-429), by what members really hold."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

__all__ = ["HeldPartitionsAssignor"]


class HeldPartitionsAssignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """`CooperativeStickyAssignor`, but a member never says that it owns what it has lost.

    kafka-python 3.0 repeats what was assigned last, also after the membership was lost. Such a partition is kept back
    from its next owner until the member that claims it lets go, which has nothing to let go of: nobody owns it then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.holds: Callable[[], Collection[TopicPartition]] = frozenset
        """What this member owns at the moment."""

    def metadata(self, topics: Any) -> Any:
        """What this member tells the leader of the group when it joins: its topics, and what it holds."""
        self.member_assignment = sorted(self.holds())
        return super().metadata(topics)
