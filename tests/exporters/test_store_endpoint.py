"""The store as a service: who may do what, and that nobody may do more."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from auditspan.exporters.store_endpoint import StoreLimits
from sql_statements import ALLOWED, FORBIDDEN

sys.path.append(str(Path(__file__).parents[1] / "store"))

from sealed_batches import LOG, sealed
from store_backends import READ_TOKEN, WRITE_TOKEN, Backend, served

from auditspan.store.arrow_body import ArrowBody
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.insert_statement import conditional_insert, input_source, plain_insert

TABLES = [
    "anchors",
    "case_members",
    "cases",
    "checkpoints",
    "current",
    "events",
    "findings",
    "flagged",
    "license_allocations",
    "migrations",
    "reference_artifacts",
    "request_records",
    "rescreened",
    "streams",
    "suppressed",
    "tree_nodes",
]
"""Tables and views of the schema, sorted."""
LIMITS = StoreLimits(insert_bytes=2**20, insert_seconds=5, inserts=2)
NODES = pa.table(
    {"log_id": [LOG], "level": pa.array([0], pa.uint8()), "node_index": pa.array([0], pa.uint64()), "hash": [bytes(32)]}
)
NODES_INSERT = plain_insert("auditspan.tree_nodes", NODES.column_names)


@dataclass
class Endpoint:
    backend: Backend
    secret: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.backend.options['port']}/"

    def ask(self, sql: str, user: str = "writer", token: str = WRITE_TOKEN) -> httpx.Response:
        return httpx.post(self.url, content=sql, auth=(user, token), timeout=60)

    def insert(
        self, statement: str, rows: bytes, user: str = "writer", token: str = WRITE_TOKEN, **parameters: object
    ) -> httpx.Response:
        return httpx.post(
            self.url,
            content=statement.encode() + rows,
            params={f"param_{name}": str(value) for name, value in parameters.items()},
            headers={"Content-Type": "application/octet-stream"},
            auth=(user, token),
            timeout=60,
        )

    def untouched(self) -> bool:
        """Nothing was added to what the fixture put there, and nothing is gone."""
        operator = self.backend.operator
        tables = operator.query("SELECT name FROM system.tables WHERE database = 'auditspan'")["name"].to_pylist()
        return sorted(tables) == TABLES and (
            operator.next_leaf(LOG) == 4 and operator.command("SELECT count() FROM auditspan.tree_nodes") == 0
        )


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("endpoint")
    secret = folder / "secret.csv"
    secret.write_text("topsecret,1\n")
    with served(folder / "store", LIMITS) as backend:
        backend.store.append_batch(sealed(0, 3))
        yield Endpoint(backend, secret)


def _arrow(rows: pa.Table) -> bytes:
    return b"".join(ArrowBody(rows))


def _events(store: ClickHouseStore, first: int, events: int = 3) -> tuple[str, pa.Table]:
    """The statement and the rows that the product would send."""
    names = {"trace_id": "trace_id_raw", "span_id": "span_id_raw"}
    rows = sealed(first, events).leaves
    rows = rows.rename_columns([names.get(name, name) for name in rows.column_names])
    found = store.query("SELECT name, type FROM system.columns WHERE database = 'auditspan' AND table = 'events'")
    types = dict(zip(found["name"].to_pylist(), found["type"].to_pylist(), strict=True))
    source = input_source(rows.column_names, types)
    return conditional_insert("auditspan.events", rows.column_names, source, "leaf_index"), rows


@pytest.mark.parametrize(
    ("user", "token", "status"),
    [
        ("writer", WRITE_TOKEN, 200),
        ("reader", READ_TOKEN, 200),
        ("grafana", READ_TOKEN, 200),
        ("writer", READ_TOKEN, 401),
        ("reader", WRITE_TOKEN, 401),
        ("default", WRITE_TOKEN, 401),
        ("default", "", 401),
        ("writer", "", 401),
        ("", "", 401),
    ],
)
def test_who_is_let_in(endpoint: Endpoint, user: str, token: str, status: int) -> None:
    answer = endpoint.ask("SELECT 1", user, token)
    assert answer.status_code == status
    assert (answer.headers.get("x-clickhouse-exception-code") == "516") == (status == 401)
    assert httpx.post(endpoint.url, content="SELECT 1").status_code == 401


@pytest.mark.parametrize("user", ["writer", "reader"])
@pytest.mark.parametrize(
    "sql",
    [
        *FORBIDDEN,
        "ALTER TABLE auditspan.events DELETE WHERE 1",
        "TRUNCATE TABLE auditspan.events",
        "DROP TABLE auditspan.events",
        "DROP DATABASE auditspan",
        "DETACH TABLE auditspan.events",
        "RENAME TABLE auditspan.events TO auditspan.gone",
        "OPTIMIZE TABLE auditspan.tree_nodes FINAL",
        "DELETE FROM auditspan.events WHERE 1",
        "UPDATE auditspan.events SET header = '' WHERE 1",
        "CREATE TABLE auditspan.mine (a Int8) ENGINE = Memory",
        "CREATE DATABASE IF NOT EXISTS auditspan",
        "INSERT INTO auditspan.tree_nodes VALUES ('x', 0, 0, unhex(repeat('00', 32)))",
        "INSERT INTO auditspan.migrations (version, name) SELECT 9000, 'x'",
        "INSERT INTO auditspan.events (header) SELECT 'x'",
        "SYSTEM SHUTDOWN",
        "KILL QUERY WHERE 1",
        "SET readonly = 0",
    ],
)
def test_no_statement_changes_anything(endpoint: Endpoint, user: str, sql: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = sql.replace("SECRET", str(endpoint.secret)).replace("OUT'", f"{out}'")
    answer = endpoint.ask(text, user, WRITE_TOKEN if user == "writer" else READ_TOKEN)
    assert answer.status_code != 200 or not answer.content
    assert b"topsecret" not in answer.content
    assert not out.exists()


def test_nothing_was_changed_by_all_of_them(endpoint: Endpoint) -> None:
    assert endpoint.untouched()


@pytest.mark.parametrize("sql", ALLOWED)
def test_the_writer_may_read_what_a_reader_may(endpoint: Endpoint, sql: str) -> None:
    assert endpoint.ask(sql).status_code == 200


def test_the_writers_results_are_larger_than_a_readers(endpoint: Endpoint) -> None:
    sql = "SELECT number FROM numbers(3000000) FORMAT RowBinary"
    assert len(endpoint.ask(sql).content) == 8 * 3_000_000
    assert endpoint.ask(sql, "reader", READ_TOKEN).headers["x-clickhouse-exception-code"] == "396"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("auditspan.events", "auditspan.migrations"),
        lambda text: text.replace("!= {first:UInt64}", "!= 0"),
        lambda text: text.replace("throwIf(", "identity("),
        lambda text: text.replace("FROM input(", "FROM file("),
        lambda text: text.replace("`header`", "`header`, file('/etc/passwd')", 1),
        lambda text: text.replace("max(leaf_index)", "max(sequence)"),
        lambda text: text.replace("WHERE log_id = {log_id:String} AND", "WHERE"),
        lambda text: text.replace("\nFORMAT", " SETTINGS async_insert = 1\nFORMAT"),
        lambda text: f"/* {text} */ {text}",
        lambda text: text.replace("`log_id`", "`no_such_column`"),
        lambda text: text.lower().replace("format arrow", "FORMAT Arrow"),
        lambda text: plain_insert("auditspan.events", ["header"]),
        lambda text: plain_insert("auditspan.migrations", ["version", "name"]),
        lambda text: plain_insert("system.one", ["dummy"]),
        lambda text: "SELECT 1\nFORMAT Arrow\n",
        lambda text: text.removesuffix("\n"),
    ],
)
def test_an_insert_other_than_the_products_is_refused(endpoint: Endpoint, change) -> None:
    statement, rows = _events(endpoint.backend.operator, 4)
    changed = change(statement)
    assert changed != statement
    answer = endpoint.insert(changed, _arrow(rows), log_id=LOG, first=4)
    assert answer.status_code == 403
    assert answer.headers["x-clickhouse-exception-code"] == "164"
    assert endpoint.untouched()


def test_a_reader_may_not_insert(endpoint: Endpoint) -> None:
    statement, rows = _events(endpoint.backend.operator, 4)
    answer = endpoint.insert(statement, _arrow(rows), "reader", READ_TOKEN, log_id=LOG, first=4)
    assert answer.status_code == 403
    assert endpoint.insert(NODES_INSERT, _arrow(NODES), "reader", READ_TOKEN).status_code == 403
    assert endpoint.insert(NODES_INSERT, _arrow(NODES), "writer", READ_TOKEN).status_code == 401
    assert endpoint.untouched()


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({}, "456"),
        ({"log_id": LOG}, "456"),
        ({"log_id": LOG, "first": "-1"}, "456"),
        ({"log_id": LOG, "first": "4 OR 1"}, "456"),
        ({"log_id": LOG, "first": 3}, "395"),
        ({"log_id": LOG, "first": 5}, "395"),
        ({"log_id": "f" * 32, "first": 4}, "395"),
    ],
)
def test_a_condition_that_is_absent_or_does_not_hold(endpoint: Endpoint, parameters, code: str) -> None:
    statement, rows = _events(endpoint.backend.operator, 4)
    answer = endpoint.insert(statement, _arrow(rows), **parameters)
    assert answer.headers["x-clickhouse-exception-code"] == code
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    assert endpoint.untouched()


@pytest.mark.parametrize("body", [b"", b"no arrow at all", _arrow(NODES)[:-20], _arrow(NODES)[20:]])
def test_a_body_that_is_no_arrow_file_inserts_nothing(endpoint: Endpoint, body: bytes) -> None:
    answer = endpoint.insert(NODES_INSERT, body)
    assert answer.status_code >= 400
    assert "x-clickhouse-exception-code" in answer.headers
    assert endpoint.untouched()


def test_a_body_without_bounds_is_refused(endpoint: Endpoint) -> None:
    large = bytes(LIMITS.insert_bytes + 1)
    assert endpoint.insert(NODES_INSERT, large).headers["x-clickhouse-exception-code"] == "396"

    def endless() -> Iterator[bytes]:
        yield NODES_INSERT.encode()
        for _ in range(64):
            yield bytes(2**16)

    headers = {"Content-Type": "application/octet-stream"}
    answer = httpx.post(endpoint.url, content=endless(), headers=headers, auth=("writer", WRITE_TOKEN), timeout=30)
    assert answer.headers["x-clickhouse-exception-code"] == "396"
    answer = endpoint.insert("INSERT INTO " + "x" * 100_000, b"")
    assert answer.headers["x-clickhouse-exception-code"] == "164"
    assert endpoint.untouched()


def test_more_inserts_at_once_than_there_is_memory_for_are_put_off(endpoint: Endpoint) -> None:
    go_on, under_way = threading.Event(), threading.Barrier(3, timeout=20)

    def slow() -> Iterator[bytes]:
        yield NODES_INSERT.encode()
        under_way.wait()
        go_on.wait(3)
        yield b"no arrow"

    headers = {"Content-Type": "application/octet-stream"}

    def send(_: int) -> str:
        answer = httpx.post(endpoint.url, content=slow(), headers=headers, auth=("writer", WRITE_TOKEN), timeout=30)
        return answer.headers["x-clickhouse-exception-code"]

    with ThreadPoolExecutor(2) as senders:
        waiting = [senders.submit(send, number) for number in range(2)]
        # Before both are there, a third one could take the place of the second.
        under_way.wait()
        deadline = time.monotonic() + 2.5
        while (third := endpoint.insert(NODES_INSERT, b"no arrow")).status_code != 503:
            assert time.monotonic() < deadline, "a third insert was taken in"
        assert third.headers["retry-after"] == "1"
        go_on.set()
        assert "202" not in [one.result() for one in waiting]
    assert endpoint.untouched()


def test_rows_that_do_not_come_in_time_are_given_up(endpoint: Endpoint) -> None:
    def stalled() -> Iterator[bytes]:
        yield NODES_INSERT.encode()
        time.sleep(2)
        yield _arrow(NODES)

    answer = httpx.post(
        endpoint.url,
        params={"max_execution_time": "1"},
        content=stalled(),
        headers={"Content-Type": "application/octet-stream"},
        auth=("writer", WRITE_TOKEN),
        timeout=30,
    )
    assert answer.headers["x-clickhouse-exception-code"] == "159"
    assert endpoint.untouched()


def test_health_tells_no_secrets(endpoint: Endpoint) -> None:
    assert httpx.get(f"{endpoint.url}ping").text == "Ok.\n"
    ready = httpx.get(f"{endpoint.url}readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})
    assert httpx.get(f"{endpoint.url}replicas_status").status_code == 404
