"""Decompression within a bound."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
import zstandard
from auditspan.collectors.disk import DiskWatermark
from auditspan.collectors.encoding import CorruptEncoding, DecompressedTooLarge, decompress
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# A busy machine is no fault of the code.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

COMPRESS = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress, "identity": bytes}


def nothing(_: int) -> None:
    pass


@unhurried
@given(st.lists(st.binary(min_size=1, max_size=5000), min_size=1, max_size=4), st.sampled_from(list(COMPRESS)))
def test_what_was_compressed_comes_back(parts, encoding):
    # Gzip and zstd allow several streams one after the other.
    parts = [b"".join(parts)] if encoding == "deflate" else parts
    body = b"".join(COMPRESS[encoding](part) for part in parts)
    counted = []
    assert decompress(body, encoding, 20_000, counted.append) == b"".join(parts)
    assert encoding == "identity" or sum(counted) == sum(map(len, parts))


@unhurried
@given(st.binary(min_size=1, max_size=3000), st.sampled_from(["gzip", "deflate", "zstd"]), st.data())
def test_a_stream_cut_off_anywhere_is_corrupt(content, encoding, data):
    compressed = COMPRESS[encoding](content)
    cut = data.draw(st.integers(0, len(compressed) - 1))
    with pytest.raises(CorruptEncoding):
        decompress(compressed[:cut], encoding, 10_000, nothing)


@unhurried
@given(st.binary(max_size=500), st.sampled_from(["gzip", "deflate", "zstd"]))
def test_any_bytes_are_decompressed_or_refused(body, encoding):
    try:
        decompress(body, encoding, 100_000, nothing)
    except (CorruptEncoding, DecompressedTooLarge) as error:
        assert str(error)


@pytest.mark.parametrize("encoding", list(COMPRESS))
def test_the_bound_is_exact(encoding):
    body = COMPRESS[encoding](bytes(10_000))
    assert len(decompress(body, encoding, 10_000, nothing)) == 10_000
    with pytest.raises(DecompressedTooLarge):
        decompress(body, encoding, 9_999, nothing)


def test_what_follows_a_deflate_stream_is_an_error():
    with pytest.raises(CorruptEncoding, match="follows"):
        decompress(zlib.compress(b"a") + b"b", "deflate", 1000, nothing)


def gzip_bomb(size: int) -> bytes:
    compressor = zlib.compressobj(1, wbits=31)
    zeros = bytes(1_000_000)
    return b"".join(compressor.compress(zeros) for _ in range(size // len(zeros))) + compressor.flush()


def zstd_bomb(size: int) -> bytes:
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    zeros = bytes(1_000_000)
    return b"".join(compressor.compress(zeros) for _ in range(size // len(zeros))) + compressor.flush()


@pytest.mark.parametrize(("encoding", "bomb"), [("gzip", gzip_bomb), ("zstd", zstd_bomb)])
def test_a_bomb_never_takes_more_memory_than_the_bound_and_a_step(encoding, bomb):
    body = bomb(300_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(DecompressedTooLarge):
            decompress(body, encoding, 4_000_000, nothing)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_room_is_asked_for_before_it_is_taken():
    class NoRoom(Exception):
        pass

    def refuse(size: int) -> None:
        raise NoRoom

    with pytest.raises(NoRoom):
        decompress(gzip.compress(bytes(100)), "gzip", 1000, refuse)


def test_the_disk_is_asked_once_an_interval_and_counts_as_full_when_it_does_not_answer(tmp_path):
    asked = []

    def statvfs(path):
        asked.append(path)
        raise OSError(5, "Input/output error")

    watermark = DiskWatermark(tmp_path, 0, 0.0, interval=60, statvfs=statvfs)
    assert "Input/output error" in (watermark.refusal() or "")
    assert watermark.refusal()
    assert len(asked) == 1
    assert DiskWatermark(tmp_path, 0, 0.0).refusal() is None
    assert "below the watermark" in (DiskWatermark(tmp_path, 1 << 62, 0.0).refusal() or "")
    assert "below the watermark" in (DiskWatermark(tmp_path, 0, 0.999_999).refusal() or "")
