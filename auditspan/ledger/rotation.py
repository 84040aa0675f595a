"""Rotation of the signing key: the statement that both keys sign (``docs/evidence-format.md`` section 11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.canonical import JsonValue
from auditspan.ledger.signing_key import SigningKey, key_id, public_bytes, public_text
from auditspan.ledger.two_keys import StatementInvalid, open_signed_by_both, sign_by_both, time_of

__all__ = ["Rotation", "RotationInvalid", "follow", "open_rotation", "sign_rotation"]

_STATED: Final = frozenset({"at", "deployment", "from", "retired_at", "to"})


class RotationInvalid(ValueError):
    """A statement that is malformed, or not signed by both of its keys."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a statement says: ``new`` signs for the deployment from ``at`` on, ``old`` no longer after ``retired_at``.

    Times are nanoseconds since 1970.
    """

    deployment: str
    old: Ed25519PublicKey
    new: Ed25519PublicKey
    at: int
    retired_at: int

    def statement(self) -> dict[str, JsonValue]:
        """The statement, whose canonical JSON is signed."""
        return {
            "deployment": self.deployment,
            "from": public_text(self.old),
            "to": public_text(self.new),
            "at": str(self.at),
            "retired_at": str(self.retired_at),
        }

    def __repr__(self) -> str:
        return f"Rotation({self.deployment!r}, {key_id(self.old)[:16]} to {key_id(self.new)[:16]})"


def sign_rotation(deployment: str, old: SigningKey, new: SigningKey, at: int, retired_at: int) -> dict[str, JsonValue]:
    """The body of ``audit.key.rotated``: the statement, and the signature of each key over its canonical JSON."""
    rotation = Rotation(deployment, old.public_key(), new.public_key(), at, retired_at)
    return sign_by_both(rotation.statement(), old, new)


def open_rotation(body: Any) -> Rotation:
    """The statement in a body of ``audit.key.rotated``, if both of its keys signed it.

    Raises:
        RotationInvalid: it is malformed, or a signature does not fit. Nobody has said yet that either key is trusted.
    """
    try:
        return open_signed_by_both(body, _STATED, _read)
    except StatementInvalid as error:
        raise RotationInvalid(str(error)) from error


def follow(deployment: str, begin: Sequence[Ed25519PublicKey], bodies: Iterable[Mapping[str, Any]]) -> list[Rotation]:
    """The rotations that lead on from the keys ``begin``, in order.

    Of several from one key the first counts, and none leads back. What is no valid statement, or of keys that nobody
    vouched for, leads nowhere.
    """
    reached = {public_bytes(key) for key in begin}
    left: set[bytes] = set()
    found = []
    for body in bodies:
        try:
            rotation = open_rotation(body)
        except RotationInvalid:
            continue
        old, new = public_bytes(rotation.old), public_bytes(rotation.new)
        if rotation.deployment == deployment and old in reached and not {old, new} & left:
            left.add(old)
            reached.add(new)
            found.append(rotation)
    return found


def _read(statement: Any, old: Ed25519PublicKey, new: Ed25519PublicKey) -> Rotation:
    deployment, at, retired_at = statement["deployment"], time_of(statement["at"]), time_of(statement["retired_at"])
    if not isinstance(deployment, str) or retired_at < at:
        raise ValueError("it names no deployment and no time of overlap")
    return Rotation(deployment, old, new, at, retired_at)
