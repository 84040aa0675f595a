"""Which keys may have signed for a deployment, by the word of its control log, and which one signs now.

The control log names the first key (``audit.key.added``) and every rotation (``audit.key.rotated``). So a process that
was started with an older ``trust.json`` knows what another signed after a rotation.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import Journal
from auditspan.ledger.rotation import Rotation, RotationInvalid, follow, open_rotation
from auditspan.ledger.signer import Signer, SignerRefused
from auditspan.ledger.signing_key import SigningKey, key_id, public_bytes, public_text
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .control import said_from

__all__ = ["KeyFollower", "SigningKeys", "check_statement", "signing_keys"]

_log = logging.getLogger(__name__)

_MARGIN: Final = 5_000_000_000
"""Nanoseconds before a key retires in which nothing is signed with it any more: a round takes its time."""
_ROTATIONS: Final = (
    "SELECT leaf_index, header FROM auditspan.events WHERE log_id = {log_id:String} AND class = {class:String} "
    "AND payload = '' AND leaf_index >= {begin:UInt64} ORDER BY leaf_index"
)
_COPY: Final = "Copy keys/ and trust.json from the machine on which the key was rotated; they are taken up at once."


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The keys of a deployment: where its control log began, the rotations since, and what else is trusted here."""

    deployment: str
    trusted: Sequence[Ed25519PublicKey]
    first: str | None
    rotations: Sequence[Rotation]

    @property
    def known(self) -> list[Ed25519PublicKey]:
        """Every key whose signature counts."""
        return [*self.trusted, *(rotation.new for rotation in self.rotations)]

    def after(self, key: Ed25519PublicKey) -> Rotation | None:
        """The rotation from ``key`` to the next one."""
        wanted = public_bytes(key)
        return next((one for one in self.rotations if public_bytes(one.old) == wanted), None)

    def check(self, key: Ed25519PublicKey) -> None:
        """Whether ``key`` is one that the control log knows.

        Raises:
            SignerRefused: it is of another deployment, or of a rotation that is not in this log.
        """
        reached = {public_text(rotation.new) for rotation in self.rotations} | {self.first}
        if self.first is not None and public_text(key) not in reached:
            raise SignerRefused(
                f"The signing key {key_id(key)[:16]} is none that the control log of {self.deployment!r} names: "
                "nothing was signed.",
                remedy=f"keys/ is of another deployment, or of a rotation that was not finished. {_COPY}",
            )


def signing_keys(
    journal: Journal, store: Store, control_log: str, deployment: str, trusted: Sequence[Ed25519PublicKey]
) -> SigningKeys:
    """What the control log says of keys, as far as it is sealed or journaled.

    Raises:
        JournalUnavailable: the journal cannot be read.
        StoreUnavailable: the store cannot be read now.
    """
    # Read before the leaves: what is sealed in between is then seen twice, and never not at all.
    last = store.last_batch(control_log)
    offset = int(json.loads(last)["body"]["to"]) if last is not None else 0
    classes = [EventClass.KEY_ADDED, EventClass.KEY_ROTATED]
    leaves = store.log_leaves(control_log, [str(each) for each in classes])
    said = [
        (name, json.loads(header)["body"]["body"])
        for name, header in zip(leaves["class"].to_pylist(), leaves["header"].to_pylist(), strict=True)
    ]
    said += [(one["class"], one["body"]) for one in said_from(journal, offset) if one.get("class") in classes]
    first = next((str(body["public_key"]) for name, body in said if name == EventClass.KEY_ADDED), None)
    rotated = [body for name, body in said if name == EventClass.KEY_ROTATED]
    return SigningKeys(deployment, trusted, first, follow(deployment, trusted, rotated))


def check_statement(body: Any, keys: SigningKeys) -> Rotation:
    """The rotation in a body that is about to be journaled: what is sealed once stays for ever.

    Raises:
        AuditSpanError: it is no valid statement of this deployment, or not of the key that signs now.
    """
    try:
        rotation = open_rotation(body)
    except RotationInvalid as error:
        raise AuditSpanError(
            f"This rotation cannot be sealed: {error}.", remedy="Run `auditspan keys rotate`."
        ) from error
    before = keys.after(rotation.old)
    if before is not None and public_bytes(before.new) != public_bytes(rotation.new):
        raise AuditSpanError(
            f"The key {key_id(rotation.old)[:16]} was rotated before, to {key_id(before.new)[:16]}.", remedy=_COPY
        )
    keys.check(rotation.old)
    if keys.after(rotation.new) is not None:
        raise AuditSpanError(
            f"The key {key_id(rotation.new)[:16]} was rotated before: no key comes back.", remedy="Make a new one."
        )
    if rotation.deployment != keys.deployment:
        raise AuditSpanError(
            f"This rotation is of the deployment {rotation.deployment!r}, not of {keys.deployment!r}.",
            remedy="Put the keys of this deployment back.",
        )
    return rotation


class KeyFollower:
    """Has the signer take the new key up once its rotation is sealed, and stop when its key is retired.

    Args:
        signer: that of the process that owns the control log.
        keys: what is known when it takes over.
        load: reads the signing key anew from where it lies; None: this process has one key for ever.
        clock: now, in nanoseconds since 1970.
    """

    def __init__(
        self, signer: Signer, keys: SigningKeys, load: Callable[[], SigningKey] | None, clock: Callable[[], int]
    ) -> None:
        self._signer = signer
        self._load = load
        self._clock = clock
        self._deployment = keys.deployment
        self._rotations = {public_bytes(one.old): one for one in keys.rotations}
        self._begin = 0
        self._told = False

    def look(self, store: Store, control_log: str, sealed: int) -> None:
        """Learn which rotations were sealed below leaf ``sealed`` since the last look.

        Raises:
            StoreUnavailable: the store cannot be read now.
        """
        if sealed > self._begin:
            parameters = {"log_id": control_log, "class": str(EventClass.KEY_ROTATED), "begin": self._begin}
            headers = store.query(_ROTATIONS, parameters)["header"].to_pylist()
            self._take([json.loads(header)["body"]["body"] for header in headers])
            self._begin = sealed

    def apply(self) -> None:
        """Before each round: sign with the key that is in force.

        Raises:
            SignerRefused: this process's key is retired, and the one after it is not here.
        """
        while (rotation := self._rotations.get(public_bytes(self._signer.public_key))) is not None:
            loaded = self._loaded(rotation)
            if loaded is not None:
                self._signer.use(loaded)
                self._told = False
                _log.info("control: signs with the key %s from now on.", key_id(rotation.new)[:16])
                continue
            if self._clock() >= rotation.retired_at - _MARGIN:
                raise SignerRefused(
                    f"The signing key {key_id(rotation.old)[:16]} is retired, and the one to which it was rotated, "
                    f"{key_id(rotation.new)[:16]}, is not here: nothing was signed.",
                    remedy=_COPY,
                )
            if not self._told:
                self._told = True
                _log.warning(
                    "control: the signing key was rotated to %s, which is not here; the old one is valid for another "
                    "%d s. %s",
                    key_id(rotation.new)[:16],
                    (rotation.retired_at - self._clock()) // 1_000_000_000,
                    _COPY,
                )
            return

    def _take(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        known = [self._signer.public_key, *(one.new for one in self._rotations.values())]
        for rotation in follow(self._deployment, known, bodies):
            # Never back to a key that was left: nothing would end that.
            if public_bytes(rotation.new) not in self._rotations:
                self._rotations.setdefault(public_bytes(rotation.old), rotation)

    def _loaded(self, rotation: Rotation) -> SigningKey | None:
        """The key on the disk when it is one that comes after the one in use."""
        if self._load is None:
            return None
        try:
            key = self._load()
        except AuditSpanError as error:
            _log.warning("control: the signing key cannot be read anew: %s", error.message)
            return None
        wanted: Rotation | None = rotation
        seen: set[bytes] = set()
        while wanted is not None and public_bytes(wanted.new) not in seen:
            if public_bytes(wanted.new) == public_bytes(key.public_key()):
                return key
            seen.add(public_bytes(wanted.new))
            wanted = self._rotations.get(public_bytes(wanted.new))
        return None
