"""The outer layers of an RFC 3161 response and token, taken apart and put together again (X.690, definite lengths).

Authorities, OpenSSL's among them, write the certificates of a token as they come; DER wants a SET OF in order, and the
library that reads tokens insists on it. Nothing is signed over that order.
"""

from __future__ import annotations

from typing import Final

__all__ = ["granting", "in_order", "token_in"]

_SEQUENCE: Final = 0x30
_FIRST_CONTEXT: Final = 0xA0
_LONGEST_LENGTH: Final = 4
_STATUS_GRANTED: Final = b"\x30\x03\x02\x01\x00"


def token_in(response: bytes) -> bytes | None:
    """The ``TimeStampToken`` in a ``TimeStampResp``, byte for byte; None where there is none.

    Raises:
        ValueError: it is no response.
    """
    parts = _members(_content(response, _SEQUENCE))
    if not 1 <= len(parts) <= 2:
        raise ValueError(f"a response of {len(parts)} parts")
    return parts[1] if len(parts) == 2 else None


def granting(token: bytes) -> bytes:
    """A ``TimeStampResp`` of status 0 with this token."""
    return _wrapped(_SEQUENCE, _STATUS_GRANTED + token)


def in_order(token: bytes) -> bytes:
    """The same token with its certificates in the order that DER has for a SET OF.

    Raises:
        ValueError: it is no ``ContentInfo`` around ``SignedData``.
    """
    kind, explicit = _members(_content(token, _SEQUENCE))
    (signed,) = _members(_content(explicit, _FIRST_CONTEXT))
    parts = _members(_content(signed, _SEQUENCE))
    ordered = [
        _wrapped(_FIRST_CONTEXT, b"".join(sorted(_members(_content(part, _FIRST_CONTEXT)))))
        if part[0] == _FIRST_CONTEXT
        else part
        for part in parts
    ]
    return _wrapped(_SEQUENCE, kind + _wrapped(_FIRST_CONTEXT, _wrapped(_SEQUENCE, b"".join(ordered))))


def _content(element: bytes, tag: int) -> bytes:
    begin, end = _bounds(element, 0)
    if element[0] != tag or end != len(element):
        raise ValueError(f"no element of tag {tag:#x} alone")
    return element[begin:]


def _members(content: bytes) -> list[bytes]:
    found = []
    place = 0
    while place < len(content):
        _, end = _bounds(content, place)
        found.append(content[place:end])
        place = end
    return found


def _bounds(data: bytes, place: int) -> tuple[int, int]:
    """Where the content of the element at ``place`` begins and ends."""
    if len(data) < place + 2:
        raise ValueError("an element that is cut off")
    length, begin = data[place + 1], place + 2
    if length >= 0x80:
        count = length & 0x7F
        if not 0 < count <= _LONGEST_LENGTH or len(data) < begin + count:
            raise ValueError("a length that is none")
        length, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
    if len(data) < begin + length:
        raise ValueError("an element that is cut off")
    return begin, begin + length


def _wrapped(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
