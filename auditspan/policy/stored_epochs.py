"""The reference epochs that a store's control log activated, made again from their artifacts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from auditspan.canonical import canonical_json
from auditspan.errors import AuditSpanError
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .activation import Activation
from .artifacts_kept import kept
from .reference import Reference

__all__ = ["EpochNotKept", "StoredEpochs", "reference_of"]

_OPENINGS: Final = (
    "SELECT log_id, header FROM auditspan.events "
    "WHERE leaf_index = 0 AND class = 'audit.log.opened' AND payload = '' ORDER BY log_id"
)


class EpochNotKept(AuditSpanError):
    """A reference epoch cannot be made again: it was not activated, or an artifact is gone, altered or not readable."""


def reference_of(
    body: Mapping[str, Any], artifact: Callable[[str], bytes | None], folder: Path | None = None
) -> Reference:
    """The reference of the epoch with this control body (evidence format, section 11).

    Args:
        body: of ``audit.reference.activated``.
        artifact: gives an artifact by its SHA-256 in hexadecimal, None when it is not kept.
        folder: where artifacts are kept, and what is read from a screening list.

    Raises:
        EpochNotKept: an artifact is not kept, was altered, or cannot be read by this version.
    """
    number = int(body["number"])
    artifacts: dict[str, bytes] = {}
    for one in body["artifacts"]:
        content = artifact(one["sha256"])
        if content is None:
            raise EpochNotKept(
                f"the artifact {one['name']} ({one['sha256'][:16]}…) of epoch {number} is not kept",
                remedy="Put it back under its SHA-256 into the folder `reference` of the data directory.",
            )
        if hashlib.sha256(content).hexdigest() != one["sha256"]:
            raise EpochNotKept(
                f"the kept artifact {one['name']} of epoch {number} was altered",
                remedy="Put the original back under its SHA-256.",
            )
        artifacts[one["name"]] = content
    try:
        return Reference.load(artifacts, number, Activation.of(body), folder)
    except (AuditSpanError, ValueError) as error:
        raise EpochNotKept(
            f"this version cannot load epoch {number}: {error}", remedy="Use the version that sealed it."
        ) from error


class StoredEpochs:
    """Epochs by number; the last two that were asked for are remembered, since each holds an address database.

    Args:
        store: with the control log.
        folder: where artifacts are kept by digest, where there is one; then the store is asked.

    Raises:
        AuditSpanError: the store has no control log.
    """

    def __init__(self, store: Store, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder
        self._made: dict[int, Reference | EpochNotKept] = {}
        self._bodies: dict[int, Mapping[str, Any]] = {}
        for leaf in store.log_leaves(self._control_log(), [EventClass.REFERENCE_ACTIVATED])["header"].to_pylist():
            body = json.loads(leaf)["body"]["body"]
            # Of several with one number the first counts (evidence format, section 11).
            self._bodies.setdefault(int(body["number"]), body)

    @property
    def newest(self) -> int:
        """Number of the epoch that was activated last; 0 when none was."""
        return max(self._bodies, default=0)

    def artifacts(self, number: int) -> dict[str, bytes]:
        """The artifacts of an epoch, content by name.

        Raises:
            EpochNotKept: see `reference_of`.
        """
        return {artifact.name: artifact.content for artifact in self.reference(number).artifacts}

    def reference(self, number: int) -> Reference:
        """The reference of an epoch.

        Raises:
            EpochNotKept: see `reference_of`; or the control log activated no such epoch.
        """
        if number not in self._made:
            self._made = dict([*self._made.items()][-1:])
            try:
                self._made[number] = reference_of(self._body(number), self._artifact, self._folder)
            except EpochNotKept as error:
                self._made[number] = error
        made = self._made[number]
        if isinstance(made, EpochNotKept):
            raise made
        return made

    def newest_reference(self) -> Reference:
        """The reference of the epoch that was activated last.

        Raises:
            EpochNotKept: see `reference_of`; or the control log activated none.
        """
        return self.reference(self.newest)

    def digest(self, number: int) -> str:
        """The digest that batches of the epoch name.

        Raises:
            EpochNotKept: the control log activated no such epoch.
        """
        return hashlib.sha256(canonical_json(self._body(number))).hexdigest()

    def _body(self, number: int) -> Any:
        if number not in self._bodies:
            raise EpochNotKept(
                f"the control log has activated no epoch {number}",
                remedy="See that store and control log belong together: auditspan doctor.",
            )
        return self._bodies[number]

    def _control_log(self) -> str:
        for row in self._store.query(_OPENINGS).to_pylist():
            if json.loads(row["header"])["body"]["partition"] == "control":
                return str(row["log_id"])
        raise AuditSpanError("The store has no control log.", remedy="Name the data directory of a service.")

    def _artifact(self, digest: str) -> bytes | None:
        content = kept(self._folder, digest) if self._folder is not None else None
        return self._store.artifact(digest) if content is None else content
