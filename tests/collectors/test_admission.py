"""Admission where no socket can show it: senders from elsewhere, and a port that is taken."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest
from auditspan.collectors import admission as module
from auditspan.collectors.admission import AdmissionLimits, Received, build_admission
from auditspan.collectors.disk import DiskWatermark
from auditspan.collectors.grpc import serve_grpc
from auditspan.collectors.metrics import CollectorMetrics
from auditspan.collectors.outcome import Refusal
from collector_requests import a_request
from prometheus_client import CollectorRegistry

from auditspan.errors import AuditSpanError
from auditspan.journal.sqlite import SqliteJournal
from auditspan.tokens import TokenRegistry


@pytest.fixture
def admission(tmp_path):
    journal = SqliteJournal(tmp_path / "j.sqlite")
    tokens = TokenRegistry(tmp_path / "tokens.json")
    limits = AdmissionLimits(allow_anonymous_loopback=True)
    metrics = CollectorMetrics(CollectorRegistry())
    yield build_admission(journal, tokens, limits, metrics, DiskWatermark(tmp_path, 0, 0.0))
    journal.close()


@pytest.mark.parametrize(
    ("peer", "refusal"),
    [
        ("127.0.0.1", None),
        ("127.8.9.10", None),
        ("::1", None),
        ("203.0.113.7", Refusal.UNAUTHENTICATED),
        ("2001:db8::1", Refusal.UNAUTHENTICATED),
        ("localhost.example", Refusal.UNAUTHENTICATED),
        ("", Refusal.UNAUTHENTICATED),
        (None, Refusal.UNAUTHENTICATED),
    ],
)
def test_anonymous_means_from_this_machine(admission, peer, refusal):
    async def receive(_):
        return Received(a_request())

    assert asyncio.run(admission.answer("test", None, peer, receive)).refusal is refusal


def test_nothing_is_read_from_a_sender_without_a_token(admission):
    async def receive(_):
        raise AssertionError("the request was read")

    outcome = asyncio.run(admission.answer("test", "Bearer unknown", "127.0.0.1", receive))
    assert outcome.refusal is Refusal.UNAUTHENTICATED


def test_two_services_never_share_a_port_unnoticed(admission):
    async def serve_twice() -> None:
        first = await serve_grpc(admission, "127.0.0.1", 0)
        try:
            with pytest.raises(AuditSpanError, match="cannot listen"):
                await serve_grpc(admission, "127.0.0.1", first.port)
        finally:
            await first.stop(0)

    asyncio.run(serve_twice())


def test_a_probe_that_meets_a_fault_reads_as_not_ready(admission, monkeypatch):
    def broken(self):
        raise RuntimeError

    async def ask() -> None:
        assert await admission.unready() == []
        monkeypatch.setattr(SqliteJournal, "probe", broken)
        monkeypatch.setattr(module, "_PROBE_KEPT_SECONDS", 0.0)
        assert await admission.unready() == ["the journal cannot be asked (RuntimeError)"]
        # For as long as an answer is kept, too.
        monkeypatch.setattr(module, "_PROBE_KEPT_SECONDS", 60.0)
        assert await admission.unready() == ["the journal cannot be asked (RuntimeError)"]

    asyncio.run(ask())


def test_a_probe_whose_asker_leaves_is_no_answer(admission, monkeypatch):
    asked = []

    def probe(self):
        asked.append(Future())
        return asked[-1]

    async def ask() -> None:
        assert await admission.unready() == []
        monkeypatch.setattr(SqliteJournal, "probe", probe)
        monkeypatch.setattr(module, "_PROBE_KEPT_SECONDS", 0.0)
        asking = asyncio.create_task(admission.unready())
        while not asked:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        monkeypatch.setattr(module, "_PROBE_KEPT_SECONDS", 60.0)
        monkeypatch.setattr(module, "_PROBE_SECONDS", 0.05)
        assert await admission.unready() != []

    asyncio.run(ask())
