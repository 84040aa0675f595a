"""Salted commitments of a leaf to what stands beside it (``docs/evidence-format.md`` section 3)."""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Final

__all__ = ["LARGEST_LEAF", "SALT_LENGTH", "facts_hash", "leaf_salt", "payload_hash", "payload_of"]

SALT_LENGTH: Final = 32
LARGEST_LEAF: Final = 65_535
"""Bytes a leaf may have (C2SP tlog-tiles entry bundles use 16-bit lengths)."""

_PAYLOAD: Final = b"\x02"
_FACTS: Final = b"\x03"


def payload_of(resource: bytes, scope: bytes, span: bytes) -> bytes:
    """The payload of a span: its three messages as received, each with its length as 4 big-endian bytes."""
    return b"".join(
        (
            struct.pack(">I", len(resource)),
            resource,
            struct.pack(">I", len(scope)),
            scope,
            struct.pack(">I", len(span)),
            span,
        )
    )


def leaf_salt(salt_key: bytes, log_id: str, offset: int, ordinal: int) -> bytes:
    """``HMAC-SHA-256(salt_key, log_id ‖ u64(offset) ‖ u32(ordinal))``, 32 bytes."""
    return hmac.digest(salt_key, bytes.fromhex(log_id) + struct.pack(">QI", offset, ordinal), "sha256")


def payload_hash(salt: bytes, payload: bytes) -> str:
    """``hex(SHA-256(0x02 ‖ salt ‖ payload))``."""
    return hashlib.sha256(_PAYLOAD + salt + payload).hexdigest()


def facts_hash(salt: bytes, facts: bytes) -> str:
    """``hex(SHA-256(0x03 ‖ salt ‖ SHA-256(facts)))``."""
    return hashlib.sha256(_FACTS + salt + hashlib.sha256(facts).digest()).hexdigest()
