"""Two services never share a port unnoticed."""

from __future__ import annotations

import asyncio

import pytest
from auditspan.collectors.admission import AdmissionLimits, build_admission
from auditspan.collectors.disk import DiskWatermark
from auditspan.collectors.grpc import serve_grpc
from auditspan.collectors.metrics import CollectorMetrics
from prometheus_client import CollectorRegistry

from auditspan.errors import AuditSpanError
from auditspan.journal.sqlite import SqliteJournal
from auditspan.tokens import TokenRegistry


def test_a_taken_port_is_an_error(tmp_path):
    journal = SqliteJournal(tmp_path / "j.sqlite")
    metrics = CollectorMetrics(CollectorRegistry())
    tokens = TokenRegistry(tmp_path / "tokens.json")
    admission = build_admission(journal, tokens, AdmissionLimits(), metrics, DiskWatermark(tmp_path, 0, 0.0))

    async def serve_twice() -> None:
        first = await serve_grpc(admission, "127.0.0.1", 0)
        try:
            with pytest.raises(AuditSpanError, match="cannot listen"):
                await serve_grpc(admission, "127.0.0.1", first.port)
        finally:
            await first.stop(0)

    asyncio.run(serve_twice())
    journal.close()
