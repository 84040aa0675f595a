"""Reference epochs: which packs, tables and registry are in force, sealed before they judge anything."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from auditspan.canonical import JsonValue, canonical_json
from auditspan.policy.reference import Reference
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .batch import Epoch

__all__ = ["activate", "epoch_of", "keep_artifacts", "last_epoch"]


def last_epoch(store: Store, control_log: str) -> Mapping[str, Any] | None:
    """The body of the last ``audit.reference.activated`` leaf of the control log; None when there is none."""
    leaves = store.log_leaves(control_log, [EventClass.REFERENCE_ACTIVATED])["header"].to_pylist()
    body: Mapping[str, Any] | None = json.loads(leaves[-1])["body"]["body"] if leaves else None
    return body


def epoch_of(body: Mapping[str, Any] | None) -> Epoch:
    """Number and digest of an epoch from its control body (evidence format, section 11); epoch 0 for none."""
    if body is None:
        return Epoch()
    return Epoch(int(body["number"]), hashlib.sha256(canonical_json(body)).hexdigest())


def activate(
    last: Mapping[str, Any] | None, artifacts: Mapping[str, bytes], append: Callable[[str, JsonValue], object]
) -> Reference:
    """The reference that ``artifacts`` (content by name) are, as epoch ``last`` or, when anything differs, a new one.

    ``append(class, body)`` is called with what the control log must say before the new epoch judges anything.

    Raises:
        PolicyError: an artifact is missing, broken or unknown.
    """
    if last is not None:
        reference = Reference.load(artifacts, int(last["number"]))
        if reference.to_control_body() == last:
            return reference
    reference = Reference.load(artifacts, int(last["number"]) + 1 if last is not None else 1)
    append(EventClass.REFERENCE_ACTIVATED, reference.to_control_body())
    return reference


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
