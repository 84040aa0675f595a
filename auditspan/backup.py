"""Backup of a data directory, and its restoring: every file with its digest, written in one step.

A backup is a folder: ``backup.json`` and, below ``data``, what the directory held. Both are written beside their place
first and appear there complete. Keys are in it: it is as private as what it was made of (0700, files 0600).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from auditspan.durable import NewFolder, refuse_in_the_way
from auditspan.errors import AuditSpanError

__all__ = ["BackupInvalid", "BackupManifest", "make_backup", "now_text", "read_manifest", "restore_backup"]

MANIFEST: Final = "backup.json"
CONTENT: Final = "data"
_VERSION: Final = 1
_OWN: Final = frozenset({"version", "folders", "files", "links"})
_PASSING: Final = frozenset({"lock", "endpoints.json", "control.sock", "ledger-check.json"})
"""Names in the directory itself that mean nothing elsewhere: what runs, and what was checked of this very store."""
_PIECE: Final = 1 << 20
_LARGEST_MANIFEST: Final = 256 << 20
_SPARE: Final = 64 << 20
"""Bytes that must be left on the disk besides."""

Progress = Callable[[int, int], None]
"""Is told how many bytes are written, of how many."""


class BackupInvalid(AuditSpanError):
    """A backup that is not what its manifest says, or cannot be made or restored there."""


@dataclass(frozen=True, slots=True)
class BackupManifest:
    """What a backup holds, by path below the data directory. ``about`` says of what and when it was made."""

    about: Mapping[str, Any]
    folders: tuple[str, ...]
    files: Mapping[str, tuple[int, str]]
    links: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())

    def to_json(self) -> str:
        """As it stands in ``backup.json``."""
        files = {path: {"size": size, "sha256": digest} for path, (size, digest) in self.files.items()}
        document = {"version": _VERSION, **self.about, "folders": self.folders, "files": files, "links": self.links}
        return json.dumps(document, indent=1) + "\n"


@dataclass(slots=True)
class _Tree:
    """What lies below a folder."""

    folders: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


def make_backup(source: Path, out: Path, about: Mapping[str, Any], progress: Progress | None = None) -> BackupManifest:
    """Copy the data directory ``source``, which nobody may be using, into the new folder ``out``.

    Raises:
        FolderInTheWay: ``out`` is no new folder.
        BackupInvalid: it is inside of ``source``, the disk has no room, or something below ``source`` is neither file
            nor folder, or a link that leads out of it.
    """
    refuse_in_the_way(out)
    if out.resolve().is_relative_to(source.resolve()):
        raise BackupInvalid(f"{out} lies inside of {source}.", remedy="Give a folder on another disk.")
    tree = _look(source, _PASSING)
    _check_room(out, sum(tree.files.values()))
    files: dict[str, tuple[int, str]] = {}
    with NewFolder(out) as partial:
        content = partial / CONTENT
        _make_folders(content, tree.folders)
        done, total = 0, sum(tree.files.values())
        for path in tree.files:
            files[path] = _copy(source / path, content / path)
            done += files[path][0]
            if progress is not None:
                progress(done, total)
        _make_links(content, tree.links)
        manifest = BackupManifest(about, tuple(tree.folders), files, tree.links)
        _write(partial / MANIFEST, manifest.to_json().encode())
    return manifest


def read_manifest(backup: Path) -> BackupManifest:
    """The manifest of a backup.

    Raises:
        BackupInvalid: there is none, or it is not one.
    """
    try:
        with (backup / MANIFEST).open("rb") as file:
            content = file.read(_LARGEST_MANIFEST + 1)
        document: Any = json.loads(content)
        if document["version"] != _VERSION or len(content) > _LARGEST_MANIFEST:
            raise ValueError("it is of another version")
        files = {_path(path): (_count(one["size"]), str(one["sha256"])) for path, one in document["files"].items()}
        links = {_path(path): _inside(path, target) for path, target in document["links"].items()}
        folders = tuple(_path(path) for path in document["folders"])
        about = {name: value for name, value in document.items() if name not in _OWN}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupInvalid(
            f"{backup} is no backup that can be read: {error}.", remedy="Name the folder that `auditspan backup` wrote."
        ) from error
    return BackupManifest(about, folders, files, links)


def restore_backup(
    backup: Path,
    target: Path,
    manifest: BackupManifest,
    progress: Progress | None = None,
    added: Mapping[str, bytes] | None = None,
) -> None:
    """Write what a backup holds into the folder ``target``, which must not exist or be empty.

    ``added`` are files of the folder itself that appear together with it, in the place of those of the backup. Nothing
    appears there unless every file is there, has the digest of ``manifest``, and no other one is.

    Raises:
        FolderInTheWay: ``target`` is no new folder.
        BackupInvalid: it is not so, or the disk has no room.
    """
    refuse_in_the_way(target)
    content = backup / CONTENT
    found = _look(content, frozenset())
    for what, wanted, there in (
        ("file", manifest.files.keys(), found.files.keys()),
        ("link", manifest.links.items(), found.links.items()),
        ("folder", set(manifest.folders), set(found.folders)),
    ):
        differing = sorted(str(one) for one in wanted ^ there)
        if differing:
            raise BackupInvalid(
                f"The backup {backup} was altered: its manifest and its content differ in the {what} {differing[0]}"
                + (f" and {len(differing) - 1} more." if len(differing) > 1 else "."),
                remedy="Use another copy of it.",
            )
    _check_room(target, manifest.size)
    with NewFolder(target) as partial:
        _make_folders(partial, manifest.folders)
        done = 0
        for path, said in manifest.files.items():
            if _copy(content / path, partial / path) != said:
                raise BackupInvalid(
                    f"The file {path} of the backup {backup} is not the one of its manifest.",
                    remedy="Use another copy of it: nothing was restored.",
                )
            done += said[0]
            if progress is not None:
                progress(done, manifest.size)
        _make_links(partial, manifest.links)
        for name, text in (added or {}).items():
            (partial / name).unlink(missing_ok=True)
            _write(partial / name, text)


def _look(root: Path, passing: frozenset[str]) -> _Tree:
    tree = _Tree()
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        if name in passing or path.name.endswith(".tmp"):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            tree.links[name] = _inside(name, _relative(root, path))
        elif stat.S_ISDIR(mode):
            tree.folders.append(name)
        elif stat.S_ISREG(mode):
            tree.files[name] = path.lstat().st_size
        else:
            raise BackupInvalid(
                f"{path} is neither a file nor a folder.", remedy="Move it out of the data directory: it is not ours."
            )
    return tree


def _walk(root: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        raise BackupInvalid(
            f"{root} cannot be read: {error.strerror}.", remedy="Run this as the user that owns it."
        ) from error
    for entry in entries:
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))


def _relative(root: Path, link: Path) -> str:
    """Where a link leads, as seen from where it stands; one that names ``root`` by its path follows it elsewhere."""
    target = str(link.readlink())
    if not PurePosixPath(target).is_absolute():
        return target
    for base in (root.absolute(), root.resolve()):
        if Path(target).is_relative_to(base):
            return os.path.relpath(Path(target).relative_to(base), link.parent.relative_to(root))
    return target


def _inside(name: str, target: object) -> str:
    """``target`` of the link ``name``, if it leads to somewhere below the directory.

    Raises:
        BackupInvalid: it does not.
    """
    if not isinstance(target, str) or PurePosixPath(target).is_absolute():
        raise BackupInvalid(f"The link {name} leads out of the directory.", remedy="Replace it by what it leads to.")
    leads = os.path.normpath(PurePosixPath(name).parent / target)
    if leads == ".." or leads.startswith("../"):
        raise BackupInvalid(f"The link {name} leads out of the directory.", remedy="Replace it by what it leads to.")
    return target


def _path(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\0" in name or name != "/".join(parts):
        raise ValueError(f"{name!r} is no path below the data directory")
    return name


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("a size is a number")
    return value


def _make_folders(root: Path, folders: Any) -> None:
    root.mkdir(mode=0o700, exist_ok=True)
    for name in folders:
        (root / name).mkdir(mode=0o700)


def _make_links(root: Path, links: Mapping[str, str]) -> None:
    for name, target in links.items():
        (root / name).symlink_to(target)


def _copy(source: Path, target: Path) -> tuple[int, str]:
    """Copy one file; its size and digest."""
    digest, size = hashlib.sha256(), 0
    with _opened(source) as read, _new(target) as written:
        while piece := read.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            written.write(piece)
        written.flush()
        os.fsync(written.fileno())
    return size, digest.hexdigest()


def _opened(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _new(path: Path) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _write(path: Path, content: bytes) -> None:
    with _new(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _check_room(out: Path, size: int) -> None:
    there = out.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < size + _SPARE:
        raise BackupInvalid(
            f"{size + _SPARE:,} bytes are needed below {there}, and {free:,} are free.", remedy="Make room first."
        )


def now_text() -> str:
    """Now, as manifests have it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
