"""The collectors' HTTP service in a thread of this process, deciding under the epoch in force in a folder."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import uvicorn
from auditspan.collectors.admission import AdmissionLimits, build_admission
from auditspan.collectors.deciding import Deciding
from auditspan.collectors.disk import DiskWatermark
from auditspan.collectors.http import http_app
from auditspan.collectors.metrics import CollectorMetrics
from prometheus_client import CollectorRegistry

from auditspan.cli.listening import bind
from auditspan.config import Address
from auditspan.journal.sqlite import SqliteJournal
from auditspan.policy.snapshot import Snapshot
from auditspan.tokens import TokenRegistry


class DecisionService:
    """``with DecisionService(tmp_path) as service``; ``service.reference`` is the folder."""

    def __init__(self, folder: Path) -> None:
        self.reference = folder / "reference"
        self.reference.mkdir(parents=True, exist_ok=True)
        self._tokens = TokenRegistry(folder / "tokens.json")
        self.token = self._tokens.create("hook")
        self._journal = SqliteJournal(folder / "journal.sqlite", 1)
        self._registry = CollectorRegistry()
        self._disk = DiskWatermark(folder, 0, 0.0)
        self._socket = bind(Address(host="127.0.0.1", port=0), "The service")
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="decisions")

    def __enter__(self) -> DecisionService:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._journal.close()

    @property
    def asked(self) -> int:
        """Questions so far."""
        return sum(
            int(sample.value)
            for metric in self._registry.collect()
            for sample in metric.samples
            if sample.name in ("auditspan_decisions_total", "auditspan_decisions_refused_total")
        )

    async def _serve(self) -> None:
        metrics = CollectorMetrics(self._registry)
        admission = build_admission(self._journal, self._tokens, AdmissionLimits(), metrics, self._disk)
        deciding = Deciding(admission, Snapshot(self.reference))
        following = asyncio.create_task(deciding.follow())
        config = uvicorn.Config(
            http_app(admission, deciding=deciding), access_log=False, log_level="error", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            assert not serving.done(), "the server ended"
            await asyncio.sleep(0.005)
        self._ready.set()
        await serving
        following.cancel()
        deciding.close()
