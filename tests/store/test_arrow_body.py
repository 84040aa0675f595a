"""Rows as the body of an insert: what arrives is what was given, in one block."""

from __future__ import annotations

import pyarrow as pa
import pytest

from auditspan.store.arrow_body import ArrowBody

NOTHING = [None, b""]


def arrived(rows: pa.Table, compression="none") -> pa.Table:
    body = ArrowBody(rows, compression)
    sent = b"".join(body)
    assert len(sent) == body.size
    with pa.ipc.open_file(pa.py_buffer(sent)) as file:
        assert file.num_record_batches == 1
        found = file.read_all()
    found.validate(full=True)
    return found


def chunked(*chunks: list[bytes | None], kind=None) -> pa.Table:
    return pa.table({"value": pa.chunked_array([pa.array(chunk, kind or pa.binary()) for chunk in chunks])})


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
@pytest.mark.parametrize(
    "rows",
    [
        chunked([b"a", b"bc", b"d" * 100_000]),
        chunked([b"a", b"bc"], NOTHING),
        chunked(NOTHING, [b"a", None, b"bc"], NOTHING),
        chunked([], [b"a"], [], [None]),
        chunked([b"a"], [b"b"], [None]),
        chunked(NOTHING, [None], [b""]),
        chunked([None], ["é", ""], kind=pa.string()),
        chunked([b"a"], [None], kind=pa.dictionary(pa.int32(), pa.binary())),
        pa.concat_tables([chunked(NOTHING).slice(1), chunked([b"a", b"bc", None, b"d"]).slice(1, 2), chunked(NOTHING)]),
    ],
)
def test_what_arrives_is_what_was_given(rows: pa.Table, compression) -> None:
    assert arrived(rows, compression).to_pydict() == rows.to_pydict()


def test_long_values_are_sent_from_where_they_are() -> None:
    large = pa.array([b"x" * 1000] * 1000)
    rows = pa.table({"value": pa.chunked_array([large, pa.array([None], pa.binary())])})
    before = pa.total_allocated_bytes()
    body = ArrowBody(rows)
    assert body.size > 1_000_000
    assert pa.total_allocated_bytes() - before < 100_000
