"""The contract of importers, and the bytes that they read: bounded, gzip or not, in UTF-8."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from .entries import Entry
from .errors import ListError

__all__ = ["LARGEST", "Importer", "ListHead", "TextSource"]

LARGEST: Final = 200_000_000
"""Bytes of the largest list that is read, unpacked. The whole Consolidated Screening List has about 20 million."""

_LONGEST_LINE: Final = 1 << 20
_CHUNK: Final = 1 << 18
_GZIP: Final = b"\x1f\x8b"
_UNPACKING: Final = (OSError, EOFError, zlib.error)


@dataclass(slots=True)
class ListHead:
    """What a file says of itself, known when it has been read: its time (ISO 8601), and how many entries it has."""

    stated_time: str = ""
    stated_total: int | None = None


class Importer(Protocol):
    """Reads one format. A new format is a new class with these three.

    ``entries`` gives each party once, in the order of the file, holds no more of the file than one of them needs, and
    raises `ListError` at the first that it cannot read.
    """

    @property
    def name(self) -> str:
        """Of the format."""

    def recognises(self, start: str, file: str) -> bool:
        """Whether a file that begins with ``start`` and is called ``file`` is of this format."""

    def entries(self, source: TextSource, head: ListHead) -> Iterator[Entry]:
        """The entries of ``source``; fills in ``head``.

        Raises:
            ListError: the file is broken; says where and what to do.
        """


class TextSource:
    """The text of a list file, chunk by chunk, with the digest of the file as it lies there.

    Args:
        path: of the file; one that begins as gzip does is unpacked while it is read.
        largest: bytes, unpacked, after which reading ends with an error.
    """

    def __init__(self, path: Path, largest: int = LARGEST) -> None:
        self.file = path.name
        self.line = 1
        """Line that the next chunk begins in."""
        self._path = path
        self._largest = largest
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()

    def digest(self) -> str:
        """SHA-256 of the file as it is, packed or not."""
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def content(self) -> bytes:
        """All of it, unpacked.

        Raises:
            ListError: as `chunks`.
        """
        return "".join(self.chunks()).encode()

    def start(self) -> str:
        """How it begins, for an importer to recognise.

        Raises:
            ListError: it cannot be unpacked or is no UTF-8.
        """
        return next(TextSource(self._path, self._largest).chunks(), "")[:4096]

    def chunks(self) -> Iterator[str]:
        """Its text.

        Raises:
            ListError: truncated or damaged gzip, other encoding, too large.
        """
        read = 0
        try:
            with self._path.open("rb") as raw, _unpacked(raw) as file:
                while chunk := file.read(_CHUNK):
                    read += len(chunk)
                    if read > self._largest:
                        raise ListError(
                            f"it has more than {self._largest:,} bytes unpacked",
                            file=self.file,
                            remedy="Import the Consolidated Screening List itself; no list of it is as large.",
                        )
                    yield self._decoded(chunk, final=False)
                yield self._decoded(b"", final=True)
        except _UNPACKING as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ListError(
                f"it cannot be unpacked after line {self.line}: {error}",
                file=self.file,
                line=self.line,
                remedy="The file is truncated or damaged: download it again, and compare its size.",
            ) from error

    def lines(self) -> Iterator[str]:
        """Its lines, each with its end.

        Raises:
            ListError: as `chunks`; or a line of more than a million characters.
        """
        rest, number = "", 0
        for chunk in self.chunks():
            *whole, rest = (rest + chunk).split("\n")
            number += len(whole)
            yield from (line + "\n" for line in whole)
            if len(rest) > _LONGEST_LINE:
                raise ListError(
                    "a line does not end",
                    file=self.file,
                    line=number + 1,
                    remedy="The file is damaged, or no table: download it again.",
                )
        if rest:
            yield rest

    def _decoded(self, chunk: bytes, *, final: bool) -> str:
        try:
            text = self._decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            line = self.line + bytes(error.object[: error.start]).count(b"\n")
            raise ListError(
                f"byte 0x{error.object[error.start]:02x} is no UTF-8",
                file=self.file,
                line=line,
                remedy="Download the file again and leave its encoding as it is, or save it as UTF-8.",
            ) from error
        self.line += text.count("\n")
        return text


def _unpacked(raw: BinaryIO) -> BinaryIO:
    packed = raw.read(2) == _GZIP
    raw.seek(0)
    return gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[return-value]
