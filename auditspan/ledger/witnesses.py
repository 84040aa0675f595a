"""Witnesses: others who cosign a checkpoint once they have seen that its log only grew.

Formats: C2SP ``signed-note`` (verifier keys), ``tlog-cosignature`` (version 1 with Ed25519, signature type 0x04) and
``tlog-witness`` (``add-checkpoint``), as ``docs/evidence-format.md`` section 16 pins them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.errors import AuditSpanError
from auditspan.ledger.bounded_post import Post
from auditspan.ledger.checkpoint import Checkpoint
from auditspan.ledger.signing_key import public_bytes

__all__ = [
    "Cosignature",
    "CosignatureInvalid",
    "Witness",
    "WitnessConflict",
    "WitnessKeyInvalid",
    "WitnessRefused",
    "add_checkpoint",
    "cosignatures",
    "signature_lines",
]

_COSIGNATURE_V1: Final = b"\x04"
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 4 + 8 + 64
_LARGEST_TIME: Final = 2**63 - 1
_NAME: Final = re.compile(r"[^\s+\x00-\x1f\x7f]{1,255}")
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,15})\n")
_MOST_PROOF: Final = 63
"""Hashes of a consistency proof that a witness takes (``tlog-witness``)."""


class WitnessKeyInvalid(AuditSpanError):
    """The text is no verifier key of a witness that cosigns with Ed25519."""


class WitnessRefused(AuditSpanError):
    """A witness answered, and did not cosign. ``status`` is that of HTTP."""

    def __init__(self, message: str, *, remedy: str, status: int) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class WitnessConflict(AuditSpanError):
    """The witness has cosigned a tree of another ``size`` last (409): the proof must begin there."""

    def __init__(self, message: str, *, remedy: str, size: int) -> None:
        super().__init__(message, remedy=remedy)
        self.size = size


class CosignatureInvalid(Exception):
    """A line of a known witness is no cosignature of this checkpoint."""


@dataclass(frozen=True, slots=True)
class Witness:
    """Name and key of a witness."""

    name: str
    key: Ed25519PublicKey

    @classmethod
    def parse(cls, vkey: str) -> Witness:
        """From a verifier key: ``<name>+<key id in hexadecimal>+<base64 of type 0x04 and the public key>``.

        Raises:
            WitnessKeyInvalid: it is something else, or its key id is not that of name and key.
        """
        name, _, rest = vkey.partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
            if not (_NAME.fullmatch(name) and raw[:1] == _COSIGNATURE_V1 and len(raw) == 1 + _KEY_BYTES):
                raise ValueError("name, type or length")
            made = cls(name, Ed25519PublicKey.from_public_bytes(raw[1:]))
        except (ValueError, binascii.Error) as error:
            raise _no_key("it is not NAME+KEY-ID+KEY with a key of type 0x04 (Ed25519 cosignatures)") from error
        if key_id != made.key_id.hex():
            raise _no_key("its key id does not fit name and key")
        return made

    @property
    def key_id(self) -> bytes:
        """First 4 bytes of ``SHA-256(name ‖ 0x0A ‖ 0x04 ‖ public key)``."""
        return hashlib.sha256(self.name.encode() + b"\n" + _COSIGNATURE_V1 + public_bytes(self.key)).digest()[:4]

    @property
    def vkey(self) -> str:
        """The verifier key as text."""
        encoded = base64.b64encode(_COSIGNATURE_V1 + public_bytes(self.key)).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


@dataclass(frozen=True, slots=True)
class Cosignature:
    """What a witness said: at ``time`` (seconds since 1970) this was the largest tree it had seen of the log.

    ``line`` is the signature line without its newline.
    """

    witness: Witness
    time: int
    line: str


def signature_lines(note: str) -> list[str]:
    """The signature lines of a note, without newlines; none where there is no blank line."""
    _, blank, signatures = note.partition("\n\n")
    return [line for line in signatures.split("\n") if line] if blank else []


def cosignatures(lines: Sequence[str], checkpoint: Checkpoint, witnesses: Sequence[Witness]) -> list[Cosignature]:
    """The cosignatures of these witnesses among signature lines, each witness once, in the order of the lines.

    Lines of others are passed over, as ``signed-note`` demands.

    Raises:
        CosignatureInvalid: a line has name and key id of a witness, and its signature does not fit the checkpoint.
    """
    known = {(witness.name, witness.key_id): witness for witness in witnesses}
    found: dict[tuple[str, bytes], Cosignature] = {}
    for line in lines:
        name, _, encoded = line.removeprefix("— ").partition(" ")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            continue
        witness = known.get((name, raw[:4]))
        if witness is not None:
            found.setdefault((name, raw[:4]), Cosignature(witness, _verified(witness, raw, checkpoint), line))
    return list(found.values())


def _verified(witness: Witness, raw: bytes, checkpoint: Checkpoint) -> int:
    """The time of a cosignature, once its signature is verified (``tlog-cosignature``, Ed25519 signed message)."""
    if len(raw) != _SIGNATURE_BYTES:
        raise CosignatureInvalid(f"{witness.name}: {len(raw)} bytes are no timestamped Ed25519 signature")
    time = int.from_bytes(raw[4:12], "big")
    # A cosignature of a checkpoint must say when: 0 is for subtrees.
    if not 0 < time <= _LARGEST_TIME:
        raise CosignatureInvalid(f"{witness.name}: it says no time")
    try:
        witness.key.verify(raw[12:], b"cosignature/v1\ntime %d\n" % time + checkpoint.body())
    except InvalidSignature as error:
        raise CosignatureInvalid(f"{witness.name}: the signature does not fit the checkpoint") from error
    return time


def add_checkpoint(
    post: Post, url: str, witness: Witness, checkpoint: Checkpoint, note: str, old: int, proof: Sequence[bytes]
) -> Cosignature:
    """Have a witness cosign a checkpoint (``tlog-witness``, ``add-checkpoint``).

    Args:
        post: asks within a bounded time and size.
        url: the witness's submission prefix.
        witness: whose cosignature is wanted; others in the answer are passed over.
        checkpoint: what the note says.
        note: as the log signed it.
        old: size of the tree that the witness cosigned last, 0 when it has none.
        proof: RFC 6962 consistency proof from ``old`` leaves to the checkpoint, empty for 0 and for the same size.

    Raises:
        WitnessConflict: it cosigned a tree of another size last.
        WitnessRefused: it refused, or its answer is no cosignature of this checkpoint by its key.
        Unanswered: it cannot be reached, or does not answer in time.
    """
    if len(proof) > _MOST_PROOF:
        raise ValueError(f"a proof of {len(proof)} hashes")
    lines = [f"old {old}", *(base64.b64encode(each).decode() for each in proof)]
    body = "".join(f"{line}\n" for line in lines) + "\n" + note
    answer = post(f"{url.rstrip('/')}/add-checkpoint", body.encode(), "text/plain; charset=utf-8")
    if answer.status == 409:
        raise _conflict(witness, answer.body)
    if answer.status != 200:
        raise _refused(witness, answer.status)
    try:
        found = cosignatures(answer.body.decode().split("\n"), checkpoint, [witness])
    except (CosignatureInvalid, UnicodeDecodeError) as error:
        raise _useless(witness, "is not valid for this checkpoint") from error
    if not found:
        raise _useless(witness, "is not by the key that the settings name")
    return found[0]


_REFUSALS: Final = {
    400: "it does not read the request (400)",
    403: "it does not know the key that signed the checkpoint (403)",
    404: "it does not know this log (404)",
    422: "it finds the proof or the root wrong (422): another history of this log was cosigned",
}


def _refused(witness: Witness, status: int) -> WitnessRefused:
    why = _REFUSALS.get(status, f"it answered {status}")
    remedy = (
        "Give the witness's operator the control log's origin and verifier key: `auditspan keys vkey` prints them."
        if status in (403, 404)
        else "Keep the store as it is, and compare it with the newest backup: `auditspan doctor`."
        if status == 422
        else "It is asked again; if this goes on, ask the witness's operator."
    )
    return WitnessRefused(f"The witness {witness.name} did not cosign: {why}.", remedy=remedy, status=status)


def _useless(witness: Witness, why: str) -> WitnessRefused:
    return WitnessRefused(
        f"What the witness {witness.name} answered {why}.",
        remedy="Compare the vkey in `anchors.witnesses` with the one that the witness shows.",
        status=200,
    )


def _conflict(witness: Witness, body: bytes) -> AuditSpanError:
    match = _SIZE.fullmatch(body)
    if match is None:
        return WitnessRefused(
            f"The witness {witness.name} answered 409 without the size that it knows.",
            remedy="It does not speak C2SP tlog-witness: ask its operator.",
            status=409,
        )
    size = int(match[1])
    return WitnessConflict(
        f"The witness {witness.name} cosigned a tree of {size} leaves last.",
        remedy="The proof is made from there.",
        size=size,
    )


def _no_key(why: str) -> WitnessKeyInvalid:
    return WitnessKeyInvalid(
        f"This is no verifier key of a witness: {why}.",
        remedy="Copy the vkey from where the witness shows it, such as its start page.",
    )
