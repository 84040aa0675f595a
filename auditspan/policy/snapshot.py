"""The snapshot that decides: the reference epoch in force in a data directory, from artifacts kept by digest.

Whoever brings an epoch into force says so with `announce`, after it is sealed; whoever owns the control log says every
few seconds with `confirm` that it still is. Any process of the machine reads it here, without the store.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from auditspan.canonical import canonical_json
from auditspan.errors import AuditSpanError

from .decision import Decider, Decision, Moment
from .errors import PolicyError
from .forked import renew_in_children
from .reference import Reference

__all__ = ["IN_FORCE", "Snapshot", "SnapshotUnavailable", "announce", "confirm"]

_log = logging.getLogger(__name__)

IN_FORCE: Final = "in-force.json"
"""Name of the file, in the folder of the artifacts, that holds the control body of the epoch in force."""

_LARGEST: Final = 1 << 20
_LOOK_EVERY: Final = 0.2
_AFTER_TROUBLE: Final = 1.0
"""Seconds until what could not be loaded is tried again, so that questions do not queue behind attempts."""


class SnapshotUnavailable(AuditSpanError):
    """Nothing can be decided: no epoch is known to be in force (``missing``), or it cannot be read (``broken``)."""

    def __init__(self, message: str, *, remedy: str, reason: Literal["missing", "broken"]) -> None:
        super().__init__(message, remedy=remedy)
        self.reason: Literal["missing", "broken"] = reason


def announce(folder: Path, body: Mapping[str, Any]) -> None:
    """Say that the epoch with this control body is in force, in one step: readers see it or the one before.

    Its artifacts must lie in ``folder`` already, under their digests.
    """
    temporary = folder / f"{IN_FORCE}.{os.getpid()}.tmp"
    # Its bytes have the digest of the epoch: `confirm` knows it by them.
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(canonical_json(dict(body)))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / IN_FORCE)


def confirm(folder: Path, digest: str) -> bool:
    """Say that the epoch with this digest is in force now; whether it is the one that was announced last.

    Where another one was, or it cannot be said, that one goes on deciding and grows old for those who ask how old it
    is: nobody knows of an epoch that was replaced that it is in force.
    """
    path = folder / IN_FORCE
    try:
        with path.open("rb") as file:
            announced = hashlib.sha256(file.read(_LARGEST + 1)).hexdigest()
            if announced != digest:
                return False
            # The file that was read, whoever puts another one in its place meanwhile.
            os.utime(file.fileno())
    except FileNotFoundError:
        return False
    except OSError as error:
        _log.warning("It cannot be said in %s that the reference epoch is still in force: %s", folder, error.strerror)
        return False
    return True


class Snapshot:
    """The epoch in force, loaded. Safe for several threads and in forked children.

    Args:
        folder: where artifacts are kept by digest, and `announce` writes: `DataDirectory.reference`.

    What is broken never replaces what is good: the last good snapshot goes on deciding, and its age tells.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._decider: Decider | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._confirmed = 0.0
        self._look_at = float("-inf")
        self._trouble: SnapshotUnavailable | None = None
        self._loading = threading.Lock()
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Load what a thread of the parent was loading: that thread is not here."""
        self._loading = threading.Lock()

    @property
    def trouble(self) -> str:
        """Why the epoch in force is not the one that decides; empty while it is."""
        return "" if self._trouble is None else str(self._trouble)

    def refresh(self) -> bool:
        """Take up the epoch that is in force now; whether another one decides than before.

        The old one decides until the new one is loaded. Raises nothing: a broken one is told in `trouble` and the log.
        """
        with self._loading:
            return self._refresh()

    def decide(self, facts: Mapping[str, Any], at: Moment = None) -> Decision:
        """`Decider.decide` under the epoch in force, with the age of that knowledge.

        Raises:
            SnapshotUnavailable: there is none, and none could be read so far.
            FactsInvalid: see `Decider.decide`.
        """
        decider = self._current()
        decision = decider.decide(facts, at)
        return dataclasses.replace(decision, age=max(0.0, time.time() - self._confirmed))

    def _current(self) -> Decider:
        # Who finds it changed loads it; others go on with the one before, which was in force when they asked.
        if time.monotonic() >= self._look_at and self._loading.acquire(blocking=self._decider is None):
            try:
                if time.monotonic() >= self._look_at:
                    self._refresh()
            finally:
                self._loading.release()
        if self._decider is None:
            assert self._trouble is not None
            # A fresh one: raising the same again would grow its traceback.
            raise SnapshotUnavailable(self._trouble.message, remedy=self._trouble.remedy, reason=self._trouble.reason)
        return self._decider

    def _refresh(self) -> bool:
        try:
            changed = self._follow()
        except SnapshotUnavailable as error:
            self._tell(error)
        except (OSError, ValueError, KeyError, TypeError, PolicyError) as error:
            self._tell(
                SnapshotUnavailable(
                    f"The reference epoch in force in {self._folder} cannot be used: {error}",
                    remedy="Restart the service that owns this data directory, or activate the epoch again.",
                    reason="broken",
                )
            )
        else:
            self._trouble = None
            self._look_at = time.monotonic() + _LOOK_EVERY
            return changed
        self._look_at = time.monotonic() + _AFTER_TROUBLE
        return False

    def _follow(self) -> bool:
        path = self._folder / IN_FORCE
        try:
            status = path.stat()
        except FileNotFoundError:
            raise SnapshotUnavailable(
                f"No reference epoch has been announced in {self._folder}.",
                remedy="Start `auditspan up` on this data directory, or set store.url for `auditspan collect`.",
                reason="missing",
            ) from None
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        # A confirmation changes the time and not the content: then it is read and nothing is loaded.
        changed = stamp != self._stamp and self._load(path)
        self._stamp = stamp
        self._confirmed = status.st_mtime
        return changed

    def _load(self, path: Path) -> bool:
        """Whether another epoch decides now."""
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError(f"{path} is larger than {_LARGEST} bytes")
        body = json.loads(content)
        digest = hashlib.sha256(canonical_json(body)).hexdigest()
        before = self._decider
        if before is not None and before.digest == digest:
            return False
        number = int(body["number"])
        artifacts = {str(item["name"]): self._artifact(str(item["sha256"])) for item in body["artifacts"]}
        decider = Decider(Reference.load(artifacts, number, folder=self._folder), digest)
        self._decider = decider
        _log.info("decisions are made under reference epoch %d (%s)", number, digest[:12])
        return True

    def _artifact(self, digest: str) -> bytes:
        if len(digest) != 64 or not digest.isalnum():
            raise ValueError(f"{digest!r} is no SHA-256")
        content = (self._folder / digest).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f"the artifact {digest} is not what its name says")
        return content

    def _tell(self, trouble: SnapshotUnavailable) -> None:
        if self._trouble is None or self._trouble.message != trouble.message:
            _log.error("%s", trouble)
        self._trouble = trouble
