"""A package as one zip file: stored members, read by offset, so that nothing is unpacked (evidence format, section 14).

There is one way to read what `zip_package` writes: the members follow each other from the first byte to the central
directory, which ends the file and says of each what stands before its bytes. Whatever is not so is refused whole, since
two programs may read it in two ways.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from .layout import path_is_allowed
from .package import Package, PathRefused

__all__ = ["SUFFIX", "ZippedPackage", "open_package", "zip_package"]

SUFFIX: Final = ".zip"
"""How the name of a package in a zip file ends."""

_CHUNK: Final = 1 << 20
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = stat.S_IFREG | 0o600
_UNIX: Final = 3
_MOST_MEMBERS: Final = 200_000
_LARGEST_DIRECTORY: Final = 64 << 20
# Longer members take the 64-bit form; that is decided by the size alone, so one package gives one zip.
_LARGEST_SHORT: Final = 2**31 - 1

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s4B4H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_LOCATOR: Final = struct.Struct("<4sIQI")
_END_64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_SIGNATURE: Final = b"PK\x06\x07"
_ENCRYPTED: Final = 0x0001 | 0x0040 | 0x2000
_DESCRIPTOR: Final = 0x0008
_ZIP64: Final = 0x0001
_IN_64: Final = 0xFFFFFFFF
_MANY: Final = 0xFFFF


class _Malformed(Exception):
    """The file is no zip file that can be read in one way only."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A member: where its local header begins, its size, and why it may not be read, if so."""

    header: int
    size: int
    method: int
    flags: int
    crc: int
    refused: str
    data: int = 0


class ZippedPackage(Package):
    """An open package in a zip file, with the interface of one in a folder.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        # A named pipe must not be waited for.
        self._open_at(path, os.O_NONBLOCK)
        self._members: dict[str, _Member] = {}
        try:
            if path.suffix.lower() != SUFFIX and os.pread(self._root, 2, 0) != b"PK":
                raise NotADirectoryError(errno.ENOTDIR, "it is neither a folder nor a zip file", str(path))
            self._members = _members(self._root)
        except _Malformed as error:
            self.malformed = str(error)
        except BaseException:  # nobody else knows the descriptor
            os.close(self._root)
            raise

    def open(self, path: str) -> BinaryIO:
        """A member, to be read where it lies. Raises as `Package.open`."""
        if not path_is_allowed(path):
            raise PathRefused("a relative path of A-Z a-z 0-9 . _ - without a leading dot")
        member = self._members.get(path)
        if member is None:
            raise FileNotFoundError(path)
        if member.refused:
            raise PathRefused(member.refused)
        return io.BufferedReader(_Part(os.dup(self._root), member.data, member.size), _CHUNK)

    def entries(self) -> Iterator[tuple[str, bool]]:
        """``(path, whether it may be read)`` of every member."""
        for path, member in self._members.items():
            yield path, not member.refused and path_is_allowed(path)


class _Part(io.RawIOBase):
    """Bytes ``[start, start + size)`` of a file as a file of its own."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._at = descriptor, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        wanted = max(0, min(len(view), self._size - self._at))
        found = os.pread(self._descriptor, wanted, self._start + self._at) if wanted else b""
        view[: len(found)] = found
        self._at += len(found)
        return len(found)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def open_package(path: Path) -> Package:
    """The package at ``path``: a folder, or a zip file.

    Raises:
        OSError: it cannot be opened.
    """
    return Package(path) if path.is_dir() else ZippedPackage(path)


def zip_package(folder: Path, target: Path) -> None:
    """Write the files of a package into a new zip file, stored; one package always gives the same bytes.

    Raises:
        OSError: it cannot be written, or ``target`` exists.
    """
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    with target.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as packed:
            for path in paths:
                with (folder / path).open("rb") as source:
                    size = os.fstat(source.fileno()).st_size
                    entry = zipfile.ZipInfo(path, _DATE)
                    entry.create_system, entry.external_attr, entry.file_size = _UNIX, _MODE << 16, size
                    with packed.open(entry, "w", force_zip64=size > _LARGEST_SHORT) as member:
                        while piece := source.read(_CHUNK):
                            member.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _members(descriptor: int) -> dict[str, _Member]:
    """The members of a zip file by name.

    Raises:
        _Malformed: it is none, or can be read in more than one way.
    """
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        raise _Malformed("it is no regular file")
    start, directory, count = _directory(descriptor, state.st_size)
    found: dict[str, _Member] = {}
    at = 0
    for _ in range(count):
        name, member, at = _central(directory, at)
        if name in found:
            raise _Malformed(f"the name {name!r:.80} occurs twice")
        found[name] = member
    if at != len(directory):
        raise _Malformed("its central directory is longer than its members")
    # From the first byte on each member begins where the one before ends: no two overlap, and nothing is between them.
    placed: dict[str, _Member] = {}
    expected = 0
    for name, member in sorted(found.items(), key=lambda one: one[1].header):
        if member.header != expected:
            raise _Malformed(f"{name!r:.80} does not begin where the member before it ends")
        data = _local(descriptor, name, member, start)
        expected = data + member.size
        if expected > start:
            raise _Malformed(f"{name!r:.80} reaches into the central directory")
        placed[name] = _Member(
            member.header, member.size, member.method, member.flags, member.crc, member.refused, data
        )
    if expected != start:
        raise _Malformed("there are bytes between its last member and the central directory")
    return placed


def _directory(descriptor: int, size: int) -> tuple[int, bytes, int]:
    """Where the central directory begins, its bytes, and how many members it names."""
    if size < _END.size:
        raise _Malformed("it is too short for a zip file")
    end_at = size - _END.size
    signature, disk, first_disk, here, count, length, start, comment = _END.unpack(_read(descriptor, end_at, _END.size))
    if signature != b"PK\x05\x06" or comment:
        raise _Malformed("it does not end as a zip file without a comment does")
    directory_end = end_at
    # Readers look for the 64-bit form whether or not the numbers of the short one are there.
    has_locator = end_at >= _LOCATOR.size and _read(descriptor, end_at - _LOCATOR.size, 4) == _LOCATOR_SIGNATURE
    if has_locator or _MANY in (count, here) or _IN_64 in (length, start):
        short = (here, count, length, start)
        directory_end, here, count, length, start = _end_64(descriptor, end_at)
        limits = (_MANY, _MANY, _IN_64, _IN_64)
        if short != tuple(map(min, (here, count, length, start), limits)):
            raise _Malformed("its two ends say different things")
    if disk or first_disk or here != count:
        raise _Malformed("it is part of several files")
    if count > _MOST_MEMBERS or length > _LARGEST_DIRECTORY:
        raise _Malformed(f"it has {count} members and a directory of {length} bytes")
    if start + length != directory_end:
        raise _Malformed("its central directory does not end where it says")
    return start, _read(descriptor, start, length), count


def _end_64(descriptor: int, end_at: int) -> tuple[int, int, int, int, int]:
    """The same of the 64-bit form: where the directory ends, members here, members, length, start."""
    locator_at = end_at - _LOCATOR.size
    record_at = locator_at - _END_64.size
    if record_at < 0:
        raise _Malformed("it is too short for a zip file in the 64-bit form")
    signature, disk, stated, disks = _LOCATOR.unpack(_read(descriptor, locator_at, _LOCATOR.size))
    if signature != _LOCATOR_SIGNATURE or disk or disks != 1 or stated != record_at:
        raise _Malformed("its end in the 64-bit form is not where it says")
    signature, length_64, _, _, number, first, here, count, length, start = _END_64.unpack(
        _read(descriptor, record_at, _END_64.size)
    )
    if signature != b"PK\x06\x06" or length_64 != _END_64.size - 12 or number or first:
        raise _Malformed("its end in the 64-bit form is none")
    return record_at, here, count, length, start


def _central(directory: bytes, at: int) -> tuple[str, _Member, int]:
    """An entry of the central directory, and where the next begins."""
    if at + _CENTRAL.size > len(directory):
        raise _Malformed("its central directory is cut off")
    (signature, _, system, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment_length,
     disk, _, attributes, header) = _CENTRAL.unpack_from(directory, at)  # fmt: skip
    if signature != b"PK\x01\x02":
        raise _Malformed("its central directory holds something else")
    name_end = at + _CENTRAL.size + name_length
    end = name_end + extra_length
    if end + comment_length > len(directory):
        raise _Malformed("its central directory is cut off")
    name = directory[at + _CENTRAL.size : name_end].decode("ascii", "backslashreplace")
    extra = directory[name_end:end]
    if comment_length:
        # What stands at the end of the directory could be taken for an end record of the 64-bit form.
        raise _Malformed(f"{name!r:.80} has a comment")
    size, packed, header = _in_64(name, extra, size, packed, header)
    if method != zipfile.ZIP_STORED:
        raise _Malformed(f"{name!r:.80} is compressed")
    if flags & _ENCRYPTED:
        raise _Malformed(f"{name!r:.80} is encrypted")
    if flags & _DESCRIPTOR:
        raise _Malformed(f"the size of {name!r:.80} stands behind it")
    if disk or packed != size:
        raise _Malformed(f"{name!r:.80} has {packed} bytes that are to be {size}")
    return name, _Member(header, size, method, flags, crc, _refused(name, system, attributes)), end


def _in_64(name: str, extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """Sizes and offset, from the field of the 64-bit form where they do not fit.

    No other extra field may be there: some give a member a second name.
    """
    values = [size, packed, header]
    wide = [place for place, value in enumerate(values) if value == _IN_64]
    wanted = struct.pack("<2H", _ZIP64, 8 * len(wide)) if wide else b""
    if extra[:4] != wanted or len(extra) != len(wanted) + 8 * len(wide):
        raise _Malformed(f"the extra fields of {name!r:.80} are not those of the 64-bit form")
    for place, value in zip(wide, struct.unpack(f"<{len(wide)}Q", extra[4:]), strict=True):
        values[place] = value
    return values[0], values[1], values[2]


def _refused(name: str, system: int, attributes: int) -> str:
    """Why a member may not be read, though the file is well formed."""
    kind = stat.S_IFMT(attributes >> 16) if system == _UNIX else 0
    if kind not in (0, stat.S_IFREG) or name.endswith("/"):
        return "it is a link, a folder, or no regular file"
    return ""


def _local(descriptor: int, name: str, member: _Member, start: int) -> int:
    """Where the bytes of a member begin: behind a header that says the same as the central directory."""
    if member.header + _LOCAL.size > start:
        raise _Malformed(f"the header of {name!r:.80} is not there")
    signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(
        _read(descriptor, member.header, _LOCAL.size)
    )
    rest = _read(descriptor, member.header + _LOCAL.size, name_length + extra_length)
    size, packed, _ = _in_64(name, rest[name_length:], size, packed, 0)
    said = (signature, rest[:name_length].decode("ascii", "backslashreplace"), method, flags, crc, packed, size)
    if said != (b"PK\x03\x04", name, member.method, member.flags, member.crc, member.size, member.size):
        raise _Malformed(f"the header of {name!r:.80} says something else than the central directory")
    return int(member.header + _LOCAL.size + name_length + extra_length)


def _read(descriptor: int, at: int, length: int) -> bytes:
    """Bytes of a file, all of them.

    Raises:
        _Malformed: they are not there.
    """
    if length < 0 or at < 0:
        raise _Malformed("an offset is negative")
    pieces = []
    while length:
        piece = os.pread(descriptor, min(length, _CHUNK), at)
        if not piece:
            raise _Malformed("it is cut off")
        pieces.append(piece)
        at, length = at + len(piece), length - len(piece)
    return b"".join(pieces)
