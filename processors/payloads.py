"""Payloads, salts and hashes of a batch, column by column (``docs/evidence-format.md`` sections 3 and 12).

The same results as `auditspan.ledger.commitments` and `auditspan.ledger.merkle` give one by one: `hashlib` is called
once a row, and everything around it once a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from auditspan.ledger.commitments import SALT_LENGTH
from auditspan.ledger.payloads import payload_array

__all__ = ["facts_hashes", "fixed_binary", "leaf_hashes", "payload_hashes", "payloads", "salts", "slices"]

_POSITION: Final = np.dtype([("offset", ">u8"), ("ordinal", ">u4")])
_BLOCK: Final = 64
"""Bytes of a block of SHA-256."""


def payloads(spans: pa.Table) -> pa.Array:
    """The payload of every row of a `SPANS` table."""
    return payload_array(*(_one(spans[name]) for name in ("resource", "scope", "span")))


def salts(salt_key: bytes, log_id: str, offsets: npt.NDArray[np.int64], ordinals: npt.NDArray[np.int32]) -> list[bytes]:
    """``HMAC-SHA-256(salt_key, log_id ‖ u64(offset) ‖ u32(ordinal))`` of every row."""
    positions = np.empty(len(offsets), _POSITION)
    positions["offset"], positions["ordinal"] = offsets, ordinals
    packed = positions.tobytes()
    # RFC 2104 with the states after both padded keys computed once: `hmac.digest` computes them for every row anew.
    key = (salt_key if len(salt_key) <= _BLOCK else hashlib.sha256(salt_key).digest()).ljust(_BLOCK, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + bytes.fromhex(log_id)).copy
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key)).copy
    made = []
    for at in range(0, len(packed), _POSITION.itemsize):
        first, second = inner(), outer()
        first.update(packed[at : at + _POSITION.itemsize])
        second.update(first.digest())
        made.append(second.digest())
    return made


def payload_hashes(salts_: Sequence[bytes], payloads_: pa.Array) -> pa.Array:
    """``H(0x02 ‖ salt ‖ payload)`` of every row, 32 bytes each."""
    sha256, join = hashlib.sha256, b"".join
    return _digests(
        [
            sha256(join((b"\x02", salt, payload))).digest()
            for salt, payload in zip(salts_, slices(payloads_), strict=True)
        ]
    )


def facts_hashes(salts_: Sequence[bytes], facts: pa.DictionaryArray) -> pa.Array:
    """``H(0x03 ‖ salt ‖ facts)`` of every row that has facts, null elsewhere."""
    sha256 = hashlib.sha256
    documents = facts.dictionary.to_pylist()
    places = facts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    there = np.flatnonzero(places >= 0)
    digests = [
        sha256(b"\x03" + salts_[row] + documents[place]).digest()
        for row, place in zip(there.tolist(), places[there].tolist(), strict=True)
    ]
    if len(there) == len(places):
        return _digests(digests)
    indices = np.full(len(places), -1, np.int64)
    indices[there] = np.arange(len(there))
    return _digests(digests).take(pa.array(indices, mask=indices < 0))


def leaf_hashes(headers: pa.ChunkedArray) -> list[bytes]:
    """``H(0x00 ‖ leaf)`` of every header."""
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + leaf).digest() for chunk in headers.chunks for leaf in slices(chunk)]


def slices(array: pa.Array) -> Iterator[memoryview]:
    """Views of the values of a binary or string array without nulls."""
    if not len(array):
        return iter(())
    wide = pa.types.is_large_binary(array.type) or pa.types.is_large_string(array.type)
    _, ends, data = array.buffers()
    kind = np.int64 if wide else np.int32
    bounds = np.frombuffer(ends, kind)[array.offset : array.offset + len(array) + 1].tolist()
    view = memoryview(data) if data is not None else memoryview(b"")
    return (view[begin:end] for begin, end in pairwise(bounds))


def fixed_binary(values: Sequence[bytes], width: int = SALT_LENGTH) -> pa.Array:
    """Byte strings of one width as a binary array."""
    return _equal_width(b"".join(values), len(values), width, pa.binary())


def _one(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array


def _digests(digests: Sequence[bytes]) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(32), len(digests), [None, pa.py_buffer(b"".join(digests))])


def _equal_width(data: bytes, count: int, width: int, kind: pa.DataType) -> pa.Array:
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
