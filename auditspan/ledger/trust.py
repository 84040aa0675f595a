"""What a verifier trusts: ``trust.json``, with a deployment's keys, and those who vouch for its logs.

It reaches a verifier by another way than the package does. Version 1 has keys alone; version 2 also says who else must
have seen the logs, and how many of them (``docs/evidence-format.md`` section 16).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.errors import AuditSpanError
from auditspan.ledger.keys import KeyFileError
from auditspan.ledger.retirement import retired_keys
from auditspan.ledger.timestamps import TimestampAuthority
from auditspan.ledger.witnesses import Witness, WitnessKeyInvalid

__all__ = ["AnchorPolicy", "Trust", "load_trust", "parse_trust", "read_trust_document"]

_VERSIONS: Final = (1, 2)
_LARGEST: Final = 4 << 20
_LONGEST_NAME: Final = 255
_MOST: Final = 256
"""Witnesses, authorities, or certificates of one."""


@dataclass(frozen=True, slots=True)
class AnchorPolicy:
    """How many of the trusted witnesses and timestamp authorities must vouch for the control log; 0 demands none."""

    witnesses: int = 0
    timestamp_authorities: int = 0

    @property
    def demands(self) -> bool:
        """Whether anybody must vouch at all."""
        return bool(self.witnesses or self.timestamp_authorities)


@dataclass(frozen=True, slots=True)
class Trust:
    """What ``evidence verify --trust`` takes: public keys of a deployment, and who vouches for its control log.

    ``retired_at`` says of a key, by its 32 bytes, from when on (ns) what it signs counts no longer.
    """

    deployment: str
    keys: Sequence[Ed25519PublicKey] = field(repr=False)
    witnesses: Sequence[Witness] = ()
    timestamp_authorities: Sequence[TimestampAuthority] = ()
    policy: AnchorPolicy = field(default_factory=AnchorPolicy)
    retired_at: Mapping[bytes, int] = field(default_factory=dict, repr=False)


def load_trust(path: Path) -> Trust:
    """What a ``trust.json`` of version 1 or 2 says.

    Raises:
        KeyFileError: it is missing, or not as section 16 has it.
    """
    document = read_trust_document(path)
    try:
        return parse_trust(document)
    except ValueError as error:
        raise _unusable(path, str(error)) from error


def read_trust_document(path: Path) -> dict[str, Any]:
    """The JSON object in a ``trust.json``, not looked at any further.

    Raises:
        KeyFileError: it is missing, too large, or no JSON object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise KeyFileError(
            f"{path} cannot be read.", remedy="Make the keys with: auditspan keys init --data DIR"
        ) from error
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _unusable(path, "it is no JSON") from error
    if len(content) > _LARGEST or not isinstance(document, dict):
        raise _unusable(path, f"it is no JSON object of at most {_LARGEST} bytes")
    return document


def parse_trust(document: Mapping[str, Any]) -> Trust:
    """What the object of a ``trust.json`` says.

    Raises:
        ValueError: it is not as section 16 has it; the message says what is wrong, to follow the file's name.
    """
    try:
        version, deployment = document["version"], document["deployment"]
        if version not in _VERSIONS or isinstance(version, bool):
            raise ValueError("it is of no version that is known here: 1 or 2")
        keys = tuple(_public_key(entry) for entry in _list(document["keys"]))
        if not keys or not isinstance(deployment, str):
            raise ValueError("it must have a deployment and at least one key")
        retired_at = retired_keys(document["keys"])
        if version == 1:
            return Trust(deployment, keys, retired_at=retired_at)
        witnesses = tuple(_witness(entry) for entry in _list(document.get("witnesses", [])))
        authorities = tuple(_authority(entry) for entry in _list(document.get("timestamp_authorities", [])))
        policy = _policy(document.get("policy", {}))
    except KeyError as error:
        raise ValueError(f"it has no {error}") from error
    except (TypeError, AttributeError) as error:
        raise ValueError("a value in it has the wrong type") from error
    _check(witnesses, authorities, policy)
    return Trust(deployment, keys, witnesses, authorities, policy, retired_at)


def _check(witnesses: Sequence[Witness], authorities: Sequence[TimestampAuthority], policy: AnchorPolicy) -> None:
    # One who counts as two would be a majority of its own.
    if len({witness.vkey for witness in witnesses}) != len(witnesses):
        raise ValueError("a witness is in it twice")
    if len({witness.vkey.rpartition("+")[2] for witness in witnesses}) != len(witnesses):
        raise ValueError("two witnesses in it have one key")
    if len({authority.name for authority in authorities}) != len(authorities):
        raise ValueError("two timestamp authorities in it have one name")
    roots = [root for authority in authorities for root in authority.roots]
    if len(set(roots)) != len(roots):
        raise ValueError("two timestamp authorities in it have one root")
    if policy.witnesses > len(witnesses) or policy.timestamp_authorities > len(authorities):
        raise ValueError(
            f"its policy demands {policy.witnesses} witnesses and {policy.timestamp_authorities} timestamp "
            f"authorities, and it has {len(witnesses)} and {len(authorities)}"
        )


def _public_key(entry: Any) -> Ed25519PublicKey:
    if entry["algorithm"] != "Ed25519":
        raise ValueError("its keys must all be Ed25519")
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(entry["public_key"], validate=True))
    except (ValueError, binascii.Error) as error:
        raise ValueError("its public keys must be 32 bytes in base64") from error


def _witness(entry: Any) -> Witness:
    try:
        return Witness.parse(entry)
    except WitnessKeyInvalid as error:
        raise ValueError(f"the witness {entry[:80]!r} in it is no verifier key") from error


def _authority(entry: Any) -> TimestampAuthority:
    name = entry["name"]
    if not (isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable()):
        raise ValueError("a timestamp authority in it has no name of at most 255 printable characters")
    certificates = [
        certificate
        for pem in _list(entry["certificates"])
        for certificate in x509.load_pem_x509_certificates(pem.encode())
    ]
    try:
        return TimestampAuthority.of(name, certificates)
    except AuditSpanError as error:
        raise ValueError(f"the timestamp authority {name!r} in it has no root certificate") from error


def _policy(value: Any) -> AnchorPolicy:
    demanded = [value.get(name, 0) for name in ("witnesses", "timestamp_authorities")]
    if not all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= _MOST for each in demanded):
        raise ValueError("its policy must hold two numbers from 0 on")
    return AnchorPolicy(*demanded)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MOST:
        raise ValueError(f"it must hold arrays of at most {_MOST}")
    return value


def _unusable(path: Path, why: str) -> KeyFileError:
    return KeyFileError(
        f"{path} is not a usable trust.json: {why}.", remedy="Restore it from the backup of the deployment's keys."
    )
