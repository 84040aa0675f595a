"""Control entries about evidence: sealed by the running service, or by the next one to start."""

from __future__ import annotations

import getpass
import os
from typing import Any

from auditspan.data_directory import DataDirectory
from auditspan.semconv import EventClass

__all__ = ["acting_user", "seal"]


def seal(directory: DataDirectory, running: bool, name: EventClass, body: dict[str, Any]) -> None:
    """Have an entry of class ``name`` sealed in the control log, as said by whoever runs this command.

    Raises:
        AuditSpanError: the service does not answer, or the journal cannot be written.
    """
    # Whoever verifies imports this module too, and has no settings, journal or service.
    from auditspan.cli.config import settings_of
    from auditspan.journal.opening import is_kafka

    settings = settings_of(directory.root, None)
    if running and not is_kafka(settings):
        from auditspan.cli.control_socket import ask

        path = f"/{str(name).replace('.', '/')}"
        ask(directory.control_socket, "POST", path, {"actor": acting_user(), "body": body})
        return
    from auditspan.cli.journal_writing import journal_to_write
    from auditspan.processors.control_entries import ControlLog

    with journal_to_write(directory, settings) as journal:
        ControlLog(journal).append(name, acting_user(), body)


def acting_user() -> str:
    """Who runs this command, as the control log names a person without a credential."""
    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):  # an account without a name, as in some containers
        return f"user:{os.getuid()}"
