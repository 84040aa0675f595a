"""Keys that a verifier trusts. They come from outside the package, always."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.errors import AuditSpanError

__all__ = ["Trust", "TrustInvalid"]


class TrustInvalid(AuditSpanError):
    """The trust file cannot be used."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The deployment a package must be from, and the keys that may have signed it."""

    deployment: str
    keys: tuple[Ed25519PublicKey, ...]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a trust file: ``{"version":1,"deployment":…,"keys":[{"algorithm":"Ed25519","public_key":<base64>},…]}``.

        Raises:
            TrustInvalid: it cannot be read or says something else.
        """
        try:
            return cls.of(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise TrustInvalid(
                f"The trust file {path} cannot be read: {error.strerror}.",
                remedy="Ask the deployment for its trust.json by a channel that you trust.",
            ) from error
        except (ValueError, RecursionError) as error:
            raise TrustInvalid(
                f"The trust file {path} is not valid: {error}.", remedy="Ask the deployment for its trust.json again."
            ) from error

    @classmethod
    def of(cls, value: Any) -> Self:
        """The same from parsed JSON.

        Raises:
            ValueError: it is no trust file of version 1.
        """
        if not isinstance(value, dict) or value.get("version") != 1:
            raise ValueError('it must be an object with "version": 1')
        deployment, keys = value.get("deployment"), value.get("keys")
        if not (isinstance(deployment, str) and deployment and isinstance(keys, list) and keys):
            raise ValueError("it must name a deployment and at least one key")
        return cls(deployment, tuple(_key(key) for key in keys))


def _key(value: Any) -> Ed25519PublicKey:
    if not isinstance(value, dict) or value.get("algorithm") != "Ed25519":
        raise ValueError("a key's algorithm must be Ed25519")
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(str(value.get("public_key")), validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError("a public_key must be 32 bytes in base64") from error
