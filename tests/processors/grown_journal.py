"""A file that shows its partitions as generations, as Kafka shows topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from auditspan.journal.contract import CONTROL_PARTITION, Entry, NewEntry, data_partition, generation_of
from auditspan.journal.sqlite import SqliteJournal


class GrownJournal(SqliteJournal):
    """The partitions of all generations stand in one file; ``shown`` says which generations are there by now.

    Args:
        path: of the file.
        counts: how many partitions the generations have that there will ever be.
        shown: the generations that are there.
    """

    def __init__(self, path: Path, counts: Sequence[int], shown: Sequence[int]) -> None:
        super().__init__(path, sum(counts))
        names = [
            data_partition(index, generation) for generation, count in enumerate(counts, 1) for index in range(count)
        ]
        self._stored = {CONTROL_PARTITION: CONTROL_PARTITION} | {
            name: data_partition(place) for place, name in enumerate(names)
        }
        self.shown = tuple(shown)

    @property
    def generations(self) -> Mapping[int, Sequence[str]]:
        return {one: [name for name in self._stored if generation_of(name) == one] for one in self.shown}

    @property
    def partitions(self) -> Sequence[str]:
        return [name for names in self.generations.values() for name in names]

    @property
    def own_partitions(self) -> Sequence[str]:
        return self.generations[self.shown[-1]]

    def settled(self, partition: str) -> bool:
        return partition in self.partitions and partition not in self.own_partitions

    def append(self, entries: Sequence[tuple[str, NewEntry]]) -> Future[list[int]]:
        return super().append([(self._place(partition), entry) for partition, entry in entries])

    def read(self, partition: str, offset: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        found = super().read(self._place(partition), offset, max_entries=max_entries, max_bytes=max_bytes)
        return [replace(entry, partition=partition) for entry in found]

    def earliest(self, partition: str) -> int:
        return super().earliest(self._place(partition))

    def high_water_mark(self, partition: str) -> int:
        return super().high_water_mark(self._place(partition))

    def wait(self, partition: str, offset: int, timeout: float) -> bool:
        return super().wait(self._place(partition), offset, timeout)

    def trim(self, partition: str, before: int) -> None:
        super().trim(self._place(partition), before)

    def _place(self, partition: str) -> str:
        if partition not in self._stored:
            return partition  # the file itself asks, under its own names
        assert partition in (CONTROL_PARTITION, *self.partitions), f"{partition} is not there"
        return self._stored[partition]
