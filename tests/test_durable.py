"""What is synced is what was named, and nothing stays open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from auditspan.durable import sync

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
