"""Content encodings of a request, undone within a bound: a bomb dies while it unfolds."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import zstandard

__all__ = ["CONTENT_ENCODINGS", "CorruptEncoding", "DecompressedTooLarge", "decompress"]

CONTENT_ENCODINGS: Final = ("identity", "gzip", "deflate", "zstd")
"""Content encodings that are understood: all that the official exporters can be told to use, and zstd."""

_STEP: Final = 1024 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
# RFC 8878 section 3.1.1.1.2 asks decoders for at least 8 MB; more would let a sender choose our memory.
_ZSTD_WINDOW: Final = 8 * 1024 * 1024
# A zstd block takes 4 bytes at least and gives 128 KiB at most: one step gives 16 MiB at most.
_ZSTD_STEP: Final = 512


class CorruptEncoding(ValueError):
    """The bytes are not in the encoding that the request names, or end early."""


class DecompressedTooLarge(ValueError):
    """More came out than is allowed."""


def decompress(body: bytes, content_encoding: str, limit: int, reserve: Callable[[int], None]) -> bytes:
    """``body`` without its content encoding, one of `CONTENT_ENCODINGS`.

    Args:
        body: as received.
        content_encoding: value of the header, lower case.
        limit: most bytes that may come out.
        reserve: called with every number of bytes before they are kept; may raise to stop.

    Raises:
        CorruptEncoding: see there.
        DecompressedTooLarge: more than ``limit``.
        KeyError: the encoding is not one of `CONTENT_ENCODINGS`.
    """
    if content_encoding == "identity":
        if len(body) > limit:
            raise DecompressedTooLarge(f"the request is larger than {limit} bytes")
        return body
    collected = _Collected(limit, reserve)
    _DECODERS[content_encoding](body, collected)
    return collected.joined()


class _Collected:
    def __init__(self, limit: int, reserve: Callable[[int], None]) -> None:
        self._limit = limit
        self._reserve = reserve
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise DecompressedTooLarge(f"the request is larger than {self._limit} bytes when decompressed")
        self._reserve(len(piece))
        self._pieces.append(piece)

    def joined(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


def _gzip(body: bytes, collected: _Collected) -> None:
    """RFC 1952; a body may be several members one after the other (section 2.2)."""
    rest = body
    while True:
        rest = _inflate("gzip", _GZIP, rest, collected)
        if not rest:
            return


def _deflate(body: bytes, collected: _Collected) -> None:
    """RFC 9110 section 8.4.1.2: the zlib format of RFC 1950, in spite of its name."""
    if _inflate("deflate", _ZLIB, body, collected):
        raise CorruptEncoding("something follows the deflate stream")


def _inflate(name: str, wbits: int, body: bytes, collected: _Collected) -> bytes:
    """Collect one compressed stream; what follows it."""
    stream = zlib.decompressobj(wbits=wbits)
    rest = body
    try:
        while not stream.eof:
            piece = stream.decompress(rest, _STEP)
            rest = stream.unconsumed_tail
            if piece:
                collected.add(piece)
            elif not rest and not stream.eof:
                raise CorruptEncoding(f"the {name} stream ends early")
    except zlib.error as error:
        raise CorruptEncoding(f"the request is not {name}: {error}") from error
    return stream.unused_data


def _zstd(body: bytes, collected: _Collected) -> None:
    """RFC 8878; a body may be several frames one after the other (section 3.1)."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame = decompressor.decompressobj()
    complete = False
    try:
        for start in range(0, len(body), _ZSTD_STEP):
            rest = body[start : start + _ZSTD_STEP]
            while rest:
                collected.add(frame.decompress(rest))
                complete = frame.eof
                rest = frame.unused_data if complete else b""
                if complete:
                    frame = decompressor.decompressobj()
    except zstandard.ZstdError as error:
        raise CorruptEncoding(f"the request is not zstd: {error}") from error
    if not complete:
        raise CorruptEncoding("the zstd stream ends early")


_DECODERS: Final[dict[str, Callable[[bytes, _Collected], None]]] = {"gzip": _gzip, "deflate": _deflate, "zstd": _zstd}
