from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from auditspan.exporters.sql_endpoint import SqlLimits, sql_app
from clickhouse_connect.driver.exceptions import ClickHouseError
from sql_statements import ALLOWED, FORBIDDEN

from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import SealedBatch, StoreUnavailable
from auditspan.store.schema import EVENTS

LOG = "0123456789abcdef0123456789abcdef"
TOKEN = "read-token-of-the-test"
LIMITS = SqlLimits(
    memory_bytes=200 * 2**20, seconds=2, result_rows=50_000, result_bytes=16 * 2**20, concurrent=3, waiting=1
)


def _batch(first: int, events: int) -> SealedBatch:
    rows: list[dict[str, Any]] = []
    for index in range(first, first + events):
        digest = hashlib.sha256(str(index).encode()).digest()
        row: dict[str, Any] = dict.fromkeys(EVENTS.names)
        row |= {
            "leaf_index": index,
            "sealing_month": 202611,
            "header": json.dumps({"leaf": index}).encode(),
            "payload": b"\xff\x00" + digest,
            "salt": digest,
            "log_id": LOG,
            "class": "model.access",
            "record_id": f"record-{index}",
            "emitter": "gateway",
            "arrival_time": 1_795_500_000_000_000_000 + index,
            "flagged": index % 10 == 0,
            "destination_country": "DE" if index % 2 else "CN",
            "rule_ids": ["us-ear.a"],
            "faults": [],
            "reference_epoch": 1,
            "trace_id": digest[:16],
            "span_id": digest[16:24],
        }
        rows.append(row)
    columns = []
    for field in EVENTS:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        array = pa.array([row[field.name] for row in rows], kind)
        columns.append(array.dictionary_encode() if pa.types.is_dictionary(field.type) else array)
    return SealedBatch(LOG, first, pa.table(columns, schema=EVENTS))


@dataclass
class Endpoint:
    store: ClickHouseStore
    port: int
    secret: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def client(self, **options: Any) -> Any:
        return clickhouse_connect.get_client(host="127.0.0.1", port=self.port, password=TOKEN, **options)

    def post(self, sql: str | bytes, **parameters: str) -> httpx.Response:
        return httpx.post(self.url, content=sql, params=parameters, headers={"X-ClickHouse-Key": TOKEN}, timeout=60)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("endpoint")
    store = ClickHouseStore.embedded(folder / "store")
    store.migrate()
    store.append_batch(_batch(0, 1000))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(sql_app(store.raw_reader, TOKEN, LIMITS), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    secret = folder / "secret.csv"
    secret.write_text("topsecret,1\n")
    made = Endpoint(store, listener.getsockname()[1], secret)
    while httpx.get(made.url + "ping").text != "Ok.\n":
        pass
    yield made
    server.should_exit = True
    thread.join()
    store.close()


def test_the_ordinary_client_works(endpoint: Endpoint) -> None:
    client = endpoint.client()
    assert client.ping()
    assert client.command("SELECT count() FROM auditspan.events") == 1000
    rows = client.query(
        "SELECT record_id, flagged, arrival_time, rule_ids, trace_id FROM events WHERE leaf_index < {n:UInt64} "
        "ORDER BY leaf_index",
        parameters={"n": 2},
    )
    assert rows.column_names == ("record_id", "flagged", "arrival_time", "rule_ids", "trace_id")
    assert rows.result_rows[0][:2] == ("record-0", True)
    assert rows.result_rows[1][3] == ["us-ear.a"]
    assert rows.result_rows[1][4] == hashlib.sha256(b"1").digest()[:16].hex()
    client.close()


def test_arrow_pandas_and_streams(endpoint: Endpoint) -> None:
    client = endpoint.client()
    table = client.query_arrow("SELECT leaf_index, payload FROM events ORDER BY leaf_index", use_strings=None)
    payload = table["payload"].cast(pa.binary())[7].as_py()
    assert table.num_rows == 1000
    assert payload == b"\xff\x00" + hashlib.sha256(b"7").digest()
    assert client.query_df("SELECT emitter, count() AS n FROM events GROUP BY emitter")["n"].tolist() == [1000]
    with client.query_rows_stream("SELECT leaf_index FROM events ORDER BY leaf_index") as stream:
        assert [row[0] for row in stream] == list(range(1000))
    with client.query_arrow_stream("SELECT leaf_index FROM events") as stream:
        assert sum(block.num_rows for block in stream) == 1000
    client.close()


@pytest.mark.parametrize("compress", [True, False, "lz4", "zstd", "gzip"])
def test_the_ordinary_client_with_each_compression(endpoint: Endpoint, compress: bool | str) -> None:
    client = endpoint.client(compress=compress)
    assert len(client.query("SELECT * FROM auditspan.events").result_rows) == 1000
    client.close()


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "lz4"])
def test_compression_is_what_the_client_accepts(endpoint: Endpoint, encoding: str) -> None:
    headers = {"X-ClickHouse-Key": TOKEN, "Accept-Encoding": encoding}
    with httpx.stream("POST", endpoint.url, content="SELECT header FROM events", headers=headers) as answer:
        assert answer.headers["content-encoding"] == encoding
        assert len(b"".join(answer.iter_raw())) < 10_000
    assert "content-encoding" not in endpoint.post("SELECT 1").headers


@pytest.mark.parametrize(
    "value",
    ["plain", "quote ' and \" ", "back\\slash", "tab\tand\nline", "nul\0", "ünïcödé ✓", "\\N", "{x:String}", "%s", ""],
)
def test_parameters_come_through_as_they_are(endpoint: Endpoint, value: str) -> None:
    client = endpoint.client()
    assert client.query("SELECT {value:String} AS v", parameters={"value": value}).result_rows == [(value,)]
    assert client.query("SELECT {v:Array(String)} AS v", parameters={"v": [value, "x"]}).result_rows == [
        ([value, "x"],)
    ]
    client.close()


def test_null_and_long_parameters(endpoint: Endpoint) -> None:
    client = endpoint.client()
    assert client.query("SELECT {v:Nullable(String)} AS v", parameters={"v": None}).result_rows == [(None,)]
    long = "x" * 20_000
    assert client.query("SELECT length({v:String}) AS v", parameters={"v": long}).result_rows == [(20_000,)]
    form = endpoint.client(form_encode_query_params=True)
    assert form.query("SELECT {v:String} AS v", parameters={"v": "a'\n"}).result_rows == [("a'\n",)]
    form.close()
    client.close()


def test_formats(endpoint: Endpoint) -> None:
    sql = "SELECT leaf_index, record_id FROM events ORDER BY leaf_index LIMIT 3"
    assert endpoint.post(f"{sql} FORMAT JSON").json()["rows"] == 3
    assert (
        endpoint.post(sql, default_format="JSONEachRow").text.splitlines()[2]
        == '{"leaf_index":2,"record_id":"record-2"}'
    )
    assert endpoint.post(f"{sql} FORMAT CSVWithNames").text.splitlines()[:2] == [
        '"leaf_index","record_id"',
        '0,"record-0"',
    ]
    assert endpoint.post(sql).text == "0\trecord-0\n1\trecord-1\n2\trecord-2\n"
    assert pq.read_table(io.BytesIO(endpoint.post(f"{sql} FORMAT Parquet;").content)).num_rows == 3
    assert pa.ipc.open_stream(endpoint.post(f"{sql} FORMAT ArrowStream -- so").content).read_all().num_rows == 3
    assert pa.ipc.open_file(io.BytesIO(endpoint.post(f"{sql} FORMAT Arrow").content)).read_all().num_rows == 3
    answer = endpoint.post(f"{sql} FORMAT Native")
    assert answer.headers["x-clickhouse-format"] == "Native"
    assert endpoint.post(f"{sql} FORMAT NoSuchFormat").headers["x-clickhouse-exception-code"] == "73"
    assert endpoint.post(sql, default_format="x'; --").headers["x-clickhouse-exception-code"] == "73"


def test_the_statement_in_the_url_and_in_both(endpoint: Endpoint) -> None:
    key = {"X-ClickHouse-Key": TOKEN}
    assert httpx.get(endpoint.url, params={"query": "SELECT 41 + 1"}, headers=key).text == "42\n"
    assert httpx.post(endpoint.url, params={"query": "SELECT 41"}, content="+ 1", headers=key).text == "42\n"
    assert httpx.get(endpoint.url, headers=key).text == "Ok.\n"


def _basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"any:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({"X-ClickHouse-Key": TOKEN, "X-ClickHouse-User": "grafana"}, {}),
        (_basic(TOKEN), {}),
        ({"Authorization": f"Bearer {TOKEN}"}, {}),
        ({}, {"password": TOKEN, "user": "x"}),
    ],
)
def test_the_token_lets_in_wherever_a_password_stands(endpoint: Endpoint, headers, parameters) -> None:
    assert httpx.post(endpoint.url, content="SELECT 1", headers=headers, params=parameters).text == "1\n"


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({}, {}),
        ({"X-ClickHouse-Key": ""}, {}),
        ({"X-ClickHouse-Key": TOKEN + "x"}, {}),
        (_basic("wrong"), {}),
        ({"Authorization": "Basic ???"}, {}),
        ({"Authorization": "Basic " + base64.b64encode(b"\xff").decode()}, {}),
        ({}, {"password": TOKEN[:-1]}),
    ],
)
def test_nothing_else_lets_in(endpoint: Endpoint, headers, parameters) -> None:
    answer = httpx.post(endpoint.url, content="SELECT 1", headers=headers, params=parameters)
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (401, "516")
    assert "Code: 516" in answer.text
    assert TOKEN not in answer.text


def test_the_client_says_that_the_password_is_wrong(endpoint: Endpoint) -> None:
    with pytest.raises(ClickHouseError, match="516"):
        clickhouse_connect.get_client(host="127.0.0.1", port=endpoint.port, password="wrong")


def test_files_are_not_written(endpoint: Endpoint) -> None:
    answer = endpoint.post("SELECT 1 INTO OUTFILE '/nowhere' FORMAT CSV")
    assert answer.headers["x-clickhouse-exception-code"] == "164"
    assert "INTO OUTFILE" in answer.text


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_what_does_not_only_read_the_store_is_refused(endpoint: Endpoint, statement: str) -> None:
    out = endpoint.secret.with_name("out.csv")
    began = time.monotonic()
    answer = endpoint.post(statement.replace("SECRET", str(endpoint.secret)).replace("OUT'", f"{out}'"))
    assert answer.status_code >= 400, answer.text
    assert int(answer.headers["x-clickhouse-exception-code"]) in {46, 62, 164}, answer.text
    assert answer.text.startswith("Code: ")
    assert "topsecret" not in answer.text
    assert not out.exists()
    assert time.monotonic() - began < 5, "something was tried before it was refused"


def test_a_parameter_cannot_name_what_may_not_be_named(endpoint: Endpoint) -> None:
    answer = endpoint.post("SELECT * FROM {t:Identifier}", param_t="system.processes")
    assert answer.headers["x-clickhouse-exception-code"] == "164"


@pytest.mark.parametrize("statement", ALLOWED)
def test_what_analysts_and_dashboards_ask_works(endpoint: Endpoint, statement: str) -> None:
    answer = endpoint.post(statement)
    assert answer.status_code == 200, answer.text
    assert answer.text


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"readonly": "0"}, "164"),
        ({"allow_ddl": "1"}, "164"),
        ({"max_bytes_before_external_sort": "0"}, "164"),
        ({"profile": "x"}, "164"),
        ({"compress": "1"}, "48"),
        ({"database": "system"}, "81"),
        ({"max_execution_time": "x"}, "36"),
        ({"output_format_no_such": "1"}, "115"),
    ],
)
def test_settings_that_a_client_may_not_choose(endpoint: Endpoint, parameters: dict[str, str], code: str) -> None:
    assert endpoint.post("SELECT 1", **parameters).headers["x-clickhouse-exception-code"] == code


def test_settings_that_a_client_may_choose(endpoint: Endpoint) -> None:
    sql = "SELECT toUInt64(1) AS x FORMAT JSONEachRow"
    assert endpoint.post(sql, output_format_json_quote_64bit_integers="1").text == '{"x":"1"}\n'
    assert endpoint.post(sql).text == '{"x":1}\n'
    settings = "SELECT getSetting('max_execution_time'), getSetting('max_memory_usage'), getSetting('readonly')"
    assert endpoint.post(settings).text == f"2\t{200 * 2**20}\t1\n"
    raised = {"max_execution_time": "600", "max_memory_usage": "0", "readonly": "2", "session_id": "x"}
    assert endpoint.post(settings, **raised).text == f"2\t{200 * 2**20}\t1\n"
    assert endpoint.post(settings, max_execution_time="1").text == f"1\t{200 * 2**20}\t1\n"


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT sum(number) FROM numbers(1000000000000)", "159"),
        ("SELECT groupArray(number) FROM numbers(1000000000)", "241"),
        ("SELECT number FROM numbers(60000)", "396"),
        ("SELECT repeat(toString(number), 1000000) FROM numbers(60)", "396"),
        ("SELECT number, repeat('x', 1000) FROM numbers(50000) FORMAT JSON", "396"),
        ("SELECT * FROM no_such_table", "60"),
        ("SELEC 1", "62"),
    ],
)
def test_a_query_beyond_its_limits_fails_alone(endpoint: Endpoint, statement: str, code: str) -> None:
    answer = endpoint.post(statement)
    assert (answer.status_code >= 400, answer.headers["x-clickhouse-exception-code"]) == (True, code), answer.text
    assert f"Code: {code}" in answer.text
    assert endpoint.post("SELECT 1").text == "1\n"


def test_statements_are_bounded(endpoint: Endpoint) -> None:
    assert endpoint.post("SELECT 1 --" + "x" * 300_000).headers["x-clickhouse-exception-code"] == "62"
    assert endpoint.post(b"SELECT '\xff'").headers["x-clickhouse-exception-code"] == "62"
    headers = {"X-ClickHouse-Key": TOKEN, "Content-Encoding": "gzip"}
    answer = httpx.post(endpoint.url, content=gzip.compress(b"SELECT 1"), headers=headers)
    assert answer.headers["x-clickhouse-exception-code"] == "48"


def test_heavy_queries_never_stop_the_writer(endpoint: Endpoint) -> None:
    heavy = [
        "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)",
        "SELECT uniqExact(number) FROM numbers(1000000000)",
    ]
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(endpoint.post, statement) for statement in heavy]
        appended = 0
        while not all(answer.done() for answer in running):
            first = endpoint.store.next_leaf(LOG)
            endpoint.store.append_batch(_batch(first, 50))
            appended += 1
    codes = [answer.result().headers["x-clickhouse-exception-code"] for answer in running]
    assert set(codes) <= {"159", "241"}
    assert appended >= 2, "the writer waited for the queries"


def test_a_store_reads_through_the_endpoint_beyond_the_bounds_of_one_result(endpoint: Endpoint) -> None:
    writer, reader = endpoint.store, ClickHouseStore.http(host="127.0.0.1", port=endpoint.port, password=TOKEN)
    first = writer.next_leaf(LOG)
    large = _batch(first, 12)
    payloads = pa.array([bytes([place]) * 3 * 2**20 for place in range(12)], pa.binary())
    place = large.leaves.schema.get_field_index("payload")
    writer.append_batch(SealedBatch(LOG, first, large.leaves.set_column(place, EVENTS.field("payload"), payloads)))
    end = reader.next_leaf(LOG)
    assert end == first + 12
    blocks = list(reader.columns(LOG, 0, end, ("leaf_index", "payload", "trace_id")))
    assert [index for block in blocks for index in block["leaf_index"].to_pylist()] == list(range(end))
    assert [payload for block in blocks for payload in block["payload"].to_pylist()][-12:] == payloads.to_pylist()
    assert sum(block.num_rows for block in reader.leaves(LOG, 3, end)) == end - 3
    assert next(iter(reader.stream("SELECT header FROM auditspan.events WHERE leaf_index = 1")))["header"][0].as_py()
    assert reader.last_batch(LOG) is None
    with pytest.raises(StoreUnavailable):
        reader.append_batch(_batch(end, 1))
    with pytest.raises(ValueError, match="columns"):
        list(reader.columns(LOG, 0, 1, ("header FROM x",)))
    reader.close()


def test_too_many_queries_are_told_to_come_again(endpoint: Endpoint) -> None:
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(headers={"X-ClickHouse-Key": TOKEN}, timeout=60) as client:
            slow = "SELECT sum(number) FROM numbers(1000000000000)"
            return await asyncio.gather(*(client.post(endpoint.url, content=slow) for _ in range(6)))

    answers = asyncio.run(ask())
    codes = sorted(answer.headers["x-clickhouse-exception-code"] for answer in answers)
    # Three run, one waits; the rest is refused at once.
    assert codes == ["159", "159", "159", "159", "202", "202"]
    refused = [answer for answer in answers if answer.headers["x-clickhouse-exception-code"] == "202"]
    assert all(answer.status_code == 503 and answer.headers["retry-after"] == "1" for answer in refused)
    assert endpoint.post("SELECT 1").text == "1\n"


def test_two_long_queries_leave_room_for_a_short_one(endpoint: Endpoint) -> None:
    slow = "SELECT sum(number) FROM numbers(1000000000000)"
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(endpoint.post, slow) for _ in range(2)]
        assert endpoint.post("SELECT 7").text == "7\n"
        assert not any(answer.done() for answer in running)
    assert SqlLimits().concurrent > 2
