"""Record batches, as brokers give them, with every position accounted for."""

from __future__ import annotations

import struct
import zlib

import crc32c
import lz4.frame
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecordsBuilder

from auditspan.journal.kafka_batches import CorruptBatch, Record, batches

CODECS = {"none": 0, "gzip": 1, "lz4": 3, "zstd": 4}
ROOM = 1 << 20


def built(records, codec=0, first=0) -> bytes:
    """A batch as the client library writes it."""
    builder = MemoryRecordsBuilder(2, codec, 1 << 20, offset=first)
    for timestamp, value, headers in records:
        assert builder.append(timestamp, None, value, headers) is not None
    builder.close()
    return bytes(builder.buffer())


def with_attributes(batch: bytes, content: bytes | None = None, **fields: int) -> bytes:
    """``batch`` with other fields or content, and the checksum that goes with them."""
    header = list(struct.unpack_from(">qiibIhiqqqhii", batch))
    names = (
        "base",
        "length",
        "epoch",
        "magic",
        "crc",
        "attributes",
        "last",
        "first",
        "max",
        "pid",
        "pe",
        "seq",
        "count",
    )
    for name, value in fields.items():
        header[names.index(name)] = value
    content = batch[61:] if content is None else content
    header[1] = 61 - 12 + len(content)
    tail = struct.pack(">hiqqqhii", *header[5:]) + content
    header[4] = crc32c.crc32c(tail)
    return struct.pack(">qiibI", *header[:5]) + tail


def records_of(data: bytes, limit: int = ROOM) -> list[Record]:
    return [record for batch in batches(data) for record in batch.records(limit)]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@given(
    sent=st.lists(
        st.tuples(
            st.integers(0, 2**45),
            st.binary(max_size=300),
            st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=99)), max_size=4),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_a_producer_wrote_is_read(codec, sent):
    found = records_of(built(sent, codec))
    assert [(one.timestamp, one.value, one.headers) for one in found] == sent
    assert [one.offset for one in found] == list(range(len(sent)))


def test_batches_follow_each_other_and_a_cut_one_is_left_for_later():
    one, two = built([(1, b"a", []), (1, b"b", [])]), with_attributes(built([(1, b"c", [])]), base=2)
    assert [(record.offset, record.value) for record in records_of(one + two)] == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert len(records_of(one + two[:-1])) == 2
    assert records_of(one[:40]) == []


def test_the_brokers_time_stands_where_the_topic_says_so():
    stamped = with_attributes(built([(5, b"a", []), (6, b"b", [])]), attributes=0x08, max=99)
    assert [one.timestamp for one in records_of(stamped)] == [99, 99]


def test_altered_bytes_are_noticed():
    good = bytearray(built([(1, b"some value", [])]))
    good[-3] ^= 1
    with pytest.raises(CorruptBatch, match="checksum"):
        records_of(bytes(good))
    good[16] = 1
    with pytest.raises(CorruptBatch, match="format 1"):
        records_of(bytes(good))


def test_a_transactions_marker_has_its_position():
    marker = with_attributes(built([(7, b"\x00\x00\x00\x00\x00\x00", [])]), attributes=0x30, base=12)
    (found,) = records_of(marker)
    assert (found.offset, found.broken) == (12, True)
    assert b"\x00\x00\x00\x00\x00\x00" in found.value


@pytest.mark.parametrize("attributes", [0, 1, 2, 3, 4, 5])
def test_a_batch_that_cannot_be_taken_apart_keeps_its_positions_and_bytes(attributes):
    broken = with_attributes(
        built([(1, b"a", []), (1, b"b", []), (1, b"c", [])]), b"\xffnonsense" * 9, attributes=attributes
    )
    found = records_of(broken)
    assert [one.offset for one in found] == [0, 1, 2]
    assert all(one.broken for one in found)
    assert [one.value for one in found] == [b"\xffnonsense" * 9, b"", b""]


def test_a_header_name_that_is_no_text_does_not_stop_the_reading():
    whole = built([(1, b"value", [("ab", b"x")])])
    found = records_of(with_attributes(whole, whole[61:].replace(b"ab", b"\xff\xfe")))
    assert [(one.value, one.headers[0][1], one.broken) for one in found] == [(b"value", b"x", False)]


def _bombs():
    zeros = bytes(ROOM + 1)
    gzip = zlib.compressobj(9, zlib.DEFLATED, 31)
    unsized = lz4.frame.compress(zeros, store_size=False)
    stream = zstandard.ZstdCompressor(write_content_size=False).compress(zeros)
    return {
        "gzip": (1, gzip.compress(zeros) + gzip.flush()),
        "snappy": (2, pa.compress(zeros, codec="snappy", asbytes=True)),
        "lz4": (3, lz4.frame.compress(zeros)),
        "lz4 without its size": (3, unsized),
        "zstd": (4, zstandard.compress(zeros)),
        "zstd without its size": (4, stream),
    }


@pytest.mark.parametrize(("codec", "packed"), _bombs().values(), ids=_bombs())
def test_a_batch_that_would_grow_beyond_the_limit_stays_packed(codec, packed):
    found = records_of(with_attributes(built([(1, b"a", [])]), packed, attributes=codec))
    assert [(one.offset, one.value, one.broken) for one in found] == [(0, packed, True)]


@pytest.mark.parametrize("framed", [False, True])
def test_snappy_is_read_in_both_framings(framed):
    plain = built([(1, b"value" * 50, []), (2, b"other", [])])
    packed = pa.compress(plain[61:], codec="snappy", asbytes=True)
    if framed:
        packed = b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, len(packed)) + packed
    found = records_of(with_attributes(plain, packed, attributes=2))
    assert [one.value for one in found] == [b"value" * 50, b"other"]


def test_a_position_that_compaction_took_is_missing_in_the_records():
    whole = built([(1, b"a", []), (1, b"b", [])])
    found = list(batches(with_attributes(whole, last=5)))
    assert (found[0].base_offset, found[0].next_offset) == (0, 6)
    assert [one.offset for one in found[0].records(ROOM)] == [0, 1]
