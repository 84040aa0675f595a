"""The statement of an insert, and the tokens by which a server drops what it has already."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_batches import LOG, sealed
from store_backends import Backend, served

from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import StoreUnavailable
from auditspan.store.insert_statement import (
    END,
    INSERT_SETTINGS,
    InsertStatement,
    conditional_insert,
    conditions,
    deduplication_token,
    input_source,
    plain_insert,
    recognise,
)

TYPES = {"auditspan.events": {"log_id": "LowCardinality(String)", "leaf_index": "UInt64", "at": "DateTime64(9, 'UTC')"}}
COLUMNS = tuple(TYPES["auditspan.events"])
CONDITIONAL = conditional_insert(
    "auditspan.events", COLUMNS, input_source(COLUMNS, TYPES["auditspan.events"]), "leaf_index"
)


def test_what_is_written_is_recognised() -> None:
    assert recognise(CONDITIONAL, TYPES) == InsertStatement("auditspan.events", COLUMNS, "leaf_index")
    plain = plain_insert("auditspan.events", COLUMNS[:1])
    assert recognise(plain, TYPES) == InsertStatement("auditspan.events", COLUMNS[:1], None)
    assert recognise(plain_insert("auditspan.other", COLUMNS), TYPES) is None
    assert recognise(plain_insert("auditspan.events", (*COLUMNS, "log_id")), TYPES) is None


@settings(max_examples=300)
@given(st.integers(0, len(CONDITIONAL) - 1), st.integers(0, 3), st.text(max_size=4))
def test_no_other_statement_is(place: int, removed: int, put: str) -> None:
    changed = CONDITIONAL[:place] + put + CONDITIONAL[place + removed :]
    found = recognise(changed, TYPES)
    # Another column may be named; then the statement is the one of that column.
    assert changed == CONDITIONAL or found is None


@pytest.mark.parametrize("shown", [0, 1])
def test_a_token_that_a_killed_insert_left_behind_drops_its_batch_and_no_other(
    embedded_store: ClickHouseStore, tmp_path: Path, shown: int
) -> None:
    """What the attempts of a token are for: the engine says of a batch that it drops that it is written."""
    rows = sealed(0, 3).leaves.drop_columns(["trace_id", "span_id"])
    with pa.ipc.new_file(tmp_path / "rows.arrow", rows.schema) as writer:
        writer.write_table(rows.unify_dictionaries().combine_chunks())
    source = f"file('{tmp_path}/rows.arrow', 'Arrow')"
    statement = conditional_insert("auditspan.events", rows.column_names, source, "leaf_index").removesuffix(END)

    def insert(attempt: int) -> None:
        token = deduplication_token(LOG, 0, attempt)
        embedded_store.command(
            f"{statement}\nSETTINGS insert_deduplicate = 1, insert_deduplication_token = '{token}'",
            conditions(LOG, 0),
        )

    insert(0)
    embedded_store.command("ALTER TABLE auditspan.events DELETE WHERE 1 SETTINGS mutations_sync = 1")
    insert(0)
    assert embedded_store.next_leaf(LOG) == 0
    insert(shown)
    assert embedded_store.next_leaf(LOG) == 4 * shown


class _SwallowsInserts(http.server.BaseHTTPRequestHandler):
    """Acknowledges inserts without doing them, as a server whose token outlived its rows; passes on the rest."""

    protocol_version = "HTTP/1.1"
    port = 0
    tokens: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if body.startswith(b"INSERT INTO auditspan.events"):
            asked = parse_qs(urlsplit(self.path).query)
            assert {name: asked[name][0] for name in INSERT_SETTINGS} == dict(INSERT_SETTINGS)
            self.tokens.append(asked["insert_deduplication_token"][0])
            status, said = 200, b""
        else:
            upstream = http.client.HTTPConnection("127.0.0.1", self.port)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            status, said = answer.status, answer.read()
            upstream.close()
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Nothing is said on the terminal."""


@contextmanager
def _swallowing(backend: Backend, tokens: list[str]) -> Iterator[int]:
    handler = type("Swallows", (_SwallowsInserts,), {"port": backend.options["port"], "tokens": tokens})
    fake = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=fake.serve_forever, daemon=True).start()
    yield fake.server_address[1]
    fake.shutdown()
    fake.server_close()


def test_a_batch_that_is_acknowledged_and_absent_gets_another_token(tmp_path: Path) -> None:
    tokens: list[str] = []
    with served(tmp_path / "store") as backend, _swallowing(backend, tokens) as port:
        store = ClickHouseStore.http(**backend.options | {"port": port})
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="does not show it"):
                store.append_batch(sealed(0, 3))
        backend.store.append_batch(sealed(0, 3))
        store.append_batch(sealed(0, 3))  # it is there: nothing is sent
        with pytest.raises(StoreUnavailable):
            store.append_batch(sealed(4, 3))
        store.close()
    assert tokens == [f"{LOG}/0", f"{LOG}/0/1", f"{LOG}/0/2", f"{LOG}/4"]
