"""The one signer of a deployment's logs: it never signs a tree that contradicts one it signed before.

Size and root last signed are kept outside the store, so that a restored backup of the store, or a second signer, shows.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.durable import sync
from auditspan.errors import AuditSpanError
from auditspan.ledger.checkpoint import Checkpoint, log_origin, sign_checkpoint
from auditspan.ledger.merkle import EMPTY_ROOT, verify_consistency
from auditspan.ledger.signing_key import SigningKey

__all__ = ["Signed", "Signer", "SignerRefused", "last_signed"]

_LOG_ID: Final = re.compile(r"[0-9a-f]{32}")


class SignerRefused(AuditSpanError):
    """The tree is smaller than the last one signed, or does not contain it. Nothing was signed."""


@dataclass(frozen=True, slots=True)
class Signed:
    """Size and root that were last signed for a log."""

    size: int
    root: bytes


class Signer:
    """Signs checkpoints with one key at a time. Safe for several threads; one process at a time holds the state.

    Args:
        key: the deployment's signing key.
        state_directory: where the last size and root of every log are kept; must exist.
        deployment: name in the origin of every note.

    Raises:
        SignerRefused: another process holds the state directory.
    """

    def __init__(self, key: SigningKey, state_directory: Path, deployment: str) -> None:
        self._key = key
        self._directory = state_directory
        self._deployment = deployment
        self._guard = threading.Lock()
        self._held = _hold(state_directory)

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The public half of the key that signs now."""
        return self._key.public_key()

    def use(self, key: SigningKey) -> None:
        """Sign with ``key`` from now on: its rotation is sealed. What was signed before is remembered as it is."""
        with self._guard:
            self._key = key

    def last(self, log_id: str) -> Signed | None:
        """What was last signed for a log; None when nothing was.

        Raises:
            SignerRefused: the file that says so is damaged.
        """
        return last_signed(self._directory, log_id)

    def sign(self, log_id: str, size: int, root: bytes, consistency: Callable[[int], list[bytes]]) -> str:
        """A signed note over a tree, which is on disk as the last one signed before this returns.

        Signing one tree twice gives one note, so a crash between here and the use of the note does no harm.

        Args:
            log_id: 32 hexadecimal digits.
            size: leaves in the tree.
            root: its RFC 6962 root.
            consistency: ``consistency(old)`` gives the proof from ``old`` leaves to this tree; asked when a smaller one
                was signed before.

        Raises:
            SignerRefused: the tree is smaller than, or inconsistent with, the last one signed.
        """
        with self._guard:
            last = self.last(log_id)
            before = last or Signed(0, EMPTY_ROOT)
            if size < before.size:
                raise _refused(log_id, f"has {size} leaves, and a tree of {before.size} was signed before")
            grew = size > before.size
            proof = consistency(before.size) if grew and before.size else []
            if not verify_consistency(before.size, before.root, size, root, proof):
                raise _refused(log_id, f"of {size} leaves does not contain the tree of {before.size} signed before")
            if grew or last is None:
                self._keep(log_id, Signed(size, root))
            return sign_checkpoint(Checkpoint(log_origin(self._deployment, log_id), size, root), self._key)

    def close(self) -> None:
        """Let go of the state directory."""
        self._held.close()

    def __enter__(self) -> Self:
        """The signer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the state directory."""
        self.close()

    def _keep(self, log_id: str, signed: Signed) -> None:
        path = _path(self._directory, log_id)
        temporary = path.with_suffix(".tmp")
        said = {"size": signed.size, "root": base64.b64encode(signed.root).decode()}
        with temporary.open("w") as file:
            json.dump(said, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(self._directory)


def last_signed(state_directory: Path, log_id: str) -> Signed | None:
    """What was last signed for a log, asked beside a signer that may be at work; None when nothing was.

    Raises:
        SignerRefused: the file that says so is damaged.
    """
    path = _path(state_directory, log_id)
    try:
        said = json.loads(path.read_bytes())
        return Signed(int(said["size"]), base64.b64decode(said["root"], validate=True))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SignerRefused(
            f"{path} does not say which tree was signed last.", remedy="Put it back from the newest backup."
        ) from error


def _path(state_directory: Path, log_id: str) -> Path:
    if not _LOG_ID.fullmatch(log_id):
        raise ValueError(f"{log_id!r} is no log id")
    return state_directory / f"{log_id}.json"


def _hold(directory: Path) -> IO[str]:
    try:
        handle = (directory / "lock").open("a")
    except OSError as error:
        raise SignerRefused(
            f"The signer's state directory {directory} cannot be used: {error.strerror}.",
            remedy="Make it, owned by this user; `auditspan keys init` does.",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise SignerRefused(
            f"Another process signs with the state in {directory}.",
            remedy="Stop it: a log has one signer at a time.",
        ) from error
    return handle


def _refused(log_id: str, fault: str) -> SignerRefused:
    return SignerRefused(
        f"The tree of log {log_id} {fault}: nothing was signed.",
        remedy="The store was restored from an older backup, altered, or is another one: put the newest one back.",
    )
