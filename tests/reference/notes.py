"""Checkpoints as signed notes (section 12), with the Ed25519 of RFC 8032 section 5.1 written out."""

from __future__ import annotations

import base64
import hashlib

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_BASE_Y = 4 * pow(5, _P - 2, _P) % _P

_Point = tuple[int, int, int, int]


def _x_of(y: int, sign: int) -> int:
    x2 = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(x2, (_P + 3) // 8, _P)
    if (x * x - x2) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    return _P - x if x & 1 != sign else x


_BASE_X = _x_of(_BASE_Y, 0)
_BASE: _Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P)


def _add(p: _Point, q: _Point) -> _Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % _P, (p[1] + p[0]) * (q[1] + q[0]) % _P
    c, d = 2 * p[3] * q[3] * _D % _P, 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _multiply(scalar: int, point: _Point) -> _Point:
    result: _Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _compress(point: _Point) -> bytes:
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _expand(secret: bytes) -> tuple[int, bytes]:
    digest = hashlib.sha512(secret).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
    return scalar, digest[32:]


def public_key(secret: bytes) -> bytes:
    """The public key of a 32-byte secret key."""
    return _compress(_multiply(_expand(secret)[0], _BASE))


def sign(secret: bytes, message: bytes) -> bytes:
    """The Ed25519 signature of 64 bytes."""
    scalar, prefix = _expand(secret)
    public = _compress(_multiply(scalar, _BASE))
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % _L
    point = _compress(_multiply(r, _BASE))
    h = int.from_bytes(hashlib.sha512(point + public + message).digest(), "little") % _L
    return point + ((r + h * scalar) % _L).to_bytes(32, "little")


def checkpoint_body(deployment: str, log_id: str, size: int, root: bytes) -> str:
    """The text that is signed."""
    return f"auditspan/{deployment}/{log_id}\n{size}\n{base64.b64encode(root).decode()}\n"


def checkpoint_note(deployment: str, log_id: str, size: int, root: bytes, secret: bytes) -> str:
    """The signed note."""
    origin = f"auditspan/{deployment}/{log_id}"
    body = checkpoint_body(deployment, log_id, size, root)
    key_id = hashlib.sha256(origin.encode() + b"\x0a\x01" + public_key(secret)).digest()[:4]
    signature = base64.b64encode(key_id + sign(secret, body.encode())).decode()
    return f"{body}\n— {origin} {signature}\n"
