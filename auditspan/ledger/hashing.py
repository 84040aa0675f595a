"""SHA-256 of whole columns (FIPS 180-4).

The hash itself costs a tenth of a microsecond for a short value; a call from Python costs five times that, for every
value. So columns are hashed by DataFusion, which takes Arrow as it is and calls nothing of Python. Where it is not
installed (a verifier needs no pipeline), and for a handful of values, `hashlib` does the same, one by one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "DIGEST_LENGTH",
    "Digests",
    "as_binary",
    "equal_width",
    "from_binary",
    "hash_columns",
    "hash_rows",
    "hash_values",
    "leaf_hashes",
    "listed",
]

DIGEST_LENGTH: Final = 32
_FEW: Final = 1_024
"""Values up to which planning a query costs more than it saves."""
_LEAF: Final = b"\x00"

Digests = npt.NDArray[np.uint8]
"""Digests of n values: an array of n × 32 bytes."""


def hash_values(values: pa.Array, prefix: bytes = b"") -> Digests:
    """``SHA-256(prefix ‖ value)`` of every value of a binary or string array without nulls."""
    if values.null_count:
        raise ValueError("a null has no hash")
    if prefix:
        values = pc.binary_join_element_wise(
            pa.scalar(prefix, pa.binary()), values.cast(pa.binary()), pa.scalar(b"", pa.binary())
        )
    return _hash_few(values) if len(values) <= _FEW or not _HAS_ENGINE else _hash_many(values)


def hash_columns(*columns: pa.Array) -> list[Digests]:
    """``SHA-256(value)`` of every value of binary arrays without nulls, together: a query costs the same for all."""
    if not _HAS_ENGINE or sum(map(len, columns)) <= _FEW:
        return [hash_values(column) for column in columns]
    if any(column.null_count for column in columns):
        raise ValueError("a null has no hash")
    whole = _hash_many(pa.chunked_array(columns))
    return np.split(whole, np.cumsum([len(column) for column in columns[:-1]]))


def hash_rows(rows: npt.NDArray[np.uint8]) -> Digests:
    """SHA-256 of every row of a table of bytes: values of one width, without Arrow's offsets."""
    return hash_values(equal_width(rows))


def leaf_hashes(leaves: pa.Array | pa.ChunkedArray) -> Digests:
    """``SHA-256(0x00 ‖ leaf)`` of every leaf (RFC 6962 section 2.1)."""
    chunks = leaves.chunks if isinstance(leaves, pa.ChunkedArray) else [leaves]
    return np.concatenate([np.empty((0, DIGEST_LENGTH), np.uint8), *(hash_values(chunk, _LEAF) for chunk in chunks)])


def equal_width(rows: npt.NDArray[np.uint8]) -> pa.BinaryArray:
    """The rows of a table of bytes as binary values."""
    count, width = rows.shape
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    data = np.ascontiguousarray(rows)
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def as_binary(digests: Digests) -> pa.FixedSizeBinaryArray:
    """Digests as an Arrow array of 32 bytes each."""
    return pa.Array.from_buffers(pa.binary(DIGEST_LENGTH), len(digests), [None, pa.py_buffer(digests)])


def from_binary(digests: pa.Array) -> Digests:
    """The bytes of an Arrow array of 32 bytes each (fixed size or not) without nulls."""
    _, *buffers = digests.buffers()
    begin = digests.offset * DIGEST_LENGTH
    return np.frombuffer(buffers[-1], np.uint8, len(digests) * DIGEST_LENGTH, begin).reshape(-1, DIGEST_LENGTH)


def listed(digests: Digests) -> list[bytes]:
    """Digests one by one."""
    data = digests.tobytes()
    return [data[at : at + DIGEST_LENGTH] for at in range(0, len(data), DIGEST_LENGTH)]


def _hash_few(values: pa.Array) -> Digests:
    wide = pa.types.is_large_binary(values.type) or pa.types.is_large_string(values.type)
    _, ends, data = values.buffers()
    bounds = np.frombuffer(ends, np.int64 if wide else np.int32)[values.offset :][: len(values) + 1].tolist()
    view = memoryview(data if data is not None else b"")
    sha256 = hashlib.sha256
    joined = b"".join([sha256(view[begin:end]).digest() for begin, end in pairwise(bounds)])
    return np.frombuffer(joined, np.uint8).reshape(-1, DIGEST_LENGTH)


_HAS_ENGINE: Final = find_spec("datafusion") is not None
_engines: Final = threading.local()


def _hash_many(values: pa.Array | pa.ChunkedArray) -> Digests:
    hashed = _engine()(values)
    return from_binary(hashed[0]) if len(hashed) == 1 else np.concatenate([from_binary(column) for column in hashed])


def _engine() -> Callable[[pa.Array | pa.ChunkedArray], list[pa.Array]]:
    """The engine of this thread: its tables have names, which two threads must not give at once."""
    made: Callable[[pa.Array | pa.ChunkedArray], list[pa.Array]] | None = getattr(_engines, "made", None)
    if made is None:
        made = _engines.made = _new_engine()
    return made


def _new_engine() -> Callable[[pa.Array | pa.ChunkedArray], list[pa.Array]]:
    from datafusion import SessionConfig, SessionContext, col, functions

    # One partition and batches of any size: a column is hashed by one thread, in one piece.
    context: Any = SessionContext(SessionConfig().with_target_partitions(1).with_batch_size(1 << 24))
    hashed = functions.sha256(col("value"))

    def run(values: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
        frame = context.from_arrow(pa.table({"value": values}), "values")
        try:
            return [batch.column(0) for batch in frame.select(hashed).collect()]
        finally:
            context.deregister_table("values")

    return run
