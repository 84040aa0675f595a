"""Key files of a deployment: the Ed25519 signing key, the salt key, and the first ``trust.json``."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from auditspan.durable import sync
from auditspan.errors import AuditSpanError
from auditspan.ledger.signing_key import FileSigningKey, SigningKey, public_text

__all__ = [
    "KeyFileError",
    "init_journal_key",
    "init_keys",
    "init_signing_key",
    "load_journal_key",
    "load_salt_key",
    "load_signing_key",
    "write_secret_file",
]

SALT_KEY_LENGTH: Final = 32
JOURNAL_KEY_LENGTH: Final = 32
_OTHERS: Final = 0o077


class KeyFileError(AuditSpanError):
    """A key file is missing, readable by others, in the way of a new one, or not what it should be."""


def init_keys(*, signing_key: Path, salt_key: Path, trust: Path, deployment: str, added_at: str) -> None:
    """Make the keys of a new deployment: both private files 0600, and the public ``trust.json``.

    ``added_at`` is an RFC 3339 time. Nothing is ever overwritten: a lost signing key ends the log that it signed, and a
    lost salt key every disclosure.

    Raises:
        KeyFileError: one of the files exists.
    """
    for path in (signing_key, salt_key, trust):
        if path.exists() or path.is_symlink():
            raise KeyFileError(
                f"{path} exists already.",
                remedy="Keys are made once for a deployment; use another --data directory for another deployment.",
            )
    key = init_signing_key(signing_key)
    write_secret_file(salt_key, secrets.token_bytes(SALT_KEY_LENGTH))
    document = {
        "version": 1,
        "deployment": deployment,
        "keys": [{"algorithm": "Ed25519", "public_key": public_text(key.public_key()), "added_at": added_at}],
    }
    _write_new(trust, (json.dumps(document, indent=2) + "\n").encode(), mode=0o644)


def init_signing_key(path: Path) -> SigningKey:
    """Make a signing key: a new file, PEM, 0600. Never overwritten.

    Raises:
        KeyFileError: the file exists.
    """
    key = Ed25519PrivateKey.generate()
    write_secret_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return FileSigningKey(key)


def init_journal_key(path: Path) -> None:
    """Make the key with which collectors vouch for what they write to Kafka. Never overwritten.

    Raises:
        KeyFileError: the file exists.
    """
    write_secret_file(path, secrets.token_bytes(JOURNAL_KEY_LENGTH))


def write_secret_file(path: Path, content: str | bytes) -> None:
    """Write a new file that only its owner can read (0600), durably.

    Raises:
        KeyFileError: ``path`` exists, as a link too.
    """
    _write_new(path, content.encode() if isinstance(content, str) else content, mode=0o600)


def load_signing_key(path: Path) -> SigningKey:
    """The signing key of a file.

    Raises:
        KeyFileError: it is missing, readable by others, or no Ed25519 key.
    """
    content = _read_private(path)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the parser says may quote what it read.
        raise _unusable(path, "an Ed25519 private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(path, "an Ed25519 private key in PEM")
    return FileSigningKey(key)


def load_salt_key(path: Path) -> bytes:
    """The salt key, 32 bytes.

    Raises:
        KeyFileError: it is missing, readable by others, or of another length.
    """
    content = _read_private(path)
    if len(content) != SALT_KEY_LENGTH:
        raise _unusable(path, f"a key of {SALT_KEY_LENGTH} bytes")
    return content


def load_journal_key(path: Path) -> bytes:
    """The journal key, 32 bytes.

    Raises:
        KeyFileError: it is missing, readable by others, or of another length.
    """
    if not path.exists():
        raise KeyFileError(
            f"{path} is not there: with it the collectors of a deployment vouch for what they write to Kafka.",
            remedy="Copy it from the deployment's other directories, with mode 0600; the first one makes it with:"
            f" auditspan keys journal --data {path.parent}",
        )
    content = _read_private(path)
    if len(content) != JOURNAL_KEY_LENGTH:
        raise _unusable(path, f"a key of {JOURNAL_KEY_LENGTH} bytes")
    return content


def _write_new(path: Path, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags, mode)
    except FileExistsError as error:
        raise KeyFileError(
            f"{path} exists already.", remedy="It is never overwritten: move it away on purpose if it must go."
        ) from error
    except OSError as error:
        raise KeyFileError(
            f"{path} cannot be written: {error.strerror}.", remedy="Make its folder, and let this user write to it."
        ) from error
    with os.fdopen(handle, "wb") as file:
        # The process's umask may have taken bits away; what is left must be exactly the mode.
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & _OTHERS:
                raise KeyFileError(
                    f"{path} can be read by others than its owner (mode {mode & 0o777:04o}).",
                    remedy=f"Run: chmod 600 {path}, and consider who may have copied it.",
                )
            return file.read()
    except OSError as error:
        raise _missing(path) from error


def _missing(path: Path) -> KeyFileError:
    return KeyFileError(f"{path} cannot be read.", remedy="Make the keys with: auditspan keys init --data DIR")


def _unusable(path: Path, expected: str) -> KeyFileError:
    return KeyFileError(f"{path} is not {expected}.", remedy="Restore it from the backup of the deployment's keys.")
