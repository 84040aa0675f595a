"""Whether the key that would sign is one that this deployment's verifiers trust."""

from __future__ import annotations

import time

from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.ledger.signing_key import SigningKey, key_id, public_bytes
from auditspan.ledger.trust import Trust

__all__ = ["check_signing_key"]


def check_signing_key(directory: DataDirectory, key: SigningKey, trust: Trust) -> None:
    """Refuse a key whose signatures nobody would accept, before it makes any.

    Raises:
        AuditSpanError: it is none of ``trust.json``, or retired.
    """
    public = public_bytes(key.public_key())
    if public not in {public_bytes(each) for each in trust.keys}:
        raise AuditSpanError(
            f"{directory.signing_key} ({key_id(key.public_key())[:16]}) is none of the keys in {directory.trust}.",
            remedy="They belong together: copy both from the machine on which keys were made or rotated.",
        )
    retired_at = trust.retired_at.get(public)
    if retired_at is not None and time.time_ns() >= retired_at:
        raise AuditSpanError(
            f"{directory.signing_key} ({key_id(key.public_key())[:16]}) is retired: what it signs counts no longer.",
            remedy="Copy keys/ and trust.json from the machine on which it was rotated, or, when that was interrupted, "
            f"run: auditspan keys rotate --data {directory.root}",
        )
