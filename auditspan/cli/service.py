"""``auditspan up``: the whole pipeline in one process, and the wiring of its parts."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from prometheus_client import CollectorRegistry

from auditspan.cli.control_socket import control_app
from auditspan.cli.keys import make_keys, make_read_token
from auditspan.cli.listening import HttpServer, address_of, bind, bind_unix, told_to_end
from auditspan.collectors.admission import AdmissionLimits, build_admission
from auditspan.collectors.disk import DiskWatermark
from auditspan.collectors.grpc import serve_grpc
from auditspan.collectors.http import http_app
from auditspan.collectors.metrics import CollectorMetrics
from auditspan.config import Address, Settings
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.exporters.sql_endpoint import sql_app
from auditspan.exporters.sql_settings import SqlLimits
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.checkpoint import public_bytes
from auditspan.ledger.keys import load_salt_key, load_signing_key, load_trust
from auditspan.ledger.signer import Signer
from auditspan.policy.reference import Reference
from auditspan.processors.memory import keep_buffers
from auditspan.processors.pipeline import Pipeline
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.tokens import TokenRegistry

__all__ = ["run_service"]

_log = logging.getLogger(__name__)

Ready = Callable[[Mapping[str, str]], None]

_SHORTEST_READ_TOKEN = 16


@dataclasses.dataclass(frozen=True, slots=True)
class _Sockets:
    otlp_http: socket.socket
    sql: socket.socket


def run_service(directory: DataDirectory, settings: Settings, on_ready: Ready) -> None:
    """Run until SIGTERM or SIGINT, then seal and sign what was acknowledged and end.

    ``on_ready`` is told the endpoints once events are accepted.

    Raises:
        AuditSpanError: something the operator must put right before it can start, or a worker that stopped.
    """
    keep_buffers()
    with ExitStack() as stack:
        directory.create()
        stack.enter_context(directory.lock())
        # A killed service leaves its own: whoever listens there by now must not be taken for this one.
        directory.endpoints.unlink(missing_ok=True)
        _ensure_keys(directory, settings)
        read_token = _read_token(directory)
        # Before anything is opened: an address that is taken must not cost a start, nor leave anything behind.
        sockets = _Sockets(
            otlp_http=stack.enter_context(bind(Address.parse(settings.listen.otlp_http), "OTLP/HTTP")),
            sql=stack.enter_context(bind(Address.parse(settings.listen.sql), "The SQL endpoint")),
        )
        key = load_signing_key(directory.signing_key)
        signer = stack.enter_context(Signer(key, directory.signer_state, settings.deployment))
        journal = SqliteJournal(directory.journal, settings.journal.partitions)
        stack.callback(journal.close)
        store = ClickHouseStore.embedded(directory.store)
        stack.callback(store.close)
        registry = CollectorRegistry()
        pipeline = Pipeline(
            journal,
            store.reader,
            signer,
            salt_key=load_salt_key(directory.salt_key),
            public_key=base64.b64encode(public_bytes(key.public_key())).decode(),
            deployment=settings.deployment,
            artifacts=Reference.packaged_artifacts(_parties(directory, settings)),
            reference_folder=directory.reference,
            registry=registry,
            checkpoint_seconds=settings.processor.checkpoint_seconds,
            heartbeat_seconds=settings.processor.heartbeat_seconds,
            keep_days=settings.journal.keep_days,
        )
        pipeline.start()
        stack.callback(pipeline.stop)
        asyncio.run(_serve(directory, settings, journal, store, pipeline, registry, sockets, read_token, on_ready))
        healthy, reason = pipeline.healthy()
        if not healthy:
            raise AuditSpanError(
                f"The pipeline failed: {reason}", remedy=f"Run: auditspan doctor --data {directory.root}"
            )


async def _serve(
    directory: DataDirectory,
    settings: Settings,
    journal: SqliteJournal,
    store: ClickHouseStore,
    pipeline: Pipeline,
    registry: CollectorRegistry,
    sockets: _Sockets,
    read_token: str,
    on_ready: Ready,
) -> None:
    admission = build_admission(
        journal,
        TokenRegistry(directory.tokens),
        AdmissionLimits(
            max_request_bytes=settings.collector.max_request_bytes,
            max_decompressed_bytes=settings.collector.max_decompressed_bytes,
            max_concurrent_requests=settings.collector.max_concurrent_requests,
            allow_anonymous_loopback=settings.collector.allow_anonymous,
        ),
        CollectorMetrics(registry),
        DiskWatermark(
            directory.root, settings.collector.min_free_disk_bytes, settings.collector.min_free_disk_fraction
        ),
    )

    def health() -> Sequence[str]:
        healthy, reason = pipeline.healthy()
        return [] if healthy else [reason]

    def status() -> Mapping[str, Any]:
        healthy, reason = pipeline.healthy()
        return {
            "healthy": healthy,
            "reason": reason,
            "logs": [dataclasses.asdict(log) for log in pipeline.status()],
        }

    told = told_to_end()
    limits = SqlLimits(
        memory_bytes=settings.sql.max_memory_bytes,
        seconds=settings.sql.max_seconds,
        result_bytes=settings.sql.max_result_bytes,
        concurrent=settings.sql.max_concurrent,
    )
    async with AsyncExitStack() as stack:
        # Ended in reverse: what takes events in ends first, so that the pipeline can seal the rest.
        await _start(
            stack, HttpServer(control_app(pipeline.append_control, status), bind_unix(directory.control_socket))
        )
        sql = sql_app(store.raw_reader, read_token, limits)
        await _start(stack, HttpServer(sql, sockets.sql))
        grpc_address = Address.parse(settings.listen.otlp_grpc)
        grpc = await serve_grpc(admission, grpc_address.host, grpc_address.port)
        stack.push_async_callback(grpc.stop, 5.0)
        await _start(stack, HttpServer(http_app(admission, health), sockets.otlp_http))
        endpoints = {
            "otlp_http": f"http://{address_of(sockets.otlp_http)}",
            "otlp_grpc": f"http://{Address(host=grpc_address.host, port=grpc.port)}",
            "sql": f"http://{address_of(sockets.sql)}",
        }
        directory.write_endpoints(endpoints)
        stack.callback(directory.endpoints.unlink, missing_ok=True)
        stack.callback(directory.control_socket.unlink, missing_ok=True)
        on_ready(endpoints)
        await _until_told(told, pipeline)


async def _start(stack: AsyncExitStack, server: HttpServer) -> None:
    await server.start()
    stop: Callable[[], Awaitable[None]] = server.stop
    stack.push_async_callback(stop)


async def _until_told(told: asyncio.Event, pipeline: Pipeline) -> None:
    """Return when told to end, or when a worker of the pipeline has stopped: nothing must look healthy then."""
    while not told.is_set():
        try:
            await asyncio.wait_for(told.wait(), 1.0)
        except TimeoutError:
            healthy, reason = pipeline.healthy()
            if not healthy:
                _log.critical("The service ends: %s", reason)
                return


def _ensure_keys(directory: DataDirectory, settings: Settings) -> None:
    """Make the keys of a new deployment; never for one that has sealed something."""
    if not directory.signing_key.exists() and not directory.journal.exists():
        make_keys(directory, settings.deployment)
    trusted = load_trust(directory.trust).deployment
    if trusted != settings.deployment:
        raise AuditSpanError(
            f"The keys in {directory.root} are of the deployment {trusted!r}, not of {settings.deployment!r}.",
            remedy="A deployment keeps its name: set `deployment` back.",
        )


def _read_token(directory: DataDirectory) -> str:
    """The password of the SQL endpoint. An empty file must not become an endpoint without one."""
    if not directory.read_token.exists():
        make_read_token(directory)
    token = directory.read_token.read_text().strip()
    if len(token) < _SHORTEST_READ_TOKEN:
        raise AuditSpanError(
            f"{directory.read_token} holds no token of {_SHORTEST_READ_TOKEN} characters or more.",
            remedy="Remove it: a new one is made at the next start.",
        )
    return token


def _parties(directory: DataDirectory, settings: Settings) -> bytes | None:
    path = settings.parties or (directory.parties if directory.parties.is_file() else None)
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise AuditSpanError(
            f"The party registry {path} cannot be read: {error.strerror}.", remedy="Correct the setting `parties`."
        ) from error
