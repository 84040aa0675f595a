"""Between the client and the store something breaks, and every batch is there once in the end."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from sealed_batches import LOG, sealed
from store_backends import Backend, served
from tcp_proxy import Fault, TcpProxy

from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import Fenced, SealedBatch, StoreUnavailable

INSERT = b"INSERT INTO auditspan.events"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with served(tmp_path_factory.mktemp("faults") / "store") as made:
        yield made


@pytest.fixture
def proxy(upstream: Backend) -> Iterator[TcpProxy]:
    upstream.operator.command("TRUNCATE TABLE auditspan.events")
    with TcpProxy(("127.0.0.1", upstream.options["port"])) as made:
        yield made


def _client(upstream: Backend, proxy: TcpProxy, **options: object) -> ClickHouseStore:
    bounds = {"insert_seconds": 5, "answer_seconds": 10.0, "send_receive_timeout": 10, **options}
    return ClickHouseStore.http(**upstream.options | {"port": proxy.port} | bounds)


@pytest.fixture
def store(upstream: Backend, proxy: TcpProxy) -> Iterator[ClickHouseStore]:
    made = _client(upstream, proxy)
    yield made
    made.close()


def _stored(upstream: Backend) -> list[bytes]:
    rows = upstream.operator.query("SELECT leaf_index, header FROM auditspan.events ORDER BY leaf_index")
    assert rows["leaf_index"].to_pylist() == list(range(rows.num_rows))
    return rows["header"].to_pylist()


def _headers(*batches: SealedBatch) -> list[bytes]:
    return [header for batch in batches for header in batch.leaves["header"].to_pylist()]


def test_an_insert_whose_answer_is_lost_is_there_once(
    upstream: Backend, proxy: TcpProxy, store: ClickHouseStore
) -> None:
    batch = sealed(0, 30)
    fault = proxy.inject(Fault.drop_answer(INSERT))
    with pytest.raises(StoreUnavailable):
        store.append_batch(batch)
    assert fault.struck.is_set()
    assert _stored(upstream) == _headers(batch), "the fault must strike after the store has the rows"
    store.append_batch(batch)
    assert _stored(upstream) == _headers(batch)


@pytest.mark.parametrize("after", [0, 400, 3_000, 20_000])
def test_an_insert_that_is_cut_on_its_way_is_not_there_and_comes_in_later(
    upstream: Backend, proxy: TcpProxy, store: ClickHouseStore, after: int
) -> None:
    batch = sealed(0, 300)
    fault = proxy.inject(Fault.cut_request(INSERT, after))
    with pytest.raises(StoreUnavailable):
        store.append_batch(batch)
    assert fault.struck.is_set()
    assert _stored(upstream) == []
    store.append_batch(batch)
    assert _stored(upstream) == _headers(batch)


def test_a_slow_answer_is_waited_for(upstream: Backend, proxy: TcpProxy, store: ClickHouseStore) -> None:
    fault = proxy.inject(Fault.delay_answer(INSERT, seconds=1.5))
    began = time.monotonic()
    store.append_batch(sealed(0, 3))
    assert fault.struck.is_set()
    assert time.monotonic() - began >= 1.5


def test_an_answer_that_is_later_than_the_client_waits(upstream: Backend, proxy: TcpProxy) -> None:
    impatient = _client(upstream, proxy, insert_seconds=5, answer_seconds=0.0)
    batch, fault = sealed(0, 30), proxy.inject(Fault.delay_answer(INSERT, seconds=60))
    with pytest.raises(StoreUnavailable):
        impatient.append_batch(batch)
    impatient.append_batch(batch)
    fault.release.set()
    assert _stored(upstream) == _headers(batch)
    impatient.close()


def test_an_insert_that_still_runs_when_its_client_tries_again(upstream: Backend, proxy: TcpProxy) -> None:
    # The server bounds an insert at what the client says, so here the client waits for less than that.
    impatient = _client(upstream, proxy, insert_seconds=30, answer_seconds=-25.0)
    batch, fault = sealed(0, 300), proxy.inject(Fault.hold_request(INSERT, after=5_000))
    with pytest.raises(StoreUnavailable):
        impatient.append_batch(batch)
    assert _stored(upstream) == []
    impatient.append_batch(batch)
    answered = proxy.inject(Fault.drop_answer(b"never sent"))
    fault.release.set()
    # The first one is whole at the server now. The next insert waits its turn behind it.
    impatient.append_batch(sealed(301, 3))
    assert not answered.struck.is_set()
    assert _stored(upstream) == _headers(batch, sealed(301, 3))
    impatient.close()


def test_an_insert_that_comes_after_its_time_is_not_done(upstream: Backend, proxy: TcpProxy) -> None:
    late = _client(upstream, proxy, insert_seconds=1, answer_seconds=9.0)
    proxy.inject(Fault.hold_request(INSERT, after=5_000, seconds=3))
    with pytest.raises(StoreUnavailable, match=r"159|Timeout exceeded"):
        late.append_batch(sealed(0, 300))
    assert _stored(upstream) == []
    late.close()


def test_a_writer_that_stalls_in_the_middle_of_its_insert_does_not_come_in_behind_another(
    upstream: Backend, proxy: TcpProxy, store: ClickHouseStore
) -> None:
    fault = proxy.inject(Fault.hold_request(INSERT, after=5_000, seconds=30))
    outcome: list[BaseException | None] = []

    def stall() -> None:
        try:
            store.append_batch(sealed(0, 300, salt="stalled"))
        except (Fenced, StoreUnavailable) as error:
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=stall)
    thread.start()
    assert fault.struck.wait(20)
    other = ClickHouseStore.http(**upstream.options)
    other.append_batch(sealed(0, 300, salt="other"))
    fault.release.set()
    thread.join()
    other.close()
    assert isinstance(outcome[0], Fenced)
    assert _stored(upstream) == _headers(sealed(0, 300, salt="other"))


@pytest.mark.parametrize("after", [0, 300, 4_000])
def test_a_result_that_is_cut_is_never_taken_for_the_whole(
    upstream: Backend, proxy: TcpProxy, store: ClickHouseStore, after: int
) -> None:
    store.append_batch(sealed(0, 2_000))
    proxy.inject(Fault.cut_answer(b"SELECT header", after, times=1_000))
    sql = "SELECT header FROM auditspan.events ORDER BY leaf_index"
    with pytest.raises(StoreUnavailable):
        store.query(sql)
    with pytest.raises(StoreUnavailable):
        list(store.stream(sql))
    proxy.heal()
    assert store.query(sql).num_rows == sum(batch.num_rows for batch in store.stream(sql)) == 2_001


def test_every_answer_may_be_lost_at_random(upstream: Backend, proxy: TcpProxy, store: ClickHouseStore) -> None:
    fault = proxy.inject(Fault.drop_answers(b"POST /", share=0.25, seed=11))
    batches = [sealed(first, 9) for first in range(0, 200, 10)]
    for batch in batches:
        for _ in range(50):
            try:
                store.append_batch(batch)
                break
            except StoreUnavailable:
                continue
    assert fault.count > 5
    assert _stored(upstream) == _headers(*batches)


class _Says(http.server.BaseHTTPRequestHandler):
    """Answers every request as it was told."""

    protocol_version = "HTTP/1.1"
    status = 500
    body = b""
    headers_more: tuple[tuple[str, str], ...] = ()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        for name, value in self.headers_more:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Nothing is said on the terminal."""


@contextmanager
def _saying(status: int, body: bytes = b"", **headers: str) -> Iterator[int]:
    more = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    handler = type("Says", (_Says,), {"status": status, "body": body, "headers_more": more})
    fake = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=fake.serve_forever, daemon=True).start()
    yield fake.server_address[1]
    fake.shutdown()
    fake.server_close()


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (500, b"", {}),
        (500, b"Code: 241. DB::Exception: memory", {"X_ClickHouse_Exception_Code": "241"}),
        (502, b"<html>bad gateway</html>", {}),
        (503, b"", {"Retry_After": "1"}),
        (200, b"Code: 243. DB::Exception: no space left. (NOT_ENOUGH_SPACE)\n", {}),
        (200, b"", {"X_ClickHouse_Exception_Code": "243"}),
        (204, b"", {}),
        (307, b"", {"Location": "http://127.0.0.1:9/"}),
    ],
)
def test_an_answer_that_is_no_acknowledgement_is_none(
    upstream: Backend, proxy: TcpProxy, store: ClickHouseStore, status: int, body: bytes, headers: dict[str, str]
) -> None:
    nodes = pa.table(
        {"level": pa.array([0], pa.uint8()), "node_index": pa.array([0], pa.uint64()), "hash": [bytes(32)]}
    )
    store.append_nodes(LOG, nodes)
    with _saying(status, body, **headers) as port:
        proxy.upstream = ("127.0.0.1", port)
        proxy.cut_all()
        with pytest.raises(StoreUnavailable):
            store.append_nodes(LOG, nodes)
        with pytest.raises(StoreUnavailable):
            store.next_leaf(LOG)
    proxy.upstream = ("127.0.0.1", upstream.options["port"])
    proxy.cut_all()
    store.append_batch(sealed(0, 3))


def test_no_password_is_in_an_error(upstream: Backend, tmp_path: Path) -> None:
    with _saying(500, b"no") as port, pytest.raises(StoreUnavailable) as caught:
        ClickHouseStore.http(**upstream.options | {"port": port})
    shown = f"{caught.value} {caught.value.__cause__!r}"
    assert upstream.options["password"] not in shown
