"""Rotation of the signing key: the statement that both keys sign (``docs/evidence-format.md`` section 11).

The old key says who comes after it, and the new one that it wants to: neither alone can bring the other in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.canonical import JsonValue, canonical_json
from auditspan.ledger.checkpoint import public_bytes
from auditspan.ledger.signing_key import SigningKey, key_id, public_text

__all__ = ["Rotation", "RotationInvalid", "follow", "open_rotation", "sign_rotation"]

_STATED: Final = frozenset({"at", "deployment", "from", "retired_at", "to"})
_BOTH: Final = frozenset({"from", "to"})
_LONGEST_TIME: Final = 20


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
    """The body of ``audit.key.rotated``: the statement, and the signature of each key over its canonical JSON.

    Nothing else that these keys sign begins as a JSON object does: neither a checkpoint nor a DSSE envelope's encoding.
    """
    rotation = Rotation(deployment, old.public_key(), new.public_key(), at, retired_at)
    said = canonical_json(rotation.statement())
    signatures = {name: base64.b64encode(key.sign(said)).decode() for name, key in (("from", old), ("to", new))}
    return {"statement": rotation.statement(), "signatures": signatures}


def open_rotation(body: Any) -> Rotation:
    """The statement in a body of ``audit.key.rotated``, if both of its keys signed it.

    Raises:
        RotationInvalid: it is malformed, or a signature does not fit. Nobody has said yet that either key is trusted.
    """
    try:
        statement, signatures = body["statement"], body["signatures"]
        if body.keys() != {"statement", "signatures"} or statement.keys() != _STATED or signatures.keys() != _BOTH:
            raise ValueError("it has other keys than section 11 says")
        keys = {name: Ed25519PublicKey.from_public_bytes(_decoded(statement[name])) for name in _BOTH}
        deployment, at, retired_at = statement["deployment"], _time(statement["at"]), _time(statement["retired_at"])
        if not isinstance(deployment, str) or retired_at < at or statement["from"] == statement["to"]:
            raise ValueError("it names no two keys of a deployment and a time of overlap")
        said = canonical_json(statement)
        for name in sorted(_BOTH):
            keys[name].verify(_decoded(signatures[name]), said)
    except InvalidSignature as error:
        raise RotationInvalid("the statement is not signed by both keys") from error
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise RotationInvalid(f"no statement of a rotation: {error}") from error
    return Rotation(deployment, keys["from"], keys["to"], at, retired_at)


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


def _decoded(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError("a key or a signature is text")
    return base64.b64decode(text, validate=True)


def _time(text: Any) -> int:
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= _LONGEST_TIME):
        raise ValueError("a time is a decimal text")
    if str(int(text)) != text:
        raise ValueError("a time has no leading zeros")
    return int(text)
