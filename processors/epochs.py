"""Reference epochs: which packs, tables and registry are in force, sealed before they judge anything."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditspan.canonical import JsonValue, canonical_json
from auditspan.errors import AuditSpanError
from auditspan.policy.errors import PolicyError
from auditspan.policy.reference import Reference
from auditspan.policy.snapshot import announce
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .batch import Epoch

__all__ = [
    "EpochUnavailable",
    "References",
    "activate",
    "announce_epoch",
    "epoch_of",
    "epochs",
    "keep_artifacts",
    "last_epoch",
]

_log = logging.getLogger(__name__)


class EpochUnavailable(AuditSpanError):
    """The reference epoch in force has artifacts that this process cannot get: it must not judge."""


def epochs(store: Store, control_log: str) -> list[Mapping[str, Any]]:
    """The bodies of all ``audit.reference.activated`` leaves of the control log, in order."""
    leaves = store.log_leaves(control_log, [EventClass.REFERENCE_ACTIVATED])["header"].to_pylist()
    return [json.loads(leaf)["body"]["body"] for leaf in leaves]


def last_epoch(store: Store, control_log: str) -> Mapping[str, Any] | None:
    """The body of the last ``audit.reference.activated`` leaf of the control log; None when there is none."""
    found = epochs(store, control_log)
    return found[-1] if found else None


class References:
    """The snapshots that epochs name, made from artifacts that this process can get hold of. Safe for several threads.

    Args:
        artifacts: this process's own, content by name.
        folder: where artifacts of epochs are kept by digest.
    """

    def __init__(self, artifacts: Mapping[str, bytes], folder: Path) -> None:
        self.own = dict(artifacts)
        self.folder = folder
        self._by_digest = {hashlib.sha256(content).hexdigest(): content for content in artifacts.values()}
        self._guard = threading.Lock()
        self._last: Reference | None = None

    def own_as(self, number: int) -> Reference:
        """The artifacts of this process as the epoch ``number``.

        Raises:
            PolicyError: an artifact is missing, broken or unknown.
        """
        with self._guard:
            if self._last is None or self._last.number != number or _content_of(self._last) != self.own:
                self._last = Reference.load(self.own, number)
            return self._last

    def of(self, body: Mapping[str, Any], store: Store) -> Reference:
        """The reference of the epoch with this control body.

        Raises:
            EpochUnavailable: an artifact is neither this process's own, nor in its folder, nor in the store.
            PolicyError: this version of the software cannot read it.
            StoreUnavailable: the store cannot be read now.
        """
        number = int(body["number"])
        with self._guard:
            content = {str(a["name"]): self._content(a, number, store) for a in body["artifacts"]}
            if self._last is None or self._last.number != number or _content_of(self._last) != content:
                self._last = Reference.load(content, number)
            return self._last

    def _content(self, artifact: Mapping[str, Any], number: int, store: Store) -> bytes:
        digest = str(artifact["sha256"])
        content = self._by_digest.get(digest) or _kept(self.folder, digest) or store.artifact(digest)
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            raise EpochUnavailable(
                f"Reference epoch {number} needs {artifact['name']} with SHA-256 {digest}, which is neither in this "
                f"version of the software, nor in {self.folder}, nor in the store.",
                remedy="Run the version of AuditSpan and the party registry of the process that owns the control log.",
            )
        return content


def _content_of(reference: Reference) -> dict[str, bytes]:
    return {artifact.name: artifact.content for artifact in reference.artifacts}


def _kept(folder: Path, digest: str) -> bytes | None:
    try:
        return (folder / digest).read_bytes()
    except OSError:
        return None


def epoch_of(body: Mapping[str, Any] | None) -> Epoch:
    """Number and digest of an epoch from its control body (evidence format, section 11); epoch 0 for none."""
    if body is None:
        return Epoch()
    return Epoch(int(body["number"]), hashlib.sha256(canonical_json(body)).hexdigest())


def activate(
    sealed: Sequence[Mapping[str, Any]],
    references: References,
    append: Callable[[str, JsonValue], object],
    *,
    may_return: bool = True,
) -> Mapping[str, Any]:
    """The control body of the epoch in force: the last of ``sealed``, or a new one when what is here differs from it.

    ``append(class, body)`` is called with what the control log must say before the new epoch judges anything.

    Args:
        sealed: control bodies of all epochs so far, in order.
        references: with this process's own artifacts.
        append: journals a control entry.
        may_return: whether artifacts and software of an epoch that was replaced come into force again. Where versions
            run beside each other, the older one must not undo what the newer one activated.

    Raises:
        PolicyError: an artifact is missing, broken or unknown.
    """
    if sealed:
        said = references.own_as(int(sealed[-1]["number"])).to_control_body()
        if said == sealed[-1] or (not may_return and any({**said, "number": e["number"]} == e for e in sealed)):
            return sealed[-1]
    body = references.own_as(int(sealed[-1]["number"]) + 1 if sealed else 1).to_control_body()
    append(EventClass.REFERENCE_ACTIVATED, body)
    return body


def keep_artifacts(folder: Path, artifacts: Mapping[str, bytes]) -> None:
    """Keep each artifact in ``folder`` under its SHA-256, durably, for evidence packages to come."""
    for content in artifacts.values():
        path = folder / hashlib.sha256(content).hexdigest()
        if path.exists():
            continue
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def announce_epoch(references: References, body: Mapping[str, Any], store: Store) -> None:
    """Let those who decide before the act take up the epoch with this control body, which is sealed.

    Its artifacts are kept beside it. Where this process cannot get them, another one's snapshot stays as it is.

    Raises:
        StoreUnavailable: the store cannot be read now.
    """
    try:
        keep_artifacts(references.folder, _content_of(references.of(body, store)))
    except (EpochUnavailable, PolicyError) as error:
        _log.warning("Decisions before the act are not made under epoch %s here: %s", body["number"], error)
        return
    announce(references.folder, body)
