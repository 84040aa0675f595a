"""`auditspan store serve` as a process: started, killed, told to end, and written to by two who both own a log."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sealed_batches import LOG, sealed
from store_process import PROGRAM, StoreProcess
from tcp_proxy import Fault, TcpProxy

from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import SealedBatch, StoreUnavailable


@pytest.fixture
def service(tmp_path: Path) -> Iterator[StoreProcess]:
    made = StoreProcess(tmp_path / "data")
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def _stored(service: StoreProcess) -> list[bytes]:
    store = service.client("reader")
    blocks = list(store.leaves(LOG, 0, 2**40))
    store.close()
    assert [i for block in blocks for i in block["leaf_index"].to_pylist()] == list(
        range(sum(block.num_rows for block in blocks))
    )
    return [header for block in blocks for header in block["header"].to_pylist()]


def _append(store: ClickHouseStore, batch: SealedBatch) -> None:
    # The answer comes; looking for the batch afterwards is too late, as the store is gone by then.
    with suppress(StoreUnavailable):
        store.append_batch(batch)


def test_it_says_where_it_is_and_keeps_its_secrets(service: StoreProcess) -> None:
    assert json.loads(service.directory.endpoints.read_text()) == {"sql": service.url}
    tokens = [service.directory.read_token, service.directory.write_token]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tokens)
    assert tokens[0].read_text() != tokens[1].read_text()
    for path, body in (("ping", b"Ok.\n"), ("readyz", b'{"ready":true,"reasons":[]}')):
        with urllib.request.urlopen(f"{service.url}/{path}", timeout=10) as answer:
            assert answer.read() == body
    assert not any(path.read_text().strip() in service.log.read_text() for path in tokens)


def test_a_second_process_on_the_directory_is_refused(service: StoreProcess) -> None:
    for command in (["store", "serve", "--listen", "127.0.0.1:0"], ["up", "--sql", "127.0.0.1:0"]):
        done = subprocess.run(
            [PROGRAM, *command, "--data", service.data], capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == 1
        assert f"Process {service.process.pid} (auditspan store serve) already runs" in done.stderr
        assert "Traceback" not in done.stderr
    service.client().append_batch(sealed(0, 3))


def test_told_to_end_it_finishes_the_insert_under_way(service: StoreProcess) -> None:
    with TcpProxy(("127.0.0.1", service.port)) as proxy:
        store = service.client(port=proxy.port)
        fault = proxy.inject(Fault.hold_request(b"INSERT INTO auditspan.events", after=4_000))
        worker = threading.Thread(target=_append, args=(store, sealed(0, 299)))
        worker.start()
        assert fault.struck.wait(30)
        service.process.terminate()
        # The endpoints go once the signal has come; the insert is under way until it is let go on.
        deadline = time.monotonic() + 30
        while service.directory.endpoints.exists():
            assert time.monotonic() < deadline, "it was not told to end"
            time.sleep(0.005)
        fault.release.set()
        assert service.process.wait(60) == 0
        worker.join(60)
    assert not service.directory.endpoints.exists()
    service.start()
    assert len(_stored(service)) == 300


@pytest.mark.crash
def test_every_acknowledged_batch_survives_the_stores_sigkill_exactly_once(service: StoreProcess) -> None:
    seed = 2_026
    chance = random.Random(seed)
    print(f"seed {seed}")
    acknowledged = 0
    over = threading.Event()
    faults: list[BaseException] = []

    def write() -> None:
        nonlocal acknowledged
        store, first = service.client(), 0
        try:
            while not over.is_set():
                batch = sealed(first, 40 + first % 37)
                try:
                    store.append_batch(batch)
                except StoreUnavailable:
                    over.wait(0.01)
                    continue
                first += batch.leaves.num_rows
                acknowledged = first
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(8):
        before, deadline = acknowledged, time.monotonic() + 60
        while acknowledged == before:
            assert thread.is_alive(), faults
            assert time.monotonic() < deadline, "no batch comes in any more"
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.1))
        service.kill()
        service.start()
    over.set()
    thread.join(60)
    assert not faults
    stored = _stored(service)
    assert len(stored) >= acknowledged > 0
    expected: list[bytes] = []
    while len(expected) < len(stored):
        expected += sealed(len(expected), 40 + len(expected) % 37).leaves["header"].to_pylist()
    assert stored == expected


class Writer:
    def __init__(self, service: StoreProcess, mark: str) -> None:
        token = service.directory.write_token.read_text().strip()
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("writer_process.py")), service.url, token, mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.said() == "encoded"

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> int:
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.mark.crash
def test_a_writer_that_was_suspended_between_encode_and_insert_is_fenced(service: StoreProcess) -> None:
    zombie, owner = Writer(service, "zombie"), Writer(service, "owner")
    os.kill(zombie.process.pid, signal.SIGSTOP)
    zombie.go()  # it inserts as soon as it wakes up
    for sealed_to in (300, 600, 900):
        owner.go()
        assert owner.said() == f"sealed {sealed_to}"
        assert owner.said() == "encoded"
    os.kill(zombie.process.pid, signal.SIGCONT)
    assert zombie.said().startswith("fenced: Log 00112233445566778899aabbccddeeff has 900 leaves")
    assert zombie.end() == 1
    owner.go()
    assert owner.said() == "sealed 1200"
    assert owner.end() == 0
    expected = [sealed(first, 299, salt="owner") for first in range(0, 1200, 300)]
    assert _stored(service) == [header for batch in expected for header in batch.leaves["header"].to_pylist()]


@pytest.mark.crash
def test_of_two_live_writers_one_wins_every_place(service: StoreProcess) -> None:
    writers = [Writer(service, "one"), Writer(service, "two")]
    for writer in writers:
        writer.go()
    outcomes = [writer.said().partition(" ")[0] for writer in writers]
    assert sorted(outcomes) == ["fenced:", "sealed"]
    winner = ("one", "two")[outcomes.index("sealed")]
    assert _stored(service) == sealed(0, 299, salt=winner).leaves["header"].to_pylist()
    assert sorted(writer.end() for writer in writers) == [0, 1]
