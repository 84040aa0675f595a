"""Payloads, salts and hashes of a batch, column by column (``docs/evidence-format.md`` section 3).

The same results as `auditspan.ledger.commitments` gives one by one.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.ledger.commitments import SALT_LENGTH
from auditspan.ledger.hashing import Digests, as_binary, equal_width, hash_rows, hash_values
from auditspan.ledger.payloads import payload_array

__all__ = ["facts_hashes", "payload_hashes", "payloads", "salts"]

_POSITION: Final = np.dtype([("offset", ">u8"), ("ordinal", ">u4")])
_BLOCK: Final = 64
"""Bytes of a block of SHA-256."""
_PAYLOAD: Final = b"\x02"
_FACTS: Final = 0x03
_NOTHING: Final = pa.scalar(b"", pa.binary())


def payloads(spans: pa.Table) -> pa.Array:
    """The payload of every row of a `SPANS` table."""
    return payload_array(*(_one(spans[name]) for name in ("resource", "scope", "span")))


def salts(salt_key: bytes, log_id: str, offsets: npt.NDArray[np.int64], ordinals: npt.NDArray[np.int32]) -> Digests:
    """``HMAC-SHA-256(salt_key, log_id ‖ u64(offset) ‖ u32(ordinal))`` of every row (RFC 2104)."""
    rows = len(offsets)
    positions = np.empty(rows, _POSITION)
    positions["offset"], positions["ordinal"] = offsets, ordinals
    key = (salt_key if len(salt_key) <= _BLOCK else hashlib.sha256(salt_key).digest()).ljust(_BLOCK, b"\0")
    log = bytes.fromhex(log_id)
    inner = np.empty((rows, _BLOCK + len(log) + _POSITION.itemsize), np.uint8)
    inner[:, :_BLOCK] = _pad(key, 0x36)
    inner[:, _BLOCK : _BLOCK + len(log)] = np.frombuffer(log, np.uint8)
    inner[:, _BLOCK + len(log) :] = positions.view(np.uint8).reshape(rows, _POSITION.itemsize)
    outer = np.empty((rows, _BLOCK + SALT_LENGTH), np.uint8)
    outer[:, :_BLOCK] = _pad(key, 0x5C)
    outer[:, _BLOCK:] = hash_rows(inner)
    return hash_rows(outer)


def payload_hashes(salts_: Digests, payloads_: pa.Array) -> pa.Array:
    """``H(0x02 ‖ salt ‖ payload)`` of every row, 32 bytes each."""
    salted = pc.binary_join_element_wise(pa.scalar(_PAYLOAD, pa.binary()), equal_width(salts_), payloads_, _NOTHING)
    return as_binary(hash_values(salted))


def facts_hashes(salts_: Digests, facts: pa.DictionaryArray) -> pa.Array:
    """``H(0x03 ‖ salt ‖ H(facts))`` of every row that has facts, null elsewhere."""
    places = facts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    there = np.flatnonzero(places >= 0)
    salted = np.empty((len(there), 1 + 2 * SALT_LENGTH), np.uint8)
    salted[:, 0] = _FACTS
    salted[:, 1 : 1 + SALT_LENGTH] = salts_[there]
    # Equal events share one document, so each is hashed once.
    salted[:, 1 + SALT_LENGTH :] = hash_values(facts.dictionary)[places[there]]
    hashes = as_binary(hash_rows(salted))
    if len(there) == len(places):
        return hashes
    indices = np.full(len(places), -1, np.int64)
    indices[there] = np.arange(len(there))
    return hashes.take(pa.array(indices, mask=indices < 0))


def _pad(key: bytes, byte: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(key, np.uint8) ^ np.uint8(byte)


def _one(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
