"""The journal that the settings name."""

from __future__ import annotations

from auditspan.config import Settings
from auditspan.data_directory import DataDirectory
from auditspan.journal.contract import Journal
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.keys import load_journal_key

__all__ = ["is_kafka", "open_journal"]


def is_kafka(settings: Settings) -> bool:
    """Whether ``journal.url`` names a Kafka cluster."""
    return settings.journal.url.startswith("kafka://")


def open_journal(directory: DataDirectory, settings: Settings, *, read_only: bool = False) -> Journal:
    """Open the journal of ``journal.url``: the file in ``directory``, or a Kafka cluster.

    ``read_only`` takes part beside whoever writes: a SQLite file has one writer, which must have made it, and a reader
    of Kafka needs no right to write.

    Raises:
        KeyFileError: on Kafka, ``journal.key`` is missing or unfit.
        JournalUnavailable: it cannot be reached or opened.
        AuditSpanError: it is not as the settings say, or would lose events.
    """
    if not is_kafka(settings):
        return SqliteJournal(directory.journal, settings.journal.partitions, read_only=read_only)
    key = load_journal_key(directory.journal_key)
    # Loaded only where it is used: one machine needs no Kafka client.
    from auditspan.journal.kafka import KafkaJournal

    return KafkaJournal(settings.journal.url, settings.kafka, settings.journal.partitions, key, read_only=read_only)
