"""Reference epochs: which packs, tables and registry are in force, sealed before they judge anything.

The control log decides. Of several ``audit.reference.activated`` entries with one number the first in the order of the
control partition counts; later ones are sealed like any control entry and bring nothing into force. So whoever
activates reads back whether the own word stands first, and no two need a lock between them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditspan.canonical import JsonValue
from auditspan.durable import sync
from auditspan.policy.activation import Activation
from auditspan.policy.artifacts_kept import kept
from auditspan.policy.codes import listing_faults
from auditspan.policy.errors import PolicyError
from auditspan.policy.reference import Reference, software
from auditspan.policy.snapshot import announce
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .references import EpochUnavailable, References, epoch_of

__all__ = [
    "EpochUnavailable",
    "References",
    "activate",
    "announce_epoch",
    "effective",
    "epoch_of",
    "epochs",
    "keep_artifacts",
    "last_epoch",
]

_log = logging.getLogger(__name__)


def epochs(store: Store, control_log: str) -> list[Mapping[str, Any]]:
    """The control bodies of all epochs that the control log brought into force, in order."""
    leaves = store.log_leaves(control_log, [EventClass.REFERENCE_ACTIVATED])["header"].to_pylist()
    return effective(json.loads(leaf)["body"]["body"] for leaf in leaves)


def effective(bodies: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of the control bodies in order of the control log, those that came into force: the first of each number."""
    found: list[Mapping[str, Any]] = []
    for body in bodies:
        if not found or int(body["number"]) > int(found[-1]["number"]):
            found.append(body)
    return found


def last_epoch(store: Store, control_log: str) -> Mapping[str, Any] | None:
    """The control body of the epoch in force; None when there is none."""
    found = epochs(store, control_log)
    return found[-1] if found else None


def activate(
    sealed: Sequence[Mapping[str, Any]],
    references: References,
    store: Store,
    append: Callable[[str, JsonValue], object],
    *,
    may_return: bool = True,
) -> Mapping[str, Any]:
    """The control body of the epoch that a start brings into force: the last of ``sealed``, or a new one.

    What officers activated stays in force; everything else is as this process has it. When that cannot be loaded
    together, the last epoch stays in force as it is, and the log says why. A new epoch is journaled by
    ``append(class, body)``; whether it stands first there is for the caller to read back.

    Args:
        sealed: control bodies of all epochs in force so far, in order.
        references: with this process's own artifacts.
        store: keeps what officers activated.
        append: journals a control entry.
        may_return: whether artifacts and software of an epoch that was replaced come into force again. Where versions
            run beside each other, the older one must not undo what the newer one activated.

    Raises:
        PolicyError: there is no epoch yet, and an artifact is missing, broken or unknown.
        EpochUnavailable: what an officer activated is nowhere to be had.
    """
    last = sealed[-1] if sealed else None
    activation = Activation.of(last) if last is not None else Activation()
    if last is not None:
        if _same_start(references.digests, last, activation.held):
            return last
        if not may_return and any(
            _same_start(references.digests, one, {*activation.held, *Activation.of(one).held}) for one in sealed
        ):
            return last
    wanted = references.own_with(last, activation.held, store)
    try:
        number = int(last["number"]) + 1 if last else 1
        reference = Reference.load(wanted, number, Activation(held=activation.held), references.folder).opened()
        # A party on a list that nothing knows would count as on none.
        if (fault := next(listing_faults(reference.parties, reference.packs.compared), None)) is not None:
            raise fault
    except PolicyError as error:
        if last is None:
            raise
        _log.critical(
            "What comes with this start does not fit what officers activated, or is broken, and is not used: %s "
            "Reference epoch %d stays in force.",
            error,
            int(last["number"]),
        )
        return last
    body = reference.to_control_body()
    references.remember(epoch_of(body), reference)
    append(EventClass.REFERENCE_ACTIVATED, body)
    return body


def _same_start(own: Mapping[str, str], body: Mapping[str, Any], apart: Collection[str]) -> bool:
    """Whether an epoch is what a start of this software with these artifacts makes, those in ``apart`` aside."""
    said = {a["name"]: a["sha256"] for a in body["artifacts"] if a["name"] not in apart}
    mine = {name: digest for name, digest in own.items() if name not in apart}
    return said == mine and body["software"] == software()


def keep_artifacts(folder: Path, artifacts: Mapping[str, bytes]) -> None:
    """Keep each artifact in ``folder`` under its SHA-256, durably, for evidence packages to come.

    A file that is there and damaged is written anew.

    Raises:
        OSError: the folder cannot be written.
    """
    for content in artifacts.values():
        digest = hashlib.sha256(content).hexdigest()
        path = folder / digest
        if kept(folder, digest) is not None:
            continue
        # A name of its own: processes that share the folder must not write into each other's file.
        temporary = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            # Whoever tries again must not fill the disk with what could not be written.
            temporary.unlink(missing_ok=True)
            raise
    sync(folder)


def announce_epoch(references: References, body: Mapping[str, Any], store: Store) -> bool:
    """Let those who decide before the act take up the epoch with this control body, which is sealed.

    Its artifacts are kept beside it. Where this process cannot get or read them, the snapshot that was announced
    before stays as it is, and the log says why.

    Returns:
        Whether it was announced. Where not, nobody may say of the one before that it is in force.

    Raises:
        StoreUnavailable: the store cannot be read now.
        OSError: the folder cannot be written now.
    """
    try:
        references.of(body, store)
        keep_artifacts(references.folder, references.contents(body, store))
    except (EpochUnavailable, PolicyError) as error:
        _log.warning("Decisions before the act are not made under epoch %s here: %s", body["number"], error)
        return False
    announce(references.folder, body)
    return True
