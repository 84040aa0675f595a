"""One file serves one insert after the other, whatever the sizes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from auditspan.store.handover import Handover


def rows_of(count: int, width: int = 100) -> pa.Table:
    return pa.table({"number": range(count), "text": [b"x" * width] * count})


def read(handover: Handover) -> pa.Table:
    with pa.OSFile(handover.path) as source, pa.ipc.open_stream(source) as stream:
        return stream.read_all()


def test_a_shorter_insert_does_not_show_the_rest_of_a_longer_one() -> None:
    handover = Handover("test")
    for count in (10, 50_000, 3, 0, 60_000, 1):
        rows = rows_of(count)
        handover.write(rows)
        assert read(handover).equals(rows)
    handover.close()


def test_what_a_very_large_insert_took_is_given_back() -> None:
    handover = Handover("test")
    handover.write(rows_of(130, 1 << 20))
    large = Path(handover.path).stat().st_size
    handover.write(rows_of(10))
    assert Path(handover.path).stat().st_size < 8 << 20 < 128 << 20 < large
    assert read(handover).equals(rows_of(10))
    handover.close()


def test_nothing_is_left_open() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    handover = Handover("test")
    handover.write(rows_of(10))
    assert Path(handover.path).exists()
    handover.close()
    handover.close()
    assert set(Path("/proc/self/fd").iterdir()) == before
    with pytest.raises(OSError, match=r"."):
        read(handover)
