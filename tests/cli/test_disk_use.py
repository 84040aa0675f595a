"""Counting what a store takes, while it makes and removes folders."""

from __future__ import annotations

import threading
from pathlib import Path

from auditspan.cli.disk_use import bytes_under


def test_bytes_of_all_files_in_all_folders(tmp_path: Path) -> None:
    (tmp_path / "part" / "deep").mkdir(parents=True)
    (tmp_path / "part" / "deep" / "data.bin").write_bytes(b"x" * 1000)
    (tmp_path / "columns.txt").write_bytes(b"y" * 7)
    assert bytes_under(tmp_path) == 1007
    assert bytes_under(tmp_path / "absent") == 0


def test_folders_that_come_and_go_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "kept.bin").write_bytes(b"z" * 5)
    enough = threading.Event()

    def insert_again_and_again() -> None:
        while not enough.is_set():
            for name in range(20):
                (tmp_path / f"tmp_insert_all_{name}").mkdir()
            for name in range(20):
                (tmp_path / f"tmp_insert_all_{name}").rmdir()

    writer = threading.Thread(target=insert_again_and_again)
    writer.start()
    try:
        counted = {bytes_under(tmp_path) for _ in range(500)}
    finally:
        enough.set()
        writer.join()
    assert counted == {5}
