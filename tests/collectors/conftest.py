"""A collector with real sockets, a real journal and real tokens, in a thread of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from auditspan.collectors.admission import AdmissionLimits, build_admission
from auditspan.collectors.deciding import Deciding
from auditspan.collectors.disk import DiskWatermark
from auditspan.collectors.grpc import serve_grpc
from auditspan.collectors.http import http_app
from auditspan.collectors.metrics import CollectorMetrics
from prometheus_client import CollectorRegistry

from auditspan.journal import JournalUnavailable
from auditspan.journal.sqlite import SqliteJournal
from auditspan.policy.snapshot import Snapshot
from auditspan.tokens import TokenRegistry


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HoldableJournal:
    """A real journal whose writes can be held back or refused, as a slow or full disk would."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal
        self._held: list[tuple[list, Future]] | None = None
        self.refuse_with: JournalUnavailable | None = None
        self.appended = threading.Semaphore(0)

    def hold(self) -> None:
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for entries, future in held:
            future.set_result(self._journal.append(entries).result(30))

    def append(self, entries):
        try:
            if self.refuse_with is not None or self._held is not None:
                future: Future = Future()
                future.set_running_or_notify_cancel()
                if self.refuse_with is not None:
                    future.set_exception(self.refuse_with)
                else:
                    self._held.append((entries, future))
                return future
            return self._journal.append(entries)
        finally:
            # Whoever hears of it may change what becomes of the next append.
            self.appended.release()

    def probe(self):
        if self.refuse_with is not None:
            future: Future = Future()
            future.set_exception(self.refuse_with)
            return future
        return self._journal.probe()

    def __getattr__(self, name):
        return getattr(self._journal, name)


@dataclass
class Running:
    """A running collector and what tests need to look behind it."""

    journal: Any
    tokens: TokenRegistry
    token: str
    registry: CollectorRegistry
    reference: Path
    """Folder whose epoch in force decides."""
    http_port: int = 0
    grpc_port: int = 0
    health: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/v1/traces"

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def post(self, body: bytes, content_type: str | None = "application/x-protobuf", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {**self.headers, **({"content-type": content_type} if content_type else {}), **named}
        return self.request("POST", "/v1/traces", body, {name: value for name, value in sent.items() if value})

    def get(self, path: str) -> Answer:
        return self.request("GET", path, None, {})

    def request(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def entries(self, partition: str = "events-0") -> list:
        return self.journal.read(partition, 0, max_entries=100_000, max_bytes=1 << 32)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


class _Service:
    def __init__(self, running: Running, limits: AdmissionLimits, disk: DiskWatermark) -> None:
        self._running = running
        self._limits = limits
        self._disk = disk
        self._ready = threading.Event()
        self._failed: list[BaseException] = []
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._run, name="collector")

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(30)
        if self._failed:
            raise self._failed[0]
        return self._running

    def __exit__(self, *_) -> None:
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failed.append(error)
            self._ready.set()

    async def _serve(self) -> None:
        running = self._running
        admission = build_admission(
            running.journal, running.tokens, self._limits, CollectorMetrics(running.registry), self._disk
        )
        deciding = Deciding(admission, Snapshot(running.reference))
        following = asyncio.create_task(deciding.follow())
        grpc_server = await serve_grpc(admission, "127.0.0.1", 0, deciding)
        running.grpc_port = grpc_server.port
        app = http_app(admission, lambda: running.health, deciding)
        config = uvicorn.Config(app, host="127.0.0.1", port=0, access_log=False, log_level="error", lifespan="off")
        self._server = uvicorn.Server(config)
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started:
            assert not serving.done(), "the server ended"
            await asyncio.sleep(0.005)
        running.http_port = self._server.servers[0].sockets[0].getsockname()[1]
        self._ready.set()
        await serving
        following.cancel()
        deciding.close()
        await grpc_server.stop(0)


@pytest.fixture
def start(tmp_path):
    """Start a collector: ``start(limits=…, partitions=…, disk=…, journal=…, **options of a SQLite journal)``."""
    services: list[_Service] = []
    journals: list[SqliteJournal] = []

    def run(limits=None, partitions=1, disk=None, journal=None, **options) -> Running:
        number = len(services)
        if journal is None:
            journal = SqliteJournal(tmp_path / f"journal-{number}.sqlite", partitions, **options)
            journals.append(journal)
        tokens = TokenRegistry(tmp_path / f"tokens-{number}.json")
        reference = tmp_path / f"reference-{number}"
        reference.mkdir()
        running = Running(HoldableJournal(journal), tokens, tokens.create("emitter"), CollectorRegistry(), reference)
        service = _Service(running, limits or AdmissionLimits(), disk or DiskWatermark(tmp_path, 0, 0.0))
        services.append(service)
        return service.__enter__()

    yield run
    for service in services:
        service.__exit__()
    for journal in journals:
        journal.close()


@pytest.fixture
def collector(start) -> Running:
    return start()
