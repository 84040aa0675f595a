"""The journal, opened by a command that adds to the control log where no service does it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from auditspan.config import Settings
from auditspan.data_directory import DataDirectory
from auditspan.journal.contract import Journal
from auditspan.journal.opening import open_journal

__all__ = ["journal_to_write"]


@contextmanager
def journal_to_write(directory: DataDirectory, settings: Settings) -> Iterator[Journal]:
    """The deployment's journal as it was made, closed at the end. A SQLite one must have no other writer.

    Raises:
        JournalUnavailable: it is not there, or cannot be opened or reached.
    """
    with closing(open_journal(directory, settings, read_only=True)) as journal:
        # The number is fixed for the life of a journal, whatever the settings have come to say.
        partitions = len(journal.own_partitions)
    counted = settings.journal.model_copy(update={"partitions": partitions})
    with closing(open_journal(directory, settings.model_copy(update={"journal": counted}))) as journal:
        yield journal
