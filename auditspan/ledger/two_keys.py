"""Statements that two keys sign, the old one and the one that comes after it (``docs/evidence-format.md`` section 11).

The old key says who comes after it, and the new one that it wants to: neither alone can bring the other in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Set
from typing import Any, Final, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.canonical import JsonValue, canonical_json
from auditspan.ledger.signing_key import SigningKey

__all__ = ["StatementInvalid", "decoded", "open_signed_by_both", "sign_by_both", "time_of"]

_Read = TypeVar("_Read")
_BOTH: Final = frozenset({"from", "to"})
_LONGEST_TIME: Final = 20


class StatementInvalid(ValueError):
    """A statement that is malformed, or not signed by both of its keys."""


def sign_by_both(statement: dict[str, JsonValue], old: SigningKey, new: SigningKey) -> dict[str, JsonValue]:
    """The body of a control entry: ``statement``, and the signature of each key over its canonical JSON.

    Nothing else that these keys sign begins as a JSON object does: neither a checkpoint nor a DSSE envelope's encoding.
    """
    said = canonical_json(statement)
    signatures = {name: base64.b64encode(key.sign(said)).decode() for name, key in (("from", old), ("to", new))}
    return {"statement": statement, "signatures": signatures}


def open_signed_by_both(
    body: Any, members: Set[str], read: Callable[[Any, Ed25519PublicKey, Ed25519PublicKey], _Read]
) -> _Read:
    """What ``read`` makes of the statement in a body, if both of the keys that it names signed it.

    Args:
        body: of the control entry.
        members: names that the statement has, ``from`` and ``to`` among them, and no others.
        read: is given the statement and both keys, the old one first; it may raise `ValueError`, `KeyError`,
            `TypeError` or `AttributeError`.

    Raises:
        StatementInvalid: it is malformed, or a signature does not fit. Nobody has said yet that either key is trusted.
    """
    try:
        statement, signatures = body["statement"], body["signatures"]
        if body.keys() != {"statement", "signatures"} or statement.keys() != members or signatures.keys() != _BOTH:
            raise ValueError("it has other keys than section 11 says")
        if statement["from"] == statement["to"]:
            raise ValueError("it names no two keys")
        old, new = (Ed25519PublicKey.from_public_bytes(decoded(statement[name])) for name in ("from", "to"))
        found = read(statement, old, new)
        said = canonical_json(statement)
        old.verify(decoded(signatures["from"]), said)
        new.verify(decoded(signatures["to"]), said)
    except InvalidSignature as error:
        raise StatementInvalid("the statement is not signed by both keys") from error
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise StatementInvalid(f"no statement of two keys: {error}") from error
    return found


def decoded(text: Any) -> bytes:
    """The bytes of a base64 text.

    Raises:
        TypeError: it is no text.
        ValueError: it is no base64.
    """
    if not isinstance(text, str):
        raise TypeError("a key, a root or a signature is text")
    return base64.b64decode(text, validate=True)


def time_of(text: Any) -> int:
    """Nanoseconds since 1970 from their decimal text.

    Raises:
        ValueError: it is something else, or has leading zeros.
    """
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= _LONGEST_TIME):
        raise ValueError("a time is a decimal text")
    if str(int(text)) != text:
        raise ValueError("a time has no leading zeros")
    return int(text)
