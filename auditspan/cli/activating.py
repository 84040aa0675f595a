"""Who carries an officer's change out: the running service, or this command where none runs or many processes do.

On one machine journal and store have one writer: the service does it, or this command under its lock. On many, the
control log is journaled in Kafka, by whoever has the deployment's keys, and the order there decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from auditspan.cli.config import settings_of
from auditspan.cli.journal_writing import journal_to_write
from auditspan.cli.officer import identify
from auditspan.cli.policy_socket import ask_to_activate
from auditspan.cli.reading import existing
from auditspan.cli.reference_sources import own_artifacts
from auditspan.config import EMBEDDED, Settings
from auditspan.data_directory import SERVICE, DataDirectory, DataDirectoryBusy
from auditspan.errors import AuditSpanError
from auditspan.journal.opening import is_kafka
from auditspan.processors.activation import Activated, Activator, Change
from auditspan.processors.references import References
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.opening import open_store

__all__ = ["carry_out"]

_PURPOSE: Final = "auditspan policy"
_PATIENCE: Final = 10.0
"""Seconds for a service that starts to open its control socket, and for a group to seal."""

ChangeOf = Callable[[str], Change]


def carry_out(data: Path, config: Path | None, token: str, change_of: ChangeOf, *, dry_run: bool) -> Activated:
    """Bring the change of the officer with this token into force, or in a dry run find out whether it could be.

    Raises:
        NotAnOfficer: the token is not that of an officer.
        PolicyError, Refused: what would be in force cannot be loaded.
        AuditSpanError: it cannot be done now; says why and what to do.
    """
    directory, settings = existing(data), settings_of(data, config)
    # Here as well, so that whoever has no credential learns nothing else.
    officer = identify(directory, token)
    if settings.store.url != EMBEDDED:
        with _in_a_group(directory, settings) as activator:
            return activator.activate(change_of(officer), dry_run=dry_run, within=_PATIENCE)
    try:
        held = directory.lock(_PURPOSE)
    except DataDirectoryBusy as busy:
        if busy.purpose != SERVICE:
            raise
        return ask_to_activate(_socket(directory), token, change_of(officer), dry_run=dry_run)
    with held, _alone(directory, settings) as activator:
        return activator.activate(change_of(officer), dry_run=dry_run)


@contextmanager
def _in_a_group(directory: DataDirectory, settings: Settings) -> Iterator[Activator]:
    with ExitStack() as stack:
        directory.create()
        store = stack.enter_context(closing(open_store(directory, settings)))
        journal = stack.enter_context(journal_to_write(directory, settings))
        references = References(own_artifacts(directory, settings), directory.reference)
        yield Activator(journal, store.reader, references, elsewhere=True)


@contextmanager
def _alone(directory: DataDirectory, settings: Settings) -> Iterator[Activator]:
    if not directory.store.is_dir() or not (is_kafka(settings) or directory.journal.is_file()):
        raise AuditSpanError(
            f"{directory.root} has sealed nothing yet.",
            remedy=f"Start a service once, with: auditspan up --data {directory.root}",
        )
    with ExitStack() as stack:
        store = stack.enter_context(closing(ClickHouseStore.embedded(directory.store)))
        journal = stack.enter_context(journal_to_write(directory, settings))
        references = References(own_artifacts(directory, settings), directory.reference)
        yield Activator(journal, store.reader, references, starts=True)


def _socket(directory: DataDirectory) -> Path:
    deadline = time.monotonic() + _PATIENCE
    while not directory.control_socket.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return directory.control_socket
