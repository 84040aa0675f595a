"""How far each log has come, from journal and store alone: where no service can be asked, or many share the work."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from auditspan.config import Settings
from auditspan.data_directory import DataDirectory

if TYPE_CHECKING:
    from auditspan.journal.contract import Journal
    from auditspan.store.contract import Store

__all__ = ["progress_of"]


def progress_of(
    directory: DataDirectory, settings: Settings, store: Store, logs: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """``journal_end``, ``sealed_to``, ``lag_entries``, ``lag_seconds`` and ``owner`` by log id.

    Args:
        directory: with the journal, or the key of the journal on Kafka.
        settings: which name it.
        store: read from.
        logs: ``log_id`` and ``partition`` of each.

    Raises:
        JournalUnavailable: the journal cannot be read now.
        StoreUnavailable: the store cannot be read now.
        AuditSpanError: the journal is not as the settings say.
    """
    journal, owners = _journal(directory, settings)
    if journal is None:
        return {}
    with closing(journal):
        known = {log["log_id"]: log["partition"] for log in logs}
        there = {*journal.partitions, "control"}
        return {
            log_id: {**_progress(journal, store, log_id, partition), "owner": owners.get(partition)}
            for log_id, partition in known.items()
            if partition in there
        }


def _journal(directory: DataDirectory, settings: Settings) -> tuple[Journal | None, Mapping[str, str]]:
    from auditspan.journal.opening import is_kafka, open_journal

    if is_kafka(settings):
        from auditspan.journal.kafka import KafkaJournal

        journal = open_journal(directory, settings)
        return journal, journal.owners() if isinstance(journal, KafkaJournal) else {}
    if not directory.journal.exists():
        return None, {}
    from auditspan.journal.sqlite import SqliteJournal

    return SqliteJournal(directory.journal, read_only=True), {}


def _progress(journal: Journal, store: Store, log_id: str, partition: str) -> dict[str, Any]:
    from auditspan.journal.contract import PositionLost

    # The store first: the journal's end must not be older than what is sealed.
    last = store.last_batch(log_id)
    sealed_to = int(json.loads(last)["body"]["to"]) if last is not None else 0
    end = journal.high_water_mark(partition)
    waiting, lost = [], 0
    if sealed_to < end:
        try:
            waiting = journal.read(partition, sealed_to, max_entries=1, max_bytes=1)
        except PositionLost as error:
            lost = (error.resumes_at or end) - sealed_to
    age = time.time() - waiting[0].arrival_time / 1e9 if waiting else 0.0
    return {
        "journal_end": end,
        "sealed_to": sealed_to,
        "lag_entries": max(end - sealed_to, 0),
        "lag_seconds": max(age, 0.0),
        "lost_entries": lost,
    }
