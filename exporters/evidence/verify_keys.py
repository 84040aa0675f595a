"""Which keys a package may be signed with: those of ``trust.json``, and those to which they were rotated.

Trust begins outside of the package. A rotation leads on from a key that is trusted when that key and the new one have
both signed the statement, the control log has sealed it, and the chain has neither fork nor hole (evidence format,
sections 11 and 14).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.canonical import canonical_json
from auditspan.ledger.checkpoint import CheckpointInvalid, open_checkpoint
from auditspan.ledger.rotation import Rotation, RotationInvalid, open_rotation
from auditspan.ledger.signing_key import key_id, public_bytes
from auditspan.ledger.trust import Trust

from .report import Faults

__all__ = ["KeyRing", "RotationLeaves", "follow_rotations", "stated_keys"]


@dataclass(slots=True)
class KeyRing:
    """The keys whose signatures count, until when, and which of them are trusted by rotation alone."""

    keys: list[Ed25519PublicKey]
    retired_at: dict[bytes, int]
    by_rotation: list[Rotation] = field(default_factory=list)

    def is_retired(self, key: Ed25519PublicKey, at: int) -> bool:
        """Whether what ``key`` signed later than ``at`` (ns) counts no longer."""
        retired_at = self.retired_at.get(public_bytes(key))
        return retired_at is not None and at > retired_at

    def notes(self) -> list[str]:
        """What a report says of keys that ``trust.json`` does not name."""
        return [
            f"The key {key_id(one.new)} is trusted by rotation: {key_id(one.old)} and it both say so."
            for one in self.by_rotation
        ]

    def check_manifest(self, signers: Sequence[str], exported_at: int, faults: Faults) -> None:
        """A manifest that only retired keys signed is none: an old one was signed before."""
        signing = [key for key in self.keys if key_id(key) in signers]
        if signing and all(self.is_retired(key, exported_at) for key in signing):
            faults.add(
                "key.retired", None, f"a manifest of {exported_at} signed by a key in force", ", ".join(sorted(signers))
            )

    def check_checkpoint(self, note: str, origin: str, at: int, leaf: tuple[str, int] | None, faults: Faults) -> None:
        """A checkpoint that is no older than ``at`` (ns), because of what it covers or where it stands."""
        signing = [key for key in self.keys if _signed(note, origin, key)]
        if signing and all(self.is_retired(key, at) for key in signing):
            names = ", ".join(key_id(key) for key in signing)
            faults.add("key.retired", leaf, f"a checkpoint of {at} or later signed by a key in force", names)


def _signed(note: str, origin: str, key: Ed25519PublicKey) -> bool:
    try:
        open_checkpoint(note, origin, [key])
    except (CheckpointInvalid, ValueError):
        return False
    return True


def follow_rotations(trust: Trust, stated: Sequence[Any], faults: Faults) -> KeyRing:
    """The keys of ``trust``, and those to which the statements of a manifest lead from them.

    What lies before the first trusted key of the chain is history, and trusts nobody.

    Args:
        trust: what came by another way than the package.
        stated: the manifest's ``keys``: bodies of ``audit.key.rotated``, in order.
        faults: where to note what leads nowhere.
    """
    ring = KeyRing(list(trust.keys), dict(trust.retired_at))
    chain = _chain(trust.deployment, stated, faults)
    trusted = {public_bytes(key) for key in trust.keys}
    if chain and not trusted & {public_bytes(key) for one in chain for key in (one.old, one.new)}:
        names = ", ".join(key_id(key) for key in trust.keys)
        faults.add("key.untrusted", None, f"a chain of rotations with one of {names}", f"from {key_id(chain[0].old)}")
    for rotation in chain:
        if public_bytes(rotation.old) in {public_bytes(key) for key in ring.keys}:
            _lead_on(rotation, ring, trusted, trust, faults)
    return ring


def stated_keys(stated: Sequence[Any]) -> list[Ed25519PublicKey]:
    """The keys that a manifest's ``keys`` name, in valid statements; whether these lead anywhere is not asked."""
    found = []
    for body in stated:
        try:
            rotation = open_rotation(body)
        except RotationInvalid:
            continue
        found += [rotation.old, rotation.new]
    return found


def _chain(deployment: str, stated: Sequence[Any], faults: Faults) -> list[Rotation]:
    """The statements that are valid and follow each other."""
    chain: list[Rotation] = []
    left: set[bytes] = set()
    for body in stated:
        try:
            rotation = open_rotation(body)
        except RotationInvalid as error:
            faults.add("key.untrusted", None, "a statement that both of its keys signed", error)
            continue
        if rotation.deployment != deployment:
            faults.add("key.untrusted", None, f"a rotation of {deployment}", rotation.deployment)
            continue
        if chain and public_bytes(rotation.old) != public_bytes(chain[-1].new):
            wanted = f"a rotation from {key_id(chain[-1].new)}"
            faults.add("key.untrusted", None, wanted, f"from {key_id(rotation.old)}")
            continue
        if public_bytes(rotation.new) in left:
            faults.add("key.untrusted", None, "a key that was not rotated before", key_id(rotation.new))
            continue
        left.add(public_bytes(rotation.old))
        chain.append(rotation)
    return chain


def _lead_on(rotation: Rotation, ring: KeyRing, trusted: set[bytes], trust: Trust, faults: Faults) -> None:
    """Take the new key of a valid statement up, whose old one is trusted."""
    old, new = public_bytes(rotation.old), public_bytes(rotation.new)
    if ring.is_retired(rotation.old, rotation.at):
        faults.add("key.retired", None, f"a rotation at {rotation.at} by a key in force", key_id(rotation.old))
        return
    if old in trust.retired_at and new not in trusted:
        faults.add(
            "key.untrusted", None, f"the key after {key_id(rotation.old)} that is in trust.json", key_id(rotation.new)
        )
        return
    ring.retired_at[old] = min(rotation.retired_at, ring.retired_at.get(old, rotation.retired_at))
    if new not in trusted:
        ring.keys.append(rotation.new)
        ring.by_rotation.append(rotation)


class RotationLeaves:
    """The ``audit.key.rotated`` leaves of the control log that a package shows.

    Args:
        log_id: of the control log.
        deployment: whose it is.
        faults: where to note what is wrong.
    """

    def __init__(self, log_id: str, deployment: str, faults: Faults) -> None:
        self._log_id, self._deployment, self._faults = log_id, deployment, faults
        self._sealed: set[bytes] = set()

    def leaf(self, index: int, body: Any) -> None:
        """Take note of one."""
        try:
            rotation = open_rotation(body)
        except RotationInvalid as error:
            self._faults.add("key.untrusted", (self._log_id, index), "a statement that both of its keys signed", error)
            return
        if rotation.deployment != self._deployment:
            place = (self._log_id, index)
            self._faults.add("key.untrusted", place, f"a rotation of {self._deployment}", rotation.deployment)
            return
        self._sealed.add(canonical_json(body))

    def check(self, stated: Sequence[Any]) -> None:
        """Whether the control log has sealed what the manifest states."""
        for body in stated:
            try:
                rotation = open_rotation(body)
            except RotationInvalid:
                continue
            if rotation.deployment == self._deployment and canonical_json(body) not in self._sealed:
                said = f"{key_id(rotation.old)} to {key_id(rotation.new)}"
                self._faults.add("key.untrusted", None, f"a leaf audit.key.rotated from {said}", "none is shown")
