"""Naming a credential without keeping it."""

from __future__ import annotations

import hashlib
import hmac
import os

__all__ = ["credential_fingerprint"]


def credential_fingerprint(secret: str | bytes, *, key: str | bytes | None = None) -> str:
    """``sha256:`` and the first 32 hexadecimal digits (128 bits) of the digest of ``secret``.

    Without a key it is plain SHA-256, which anybody who holds the credential can recompute: a party registry can list
    fingerprints. With ``key``, or ``AUDITSPAN_FINGERPRINT_KEY`` in the environment, it is HMAC-SHA-256 (RFC 2104), for
    credentials short enough to be guessed.
    """
    data = secret.encode("utf-8", "surrogateescape") if isinstance(secret, str) else secret
    chosen = os.environ.get("AUDITSPAN_FINGERPRINT_KEY", "") if key is None else key
    if chosen:
        secret_key = chosen.encode("utf-8", "surrogateescape") if isinstance(chosen, str) else chosen
        digest = hmac.new(secret_key, data, hashlib.sha256).hexdigest()
    else:
        digest = hashlib.sha256(data).hexdigest()
    return f"sha256:{digest[:32]}"
