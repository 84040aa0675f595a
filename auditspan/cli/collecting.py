"""The collectors of one process, wired to a journal."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack

from prometheus_client import CollectorRegistry

from auditspan.cli.epoch_follower import EpochFollower
from auditspan.cli.listening import HttpServer, bind, told_to_end
from auditspan.collectors.admission import Admission, AdmissionLimits, build_admission
from auditspan.collectors.deciding import Deciding
from auditspan.collectors.disk import DiskWatermark
from auditspan.collectors.grpc import serve_grpc
from auditspan.collectors.http import Health, http_app
from auditspan.collectors.metrics import CollectorMetrics
from auditspan.config import EMBEDDED, Address, Settings
from auditspan.data_directory import DataDirectory
from auditspan.journal.contract import Journal
from auditspan.journal.opening import open_journal
from auditspan.policy.snapshot import Snapshot
from auditspan.tokens import TokenRegistry

__all__ = ["admission_of", "run_collector", "serve_collectors"]

_log = logging.getLogger(__name__)

PURPOSE = "auditspan collect"
"""For which a collector holds its directory."""


def admission_of(
    directory: DataDirectory, settings: Settings, journal: Journal, registry: CollectorRegistry
) -> Admission:
    """The way in, as the settings say; its metrics go to ``registry``."""
    limits = AdmissionLimits(
        max_request_bytes=settings.collector.max_request_bytes,
        max_decompressed_bytes=settings.collector.max_decompressed_bytes,
        max_concurrent_requests=settings.collector.max_concurrent_requests,
        allow_anonymous_loopback=settings.collector.allow_anonymous,
    )
    disk = DiskWatermark(
        directory.root, settings.collector.min_free_disk_bytes, settings.collector.min_free_disk_fraction
    )
    return build_admission(journal, TokenRegistry(directory.tokens), limits, CollectorMetrics(registry), disk)


async def serve_collectors(
    stack: AsyncExitStack,
    admission: Admission,
    settings: Settings,
    http_socket: socket.socket,
    snapshot: Snapshot,
    health: Health = tuple,
) -> dict[str, str]:
    """Serve OTLP/HTTP (with health and metrics) and OTLP/gRPC until ``stack`` is left; their URLs by name.

    Both answer ``/v1/decide`` under ``snapshot``.
    """
    deciding = Deciding(admission, snapshot)
    stack.callback(deciding.close)
    following = asyncio.create_task(deciding.follow())
    stack.callback(following.cancel)
    grpc_address = Address.parse(settings.listen.otlp_grpc)
    grpc = await serve_grpc(admission, grpc_address.host, grpc_address.port, deciding)
    stack.push_async_callback(grpc.stop, 5.0)
    server = HttpServer(http_app(admission, health, deciding), http_socket)
    await server.start()
    stack.push_async_callback(server.stop)
    host, port = http_socket.getsockname()[:2]
    return {
        "otlp_http": f"http://{Address(host=host, port=port)}",
        "otlp_grpc": f"http://{Address(host=grpc_address.host, port=grpc.port)}",
    }


def run_collector(directory: DataDirectory, settings: Settings, on_ready: Callable[[Mapping[str, str]], None]) -> None:
    """Run the collectors alone until SIGTERM or SIGINT; what was acknowledged is in the journal.

    ``on_ready`` is told the endpoints once events are accepted.

    Raises:
        AuditSpanError: something the operator must put right before it can start.
    """
    with ExitStack() as stack:
        directory.create()
        stack.enter_context(directory.lock(PURPOSE))
        directory.endpoints.unlink(missing_ok=True)
        http_socket = stack.enter_context(bind(Address.parse(settings.listen.otlp_http), "OTLP/HTTP"))
        journal = open_journal(directory, settings)
        stack.callback(journal.close)
        asyncio.run(_collect(directory, settings, journal, http_socket, on_ready))


async def _collect(
    directory: DataDirectory,
    settings: Settings,
    journal: Journal,
    http_socket: socket.socket,
    on_ready: Callable[[Mapping[str, str]], None],
) -> None:
    told = told_to_end()
    admission = admission_of(directory, settings, journal, CollectorRegistry())
    async with AsyncExitStack() as stack:
        snapshot = Snapshot(directory.reference)
        if settings.store.url != EMBEDDED:
            follower = EpochFollower(directory, settings, journal)
            follower.start()
            stack.callback(follower.stop)
        endpoints = await serve_collectors(stack, admission, settings, http_socket, snapshot)
        directory.write_endpoints(endpoints)
        stack.callback(directory.endpoints.unlink, missing_ok=True)
        # What is there now stays: looking through it every few thousand requests would halt them all for 40 ms.
        gc.collect()
        gc.freeze()
        _log.info("collecting for the journal %s", journal.identity)
        on_ready(endpoints)
        await told.wait()
