"""What the control log says of signing keys, for a package that is signed after a rotation."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.errors import AuditSpanError
from auditspan.ledger.rotation import follow, open_rotation
from auditspan.ledger.signing_key import SigningKey, key_id, public_text

from .control import ControlLeaf
from .interval import Reader

__all__ = ["KeyLeaves", "key_leaves"]

_ADDED: Final = "audit.key.added"
_ROTATED: Final = "audit.key.rotated"


@dataclass(frozen=True, slots=True)
class KeyLeaves:
    """The rotations that led from the first key of a control log to the one that signs now, in order.

    ``rotated`` are the leaves, ``keys`` every key from the first one on that the log names; empty for a log that
    names none.
    """

    rotated: Sequence[ControlLeaf]
    keys: Sequence[Ed25519PublicKey]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The manifest's ``keys`` (evidence format, section 14)."""
        return [leaf.body for leaf in self.rotated]

    def check(self, key: SigningKey) -> None:
        """Whether ``key`` is the last one that the log names: a package signed by another proves nothing.

        Raises:
            AuditSpanError: it is not, or not yet.
        """
        if self.keys and public_text(self.keys[-1]) != public_text(key.public_key()):
            raise AuditSpanError(
                f"The signing key {key_id(key.public_key())[:16]} is not the one that the control log names last, "
                f"{key_id(self.keys[-1])[:16]}, as far as it is signed.",
                remedy="After `auditspan keys rotate` let the service run for some seconds, then export again; else "
                "copy keys/ and trust.json from where the key was rotated.",
            )


def key_leaves(store: Reader, deployment: str, log_id: str, size: int) -> KeyLeaves:
    """What the control log says of keys below ``size``."""
    rows = [row for row in store.log_leaves(log_id, [_ADDED, _ROTATED]).to_pylist() if row["leaf_index"] < size]
    leaves = [
        (row["class"], ControlLeaf(int(row["leaf_index"]), row["header"], json.loads(row["header"])["body"]["body"]))
        for row in rows
    ]
    added = [leaf.body["public_key"] for name, leaf in leaves if name == _ADDED]
    if not added:
        return KeyLeaves([], [])
    first = _key(added[0])
    rotated = [leaf for name, leaf in leaves if name == _ROTATED]
    keys, found = [first], []
    for rotation in follow(deployment, [first], [leaf.body for leaf in rotated]):
        if public_text(rotation.old) == public_text(keys[-1]):
            keys.append(rotation.new)
            found.append(next(leaf for leaf in rotated if _leads(leaf.body, rotation.statement())))
    return KeyLeaves(found, keys)


def _leads(body: dict[str, Any], statement: dict[str, Any]) -> bool:
    return bool(body.get("statement") == statement and open_rotation(body))


def _key(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text))
