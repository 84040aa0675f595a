"""How a collector that runs alone learns which reference epoch is in force: from the store that the processors fill."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

from auditspan.config import Settings
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import Journal
from auditspan.policy.snapshot import confirm
from auditspan.processors.control import find_logs
from auditspan.processors.epochs import References, announce_epoch, epoch_of, last_epoch
from auditspan.store.contract import Store
from auditspan.store.opening import open_store

__all__ = ["EpochFollower"]

_log = logging.getLogger(__name__)

_LOOK_EVERY: Final = 2.0
_LONGEST_PAUSE: Final = 30.0


class EpochFollower:
    """A thread that keeps the artifacts of the epoch in force in this collector's directory, and announces it there.

    Collecting does not depend on it: while the store cannot be read, or this version cannot use the epoch that is in
    force, the last one that it could goes on deciding and grows old.
    """

    def __init__(self, directory: DataDirectory, settings: Settings, journal: Journal) -> None:
        self._directory = directory
        self._settings = settings
        self._journal = journal
        self._references = References({}, directory.reference)
        self._announced: Mapping[str, Any] | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="auditspan-epoch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a look that hangs is left behind."""
        self._end.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        pause = _LOOK_EVERY
        store: Store | None = None
        while not self._end.is_set():
            try:
                store = store or open_store(self._directory, self._settings, reading=True)
                pause = _LOOK_EVERY if self._look(store) else min(2 * pause, _LONGEST_PAUSE)
            except AuditSpanError as error:
                _log.warning("The reference epoch in force is not known now: %s", error)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except OSError as error:
                _log.warning("The reference epoch in force cannot be kept in %s: %s", self._directory.reference, error)
                pause = min(2 * pause, _LONGEST_PAUSE)
            self._end.wait(pause)
        if store is not None:
            store.close()

    def _look(self, store: Store) -> bool:
        """Whether what decides here is what is in force."""
        logs = find_logs(self._journal, store, self._settings.deployment)
        body = last_epoch(store, logs.control.log_id) if logs is not None else None
        if body is None:
            return True
        if body != self._announced:
            if not announce_epoch(self._references, body, store):
                return False
            self._announced = body
        # Announced and gone, or another one's: announced anew with the next look.
        if not confirm(self._directory.reference, epoch_of(body).digest):
            self._announced = None
        return True
