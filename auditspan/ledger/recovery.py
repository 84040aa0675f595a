"""Recovery of a ledger that lost signed leaves: the statement that leads over to the deployment that goes on for it.

A log that lost signed leaves is never continued: whoever holds a checkpoint over them would see two histories. So a new
deployment begins, and the first thing that it seals is what was lost, by the word of both: the key of the old one and
its own (``docs/evidence-format.md`` section 11).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.canonical import JsonValue
from auditspan.errors import AuditSpanError
from auditspan.ledger.signing_key import SigningKey, key_id, public_text
from auditspan.ledger.two_keys import StatementInvalid, decoded, open_signed_by_both, sign_by_both, time_of

__all__ = [
    "LONGEST_TEXT",
    "RecoveredLog",
    "Recovery",
    "RecoveryInvalid",
    "described",
    "open_recovery",
    "read_recovery",
    "sign_recovery",
]

LONGEST_TEXT: Final = 256
"""Bytes of who recovers, and why."""
_STATED: Final = frozenset({"at", "by", "deployment", "from", "logs", "predecessor", "reason", "to"})
_LOG: Final = frozenset({"log_id", "partition", "carried", "signed", "stored"})
_LOG_ID: Final = re.compile(r"[0-9a-f]{32}")
_LARGEST_NUMBER: Final = 2**63 - 1
_HASH: Final = 32


class RecoveryInvalid(ValueError):
    """A statement that is malformed, or not signed by both of its keys."""


@dataclass(frozen=True, slots=True)
class RecoveredLog:
    """What is left of a log of the old deployment.

    ``stored`` and ``signed`` are size and root: of the tree that is left, and of the largest one that is known to have
    been signed, None where none is. ``carried`` counts the journal's entries after those that are sealed in the tree
    that is left: they are journaled again, and sealed, by the new deployment.
    """

    log_id: str
    partition: str
    stored: tuple[int, bytes]
    signed: tuple[int, bytes] | None
    carried: int = 0

    @property
    def lost(self) -> tuple[int, int] | None:
        """The leaves ``[begin, end)`` that were signed and are not there; None where none is known."""
        if self.signed is None or self.signed[0] <= self.stored[0]:
            return None
        return self.stored[0], self.signed[0]

    @property
    def differs(self) -> bool:
        """Whether a tree of the size of the one that is left, and another root, was signed."""
        return self.signed is not None and self.signed[0] == self.stored[0] and self.signed[1] != self.stored[1]

    def statement(self) -> dict[str, JsonValue]:
        """As the statement has it."""
        return {
            "log_id": self.log_id,
            "partition": self.partition,
            "stored": _tree(*self.stored),
            "signed": None if self.signed is None else _tree(*self.signed),
            "carried": self.carried,
        }


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a statement says: ``deployment`` goes on for ``predecessor`` from ``at`` (ns since 1970) on.

    ``old`` is the key with which the predecessor signed last, ``new`` the first one of the deployment. ``by`` and
    ``reason`` say who decided it and why.
    """

    deployment: str
    predecessor: str
    old: Ed25519PublicKey
    new: Ed25519PublicKey
    at: int
    by: str
    reason: str
    logs: Sequence[RecoveredLog]

    def statement(self) -> dict[str, JsonValue]:
        """The statement, whose canonical JSON is signed."""
        return {
            "deployment": self.deployment,
            "predecessor": self.predecessor,
            "from": public_text(self.old),
            "to": public_text(self.new),
            "at": str(self.at),
            "by": self.by,
            "reason": self.reason,
            "logs": [log.statement() for log in self.logs],
        }

    def __repr__(self) -> str:
        return f"Recovery({self.deployment!r} for {self.predecessor!r}, {len(self.logs)} logs)"


def sign_recovery(recovery: Recovery, old: SigningKey, new: SigningKey) -> dict[str, JsonValue]:
    """The body of ``audit.ledger.recovered``: the statement, and the signature of each key over its canonical JSON.

    Raises:
        RecoveryInvalid: a text is empty or too long, or the keys are not those of the statement.
    """
    body = sign_by_both(recovery.statement(), old, new)
    open_recovery(body)
    return body


def open_recovery(body: Any) -> Recovery:
    """The statement in a body of ``audit.ledger.recovered``, if both of its keys signed it.

    Raises:
        RecoveryInvalid: it is malformed, or a signature does not fit. Nobody has said yet that either key is trusted.
    """
    try:
        return open_signed_by_both(body, _STATED, _read)
    except StatementInvalid as error:
        raise RecoveryInvalid(str(error)) from error


def read_recovery(path: Path, deployment: str) -> dict[str, JsonValue] | None:
    """The body that a deployment is to seal first, from its file; None when it goes on for no other one.

    Raises:
        AuditSpanError: the file is no statement of two keys, or of another deployment.
    """
    try:
        body: dict[str, JsonValue] = json.loads(path.read_bytes())
        recovery = open_recovery(body)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AuditSpanError(
            f"{path} is no statement of a recovery: {error}.",
            remedy="Put it back as `auditspan ledger recover` wrote it: this deployment is to seal it.",
        ) from error
    if recovery.deployment != deployment:
        raise AuditSpanError(
            f"{path} is of the deployment {recovery.deployment!r}, not of {deployment!r}.",
            remedy="A deployment keeps its name: set `deployment` back.",
        )
    return body


def described(recovery: Recovery) -> dict[str, JsonValue]:
    """The statement as a report has it, with the ids of the keys in place of these."""
    said = recovery.statement()
    return {**said, "from": key_id(recovery.old), "to": key_id(recovery.new)}


def _read(statement: Any, old: Ed25519PublicKey, new: Ed25519PublicKey) -> Recovery:
    recovery = Recovery(
        deployment=_text(statement["deployment"]),
        predecessor=_text(statement["predecessor"]),
        old=old,
        new=new,
        at=time_of(statement["at"]),
        by=_text(statement["by"]),
        reason=_text(statement["reason"]),
        logs=[_log(log) for log in statement["logs"]],
    )
    if recovery.deployment == recovery.predecessor:
        raise ValueError("it names no two deployments")
    return recovery


def _tree(size: int, root: bytes) -> dict[str, JsonValue]:
    return {"size": size, "root": base64.b64encode(root).decode()}


def _log(value: Any) -> RecoveredLog:
    if value.keys() != _LOG or not _LOG_ID.fullmatch(value["log_id"]):
        raise ValueError("it names no log")
    signed = value["signed"]
    return RecoveredLog(
        log_id=value["log_id"],
        partition=_text(value["partition"]),
        stored=_opened_tree(value["stored"]),
        signed=None if signed is None else _opened_tree(signed),
        carried=_number(value["carried"]),
    )


def _opened_tree(value: Any) -> tuple[int, bytes]:
    if value.keys() != {"size", "root"}:
        raise ValueError("a tree has size and root")
    root = decoded(value["root"])
    if len(root) != _HASH:
        raise ValueError("a root has 32 bytes")
    return _number(value["size"]), root


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_NUMBER:
        raise ValueError("a size or a count is a number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= LONGEST_TEXT:
        raise ValueError(f"a text has 1 to {LONGEST_TEXT} bytes")
    return value
