"""Lists that were imported, kept in a data directory by their digest; the one imported last is current.

A list takes its place in one step, when all of it has been read and written: a file that is broken changes nothing.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from .csl_json import CslJson
from .csl_table import CslTable
from .entries import ENTRIES, Entry, batch
from .errors import ListError, ScreeningError
from .importer import LARGEST, Importer, ListHead, TextSource

__all__ = [
    "IMPORTERS",
    "KeptList",
    "copy_list",
    "current_list",
    "import_list",
    "kept_list",
    "kept_lists",
    "kept_source",
    "load_entries",
]

IMPORTERS: Final[tuple[Importer, ...]] = (CslJson(), CslTable())
_CURRENT: Final = "current.json"
_MANIFEST: Final = "list.json"
_ENTRIES: Final = "entries.arrow"
_SOURCE: Final = "source"
_BATCH: Final = 2000
_SHRUNK: Final = 0.8
"""Share of the entries of the current list that a new one must have: a table that was cut at a line end looks whole."""


@dataclass(frozen=True, slots=True)
class KeptList:
    """A list in a data directory.

    Attributes:
        digest: SHA-256 of the file as it was imported, packed or not.
        file: what it was called.
        format: the importer that read it.
        dated: the time that the file or the person who imported it gives, ISO 8601; empty when neither does.
        imported_at: RFC 3339, UTC.
        entries, names: how many parties, and names of them.
        lists: entries by list code.
    """

    digest: str
    file: str
    format: str
    dated: str
    imported_at: str
    entries: int
    names: int
    lists: dict[str, int]

    @property
    def version(self) -> str:
        """Its date and the beginning of its digest."""
        return f"{self.dated[:10] or self.imported_at[:10]}/{self.digest[:12]}"


def import_list(
    path: Path,
    folder: Path,
    *,
    dated: str = "",
    smaller: bool = False,
    current: bool = True,
    largest: int = LARGEST,
    progress: Callable[[int], None] = lambda _: None,
    prepare: Callable[[pa.Table, Path], None] = lambda entries, folder: None,
) -> KeptList:
    """Reads a list file, keeps it in ``folder``, and makes it the current one.

    Args:
        path: JSON, CSV or TSV of the Consolidated Screening List, gzip or not.
        folder: `auditspan.data_directory.DataDirectory.screening`.
        dated: its date, where the file itself gives none.
        smaller: whether it may have less than four fifths of the current list's entries.
        current: whether it becomes the current list; else it is kept beside it, and not compared with it.
        largest: bytes, unpacked, that are read at most.
        progress: told how many entries have been read.
        prepare: given the entries and the folder that the list will be kept in, before it takes its place there.

    Raises:
        ListError: the file cannot be read; the current list stays.
    """
    source = TextSource(path, largest)
    digest = source.digest()
    importer = _importer(source)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".import-", dir=folder))
    try:
        head, seen = ListHead(), _Seen(source.file)
        with _private(work / _ENTRIES) as sink, pa.ipc.new_stream(sink, ENTRIES) as writer:
            for entries in _batched(seen.checked(importer.entries(source, head))):
                writer.write_batch(batch(entries))
                progress(len(seen.records))
        _check_total(head, seen, path.name, current_list(folder) if current else None, smaller)
        kept = KeptList(
            digest=digest,
            file=path.name,
            format=importer.name,
            dated=head.stated_time or dated,
            imported_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            entries=len(seen.records),
            names=seen.names,
            lists=dict(seen.lists.most_common()),
        )
        with path.open("rb") as file, _private(work / _SOURCE) as copy:
            shutil.copyfileobj(file, copy)
        prepare(pa.ipc.open_stream(pa.memory_map(str(work / _ENTRIES))).read_all(), work)
        _write_json(work / _MANIFEST, asdict(kept))
        _take_place(work, folder / digest)
        if current:
            _write_json(folder / _CURRENT, {"digest": digest})
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return kept


def current_list(folder: Path) -> KeptList | None:
    """The list that names are screened against; None where none was imported.

    Raises:
        ScreeningError: what is there cannot be read.
    """
    try:
        digest = json.loads((folder / _CURRENT).read_text())["digest"]
        return KeptList(**json.loads((folder / digest / _MANIFEST).read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScreeningError(
            f"{folder} holds no list that can be read: {error}", remedy="Import the list again: auditspan lists import."
        ) from error


def kept_list(folder: Path, digest: str) -> KeptList | None:
    """The list of this digest; None where it is not kept.

    Raises:
        ScreeningError: what is there cannot be read.
    """
    try:
        return KeptList(**json.loads((folder / digest / _MANIFEST).read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ScreeningError(
            f"{folder / digest} holds no list that can be read: {error}",
            remedy="Remove it: it is made anew from the artifact.",
        ) from error


def kept_source(folder: Path, digest: str) -> Path:
    """The file of a kept list, as it was imported."""
    return folder / digest / _SOURCE


def copy_list(kept: KeptList, folder: Path, other: Path, digest: str, file: str) -> None:
    """Keep what was read from ``kept`` of ``folder`` in ``other`` too, as the list ``digest`` of the same content.

    Nothing is copied where it is there already.

    Raises:
        OSError: ``other`` cannot be written.
    """
    if (other / digest / _MANIFEST).exists():
        return
    other.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".import-", dir=other))
    try:
        skipped = shutil.ignore_patterns(_MANIFEST, _SOURCE)
        shutil.copytree(folder / kept.digest, work, copy_function=_link, ignore=skipped, dirs_exist_ok=True)
        _write_json(work / _MANIFEST, {**asdict(kept), "digest": digest, "file": file})
        _take_place(work, other / digest)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """Its content is never changed, only replaced: two names may share it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def kept_lists(folder: Path) -> list[KeptList]:
    """All lists that are kept, the latest import first."""
    found = []
    for manifest in folder.glob(f"*/{_MANIFEST}"):
        try:
            found.append(KeptList(**json.loads(manifest.read_text())))
        except (OSError, ValueError, TypeError) as error:
            raise ScreeningError(
                f"{manifest} cannot be read: {error}", remedy="Import that list again: auditspan lists import."
            ) from error
    return sorted(found, key=lambda kept: kept.imported_at, reverse=True)


def load_entries(folder: Path, digest: str) -> pa.Table:
    """The entries of a kept list, columns `ENTRIES`.

    Raises:
        ScreeningError: they cannot be read.
    """
    path = folder / digest / _ENTRIES
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            table = reader.read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise ScreeningError(
            f"{path} cannot be read: {error}", remedy="Import the list again: auditspan lists import."
        ) from error
    if not table.schema.equals(ENTRIES):
        raise ScreeningError(
            f"{path} was written by another version", remedy="Import the list again: auditspan lists import."
        )
    return table


def _importer(source: TextSource) -> Importer:
    start = source.start()
    for importer in IMPORTERS:
        if importer.recognises(start, source.file):
            return importer
    raise ListError(
        "it is neither JSON nor a table with the columns source and name",
        file=source.file,
        line=1,
        remedy="Import the JSON, CSV or TSV file of the Consolidated Screening List, gzip or not.",
    )


class _Seen:
    """What has been read of a list so far."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.records: dict[str, int] = {}
        self.lists: Counter[str] = Counter()
        self.names = 0

    def checked(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        for entry in entries:
            before = self.records.setdefault(entry.entry_id, entry.record)
            if before != entry.record:
                raise ListError(
                    f"its id {entry.entry_id} is that of record {before} too",
                    file=self.file,
                    record=entry.record,
                    remedy="Download the list again, or remove the copy. The list that was imported last stays.",
                )
            self.lists[entry.list] += 1
            self.names += len(entry.names)
            yield entry


def _batched(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    waiting: list[Entry] = []
    for entry in entries:
        waiting.append(entry)
        if len(waiting) == _BATCH:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _check_total(head: ListHead, seen: _Seen, file: str, current: KeptList | None, smaller: bool) -> None:
    count = len(seen.records)
    if not count:
        raise ListError("it has no entry", file=file, remedy="Download the list again.")
    if head.stated_total is not None and head.stated_total != count:
        raise ListError(
            f"it says that it has {head.stated_total} entries, and has {count}",
            file=file,
            remedy="The file is truncated: download it again. The list that was imported last stays.",
        )
    if current is not None and count < _SHRUNK * current.entries and not smaller:
        raise ListError(
            f"it has {count} entries, and the current list {current.entries}",
            file=file,
            remedy="If it is whole all the same, import it with --smaller. The list that was imported last stays.",
        )


def _take_place(work: Path, place: Path) -> None:
    """A list that is there already is the same: its name is its digest; what software read from it may be newer."""
    if place.exists():
        retired = place.with_name(f".retired-{place.name}-{os.getpid()}")
        place.rename(retired)
        work.rename(place)
        shutil.rmtree(retired, ignore_errors=True)
    else:
        work.rename(place)


def _private(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    with _private(temporary) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
