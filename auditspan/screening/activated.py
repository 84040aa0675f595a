"""A list as an artifact of the reference: packed so that equal content has equal bytes, and opened to be asked again.

What is read from an artifact, and the index of its names, are kept under its digest: made once on a machine, they are
opened in a fraction of a second.
"""

from __future__ import annotations

import datetime
import fcntl
import gzip
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .csl_json import CslJson
from .errors import ScreeningError
from .importer import TextSource
from .lists import KeptList, copy_list, import_list, kept_list, kept_source
from .screener import Screener, has_index, screener_of, write_index

__all__ = ["artifact_of", "keep_for_artifact", "open_artifact"]

_BUILDING: Final = ".building"


def artifact_of(kept: KeptList, folder: Path) -> tuple[str, bytes]:
    """Name and content of the artifact that the kept list is: the official file, packed, dated in the head of gzip.

    Raises:
        ListError: its file cannot be read.
    """
    content = TextSource(kept_source(folder, kept.digest)).content()
    header = content[:65536].partition(b"\n")[0]
    table = "tsv" if header.count(b"\t") > header.count(b",") else "csv"
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=_day(kept.dated)) as file:
        file.write(content)
    return f"screening_list.{'json' if kept.format == CslJson.name else table}.gz", packed.getvalue()


def keep_for_artifact(kept: KeptList, folder: Path, other: Path, digest: str, name: str) -> None:
    """Keep what was read from ``kept`` in ``other``, for the artifact ``digest`` of it, so that nobody reads it again.

    Raises:
        OSError: ``other`` cannot be written.
    """
    with _one_at_a_time(other):
        copy_list(kept, folder, other, digest, name)


def open_artifact(
    name: str, content: bytes, digest: str, folder: Path | None, judged_as: Callable[[str], str]
) -> Screener:
    """Screens against the list that an artifact is.

    Args:
        name: of the artifact.
        content: of it.
        digest: SHA-256 of it, in hexadecimal.
        folder: where what is read from lists is kept; None: it is read for this one time, which takes some 20 seconds.
        judged_as: the country that a code counts as.

    Raises:
        ListError: it is no list, or a broken one.
        ScreeningError, OSError: it cannot be kept.
    """
    if folder is None:
        # What is mapped stays there for as long as it is used.
        with tempfile.TemporaryDirectory(prefix="auditspan-list-") as made:
            return _opened(name, content, digest, Path(made), judged_as)
    return _opened(name, content, digest, folder, judged_as)


def _opened(name: str, content: bytes, digest: str, folder: Path, judged_as: Callable[[str], str]) -> Screener:
    with _one_at_a_time(folder):
        try:
            kept = kept_list(folder, digest) if has_index(folder, digest) else None
            if kept is not None:
                return screener_of(kept, folder, judged_as)
        except ScreeningError:
            pass  # broken: it is made anew from the artifact, which is whole
        return screener_of(_read(name, content, folder), folder, judged_as)


def _read(name: str, content: bytes, folder: Path) -> KeptList:
    with tempfile.TemporaryDirectory(prefix=".artifact-", dir=folder) as work:
        file = Path(work) / name
        file.write_bytes(content)
        return import_list(file, folder, current=False, prepare=write_index)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Of several processes one makes an index, and the others wait for it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / _BUILDING, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _day(dated: str) -> int:
    """Seconds since 1970 of the list's day; 0 where it has none."""
    try:
        day = datetime.date.fromisoformat(dated[:10])
    except ValueError:
        return 0
    return max(0, (day - datetime.date(1970, 1, 1)).days * 86_400)
