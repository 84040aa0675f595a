"""Whom the control log's owner asks to vouch for its checkpoints: timestamp authorities and witnesses."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from auditspan.config import AnchorSettings
from auditspan.errors import AuditSpanError
from auditspan.ledger.bounded_post import Post
from auditspan.ledger.checkpoint import Checkpoint
from auditspan.ledger.timestamps import (
    AuthorityRefused,
    Timestamp,
    TimestampAuthority,
    TimestampInvalid,
    request_timestamp,
    verify_timestamp,
)
from auditspan.ledger.trust import Trust
from auditspan.ledger.witnesses import Cosignature, Witness, WitnessConflict, add_checkpoint
from auditspan.store.contract import StoredAnchor

__all__ = ["COSIGNATURE", "TIMESTAMP", "AnchorPlan", "AnchorSource", "Asked", "WitnessAhead", "anchor_plan"]

TIMESTAMP: Final = "timestamp"
COSIGNATURE: Final = "cosignature"


class WitnessAhead(AuditSpanError):
    """A witness has cosigned more of the control log than there is: the store was put back, or there are two logs."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be vouched for.

    Args:
        log_id: of the control log.
        checkpoint: the newest that was kept.
        note: as it was signed.
        consistency: ``consistency(old)`` gives the RFC 6962 proof from ``old`` leaves to the checkpoint.
    """

    log_id: str
    checkpoint: Checkpoint
    note: str
    consistency: Callable[[int], list[bytes]]


class AnchorSource(Protocol):
    """Somebody independent."""

    @property
    def kind(self) -> str:
        """``timestamp`` or ``cosignature``."""

    @property
    def name(self) -> str:
        """What it is called in settings, metrics and trust.json."""

    def ask(self, post: Post, asked: Asked, before: int) -> StoredAnchor:
        """Have it vouch. ``before``: leaves of the largest tree that it vouched for as far as is known; 0: none.

        Raises:
            AuditSpanError: it did not.
            StoreUnavailable: a proof cannot be read now.
        """


@dataclass(frozen=True, slots=True)
class AuthoritySource:
    """A timestamp authority. What it answers is verified where ``authority`` says which roots are trusted."""

    name: str
    url: str
    authority: TimestampAuthority | None

    @property
    def kind(self) -> str:
        """``timestamp``."""
        return TIMESTAMP

    def ask(self, post: Post, asked: Asked, before: int) -> StoredAnchor:
        """A token over the checkpoint; see `AnchorSource`."""
        message = asked.checkpoint.body()
        token = request_timestamp(post, self.url, message)
        stamp = self._verified(token, message)
        content = base64.b64encode(token).decode()
        return StoredAnchor(asked.log_id, asked.checkpoint.size, self.kind, self.name, content, stamp.time)

    def _verified(self, token: bytes, message: bytes) -> Timestamp:
        try:
            stamp = verify_timestamp(token, message, [] if self.authority is None else [self.authority])
        except TimestampInvalid as error:
            raise self._untrusted(str(error)) from error
        if self.authority is not None and stamp.authority is None:
            raise self._untrusted("its signer leads to none of the roots")
        return stamp

    def _untrusted(self, why: str) -> AuthorityRefused:
        return AuthorityRefused(
            f"The token of {self.name} does not verify against its certificates in trust.json: {why}.",
            remedy="Compare the certificates there with those that the authority publishes.",
        )


@dataclass(frozen=True, slots=True)
class WitnessSource:
    """A witness."""

    witness: Witness
    url: str

    @property
    def kind(self) -> str:
        """``cosignature``."""
        return COSIGNATURE

    @property
    def name(self) -> str:
        """The witness's name."""
        return self.witness.name

    def ask(self, post: Post, asked: Asked, before: int) -> StoredAnchor:
        """A cosignature of the checkpoint; see `AnchorSource`."""
        try:
            found = self._add(post, asked, before)
        except WitnessConflict as conflict:
            if conflict.size > asked.checkpoint.size:
                raise WitnessAhead(
                    f"The witness {self.name} has cosigned {conflict.size} leaves of the control log, and there are "
                    f"{asked.checkpoint.size}.",
                    remedy="The store was put back to an earlier state, or somebody else signs this log: keep "
                    "everything as it is, and run `auditspan doctor`.",
                ) from conflict
            # Once: a witness that names another size every time would be asked for ever.
            found = self._add(post, asked, conflict.size)
        return StoredAnchor(
            asked.log_id, asked.checkpoint.size, self.kind, self.name, found.line, found.time * 1_000_000_000
        )

    def _add(self, post: Post, asked: Asked, old: int) -> Cosignature:
        grew = 0 < old < asked.checkpoint.size
        proof = asked.consistency(old) if grew else []
        return add_checkpoint(post, self.url, self.witness, asked.checkpoint, asked.note, old, proof)


@dataclass(frozen=True, slots=True)
class AnchorPlan:
    """Who is asked, how often (seconds), and how long an answer is waited for (seconds)."""

    sources: Sequence[AnchorSource] = ()
    interval: float = 300.0
    patience: float = 10.0


def anchor_plan(settings: AnchorSettings, trust: Trust) -> AnchorPlan:
    """The plan of these settings. An authority's roots are those that trust.json has under its name."""
    authorities = {authority.name: authority for authority in trust.timestamp_authorities}
    stamping = [AuthoritySource(one.name, one.url, authorities.get(one.name)) for one in settings.timestamp_authorities]
    cosigning = [WitnessSource(Witness.parse(one.vkey), one.url) for one in settings.witnesses]
    return AnchorPlan([*stamping, *cosigning], settings.interval_seconds, settings.timeout_seconds)
