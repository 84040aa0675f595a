"""What is synced is what was named, and nothing stays open."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from auditspan.durable import FolderInTheWay, NewFolder, refuse_in_the_way, sync

OPEN = Path("/proc/self/fd")
"""The descriptors that this process has open."""


@pytest.mark.parametrize("name", ["", "file"], ids=["a folder", "a file"])
def test_the_named_path_is_synced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("content")
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((OPEN / str(descriptor)).readlink()))
    before = len(list(OPEN.iterdir()))
    sync(tmp_path / name)
    assert synced == [(tmp_path / name).resolve()]
    assert len(list(OPEN.iterdir())) == before


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "nothing")


def test_a_new_folder_appears_complete(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty", "deep/new"):
        out = tmp_path / name
        with NewFolder(out) as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / "file").write_text("content")
            assert not out.exists() or not list(out.iterdir())
        assert (out / "inner" / "file").read_text() == "content"
        assert stat.S_IMODE(out.stat().st_mode) == 0o700
        assert not list(out.parent.glob(".*partial*"))


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), NewFolder(tmp_path / "new") as folder:
        (folder / "file").write_text("content")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for name in ("file", "link", "full"):
        with pytest.raises(FolderInTheWay):
            refuse_in_the_way(tmp_path / name)
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nothing"):
        refuse_in_the_way(tmp_path / name)
