"""What signs for a deployment, as far as others need to know it: its public half, and signatures.

Whoever signs takes a `SigningKey` and never the bytes of a key, so that a hardware module can take the place of the
file. What `cryptography` calls an ``Ed25519PrivateKey`` is one as well.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NoReturn, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["FileSigningKey", "SigningKey", "key_id", "public_bytes", "public_text"]


class SigningKey(Protocol):
    """An Ed25519 key (RFC 8032) that signs and does not show itself."""

    def public_key(self) -> Ed25519PublicKey:
        """The public half."""

    def sign(self, data: bytes, /) -> bytes:
        """The signature of ``data``, 64 bytes."""


class FileSigningKey:
    """A key that was read from a file into this process.

    It is never printed, copied or pickled: what names it is the id of its public half.

    Args:
        key: as it was read.
    """

    __slots__ = ("__key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.__key = key

    def public_key(self) -> Ed25519PublicKey:
        """The public half."""
        return self.__key.public_key()

    def sign(self, data: bytes, /) -> bytes:
        """The signature of ``data``, 64 bytes."""
        return self.__key.sign(data)

    def __repr__(self) -> str:
        return f"FileSigningKey({key_id(self.public_key())})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not written anywhere but into its file")

    def __copy__(self) -> NoReturn:
        raise TypeError("a signing key is not copied")

    def __deepcopy__(self, _: object) -> NoReturn:
        raise TypeError("a signing key is not copied")


def public_bytes(key: Ed25519PublicKey) -> bytes:
    """The 32 raw bytes of a public key."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def public_text(key: Ed25519PublicKey) -> str:
    """A public key as ``trust.json`` and leaves name it: base64 of its 32 bytes."""
    return base64.b64encode(public_bytes(key)).decode()


def key_id(key: Ed25519PublicKey) -> str:
    """``hex(SHA-256(public key))``: the ``keyid`` of evidence format section 14."""
    return hashlib.sha256(public_bytes(key)).hexdigest()
