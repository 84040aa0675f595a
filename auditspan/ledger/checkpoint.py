"""Checkpoints: signed notes over a log's size and root.

Format: C2SP ``tlog-checkpoint`` and ``signed-note`` with Ed25519, as ``docs/evidence-format.md`` section 12 pins it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.ledger.signing_key import SigningKey, public_bytes

__all__ = [
    "Checkpoint",
    "CheckpointInvalid",
    "log_origin",
    "open_checkpoint",
    "sign_checkpoint",
    "verifier_key",
]

_ED25519 = b"\x01"


class CheckpointInvalid(Exception):
    """The note is malformed, for another origin, or not signed by a trusted key. ``code`` is a verifier code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says: ``size`` leaves of the log ``origin`` have the RFC 6962 ``root``."""

    origin: str
    size: int
    root: bytes

    def body(self) -> bytes:
        """The text that is signed (C2SP tlog-checkpoint: origin, decimal size, base64 root)."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()


def log_origin(deployment: str, log_id: str) -> str:
    """The origin line of a log."""
    return f"auditspan/{deployment}/{log_id}"


def verifier_key(origin: str, key: Ed25519PublicKey) -> str:
    """The C2SP verifier key under which a log with this origin signs: what a witness is configured with."""
    encoded = base64.b64encode(_ED25519 + public_bytes(key)).decode()
    return f"{origin}+{_key_id(origin, key).hex()}+{encoded}"


def _key_id(name: str, key: Ed25519PublicKey) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_bytes(key)).digest()[:4]


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The signed note; the name in its signature line is the origin."""
    body = checkpoint.body()
    signature = _key_id(checkpoint.origin, key.public_key()) + key.sign(body)
    return body.decode() + f"\n— {checkpoint.origin} {base64.b64encode(signature).decode()}\n"


def open_checkpoint(note: str, origin: str, keys: Sequence[Ed25519PublicKey]) -> Checkpoint:
    """The checkpoint in a signed note, if one of ``keys`` signed it for ``origin``.

    Lines of other signers (witnesses) are allowed and not looked at.

    Raises:
        CheckpointInvalid: ``checkpoint.malformed``, ``checkpoint.origin`` or ``checkpoint.signature``.
    """
    checkpoint, lines = _parse(note)
    if checkpoint.origin != origin:
        raise CheckpointInvalid("checkpoint.origin", f"the note is for {checkpoint.origin!r}")
    trusted = {_key_id(origin, key): key for key in keys}
    for line in lines:
        name, _, encoded = line.removeprefix("— ").partition(" ")
        try:
            signature = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise CheckpointInvalid("checkpoint.malformed", "a signature line is not base64") from error
        key = trusted.get(signature[:4])
        if name != origin or key is None:
            continue
        try:
            key.verify(signature[4:], checkpoint.body())
        except InvalidSignature as error:
            raise CheckpointInvalid("checkpoint.signature", "the signature does not fit the note") from error
        return checkpoint
    raise CheckpointInvalid("checkpoint.signature", "no trusted key signed the note")


def _parse(note: str) -> tuple[Checkpoint, list[str]]:
    text, blank, signatures = note.partition("\n\n")
    lines = text.split("\n")
    signature_lines = signatures.removesuffix("\n").split("\n")
    try:
        origin, size, encoded = lines
        root = base64.b64decode(encoded, validate=True)
        if not (blank and size.isascii() and size.isdigit() and str(int(size)) == size and len(root) == 32):
            raise ValueError("size or root")
        if not (signatures.endswith("\n") and all(line.startswith("— ") for line in signature_lines)):
            raise ValueError("signature lines")
    except (ValueError, binascii.Error) as error:
        raise CheckpointInvalid(
            "checkpoint.malformed", "the note is no checkpoint of three lines and signatures"
        ) from error
    return Checkpoint(origin, int(size), root), signature_lines
