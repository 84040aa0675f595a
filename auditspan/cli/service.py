"""``auditspan up``: the whole pipeline in one process, and the wiring of its parts."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from prometheus_client import CollectorRegistry

from auditspan.buffers import keep_buffers
from auditspan.cli.collecting import admission_of, serve_collectors
from auditspan.cli.control_socket import control_app
from auditspan.cli.keys import make_keys, make_read_token
from auditspan.cli.keys_in_place import check_signing_key
from auditspan.cli.keys_rotate import rotation_route
from auditspan.cli.listening import HttpServer, address_of, bind, bind_unix, told_to_end
from auditspan.cli.officer import identify
from auditspan.cli.policy_socket import activation_route
from auditspan.cli.reference_sources import own_artifacts
from auditspan.config import EMBEDDED, Address, Settings
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.exporters.sql_endpoint import sql_app
from auditspan.exporters.sql_settings import SqlLimits
from auditspan.journal.contract import Journal
from auditspan.journal.opening import is_kafka, open_journal
from auditspan.ledger.keys import load_salt_key, load_signing_key
from auditspan.ledger.recovery import read_recovery
from auditspan.ledger.signer import Signer
from auditspan.ledger.signing_key import public_text
from auditspan.ledger.trust import load_trust
from auditspan.policy.snapshot import Snapshot
from auditspan.processors.activation import Activated, Change
from auditspan.processors.anchor_sources import anchor_plan
from auditspan.processors.pipeline import Pipeline
from auditspan.processors.processor import BatchLimits
from auditspan.store.clickhouse import ClickHouseStore

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
        _refuse_other_store(settings)
        _refuse_restored(directory)
        _refuse_succeeded(directory)
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
        trust = load_trust(directory.trust)
        key = load_signing_key(directory.signing_key)
        check_signing_key(directory, key, trust)
        signer = stack.enter_context(Signer(key, directory.signer_state, settings.deployment))
        journal = open_journal(directory, settings)
        stack.callback(journal.close)
        store = ClickHouseStore.embedded(directory.store)
        stack.callback(store.close)
        registry = CollectorRegistry()
        pipeline = Pipeline(
            journal,
            store.reader,
            signer,
            salt_key=load_salt_key(directory.salt_key),
            public_key=public_text(key.public_key()),
            deployment=settings.deployment,
            artifacts=own_artifacts(directory, settings),
            reference_folder=directory.reference,
            registry=registry,
            checkpoint_seconds=settings.processor.checkpoint_seconds,
            limits=BatchLimits(
                settings.processor.batch_rows, settings.processor.batch_bytes, settings.processor.batch_seconds
            ),
            heartbeat_seconds=settings.processor.heartbeat_seconds,
            keep_days=settings.journal.keep_days,
            anchors=anchor_plan(settings.anchors, trust),
            keys=trust.keys,
            load_key=lambda: load_signing_key(directory.signing_key),
            recovery=read_recovery(directory.recovered, settings.deployment),
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
    journal: Journal,
    store: ClickHouseStore,
    pipeline: Pipeline,
    registry: CollectorRegistry,
    sockets: _Sockets,
    read_token: str,
    on_ready: Ready,
) -> None:
    admission = admission_of(directory, settings, journal, registry)

    def health() -> Sequence[str]:
        healthy, reason = pipeline.healthy()
        return [] if healthy else [reason]

    def status() -> Mapping[str, Any]:
        healthy, reason = pipeline.healthy()
        return {
            "healthy": healthy,
            "reason": reason,
            "signing_key": pipeline.signing_key,
            "logs": [dataclasses.asdict(log) for log in pipeline.status()],
        }

    def activate(token: str, change_of: Callable[[str], Change], dry_run: bool) -> Activated:
        return pipeline.activate(change_of(identify(directory, token)), dry_run=dry_run)

    told = told_to_end()
    limits = SqlLimits(
        memory_bytes=settings.sql.max_memory_bytes,
        seconds=settings.sql.max_seconds,
        result_bytes=settings.sql.max_result_bytes,
        concurrent=settings.sql.max_concurrent,
    )
    async with AsyncExitStack() as stack:
        # Ended in reverse: what takes events in ends first, so that the pipeline can seal the rest.
        control = control_app(
            pipeline.append_control, status, [activation_route(activate), rotation_route(pipeline.rotate)]
        )
        await _start(stack, HttpServer(control, bind_unix(directory.control_socket)))
        sql = sql_app(store.raw_reader, read_token, limits)
        await _start(stack, HttpServer(sql, sockets.sql))
        endpoints = {
            **await serve_collectors(
                stack, admission, settings, sockets.otlp_http, Snapshot(directory.reference), health
            ),
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


def _refuse_other_store(settings: Settings) -> None:
    if settings.store.url != EMBEDDED:
        raise AuditSpanError(
            f"`auditspan up` has a store of its own in its directory, and store.url names {settings.store.url}.",
            remedy="Run `auditspan collect` and `auditspan process` on that store, or leave store.url out.",
        )


def _refuse_restored(directory: DataDirectory) -> None:
    """What was signed after a backup is in the world: going on would sign a second history of the same logs."""
    if directory.restored.exists():
        raise AuditSpanError(
            f"{directory.root} was restored from a backup, and more may have been sealed and signed after it.",
            remedy="If the service has not run since that backup, restore it once more with --nothing-since. Else see: "
            f"auditspan ledger recover --data {directory.root}",
        )


def _refuse_succeeded(directory: DataDirectory) -> None:
    """Two deployments that seal on would be two histories of what came after one."""
    if directory.succeeded.exists():
        raise AuditSpanError(
            f"Another deployment goes on for {directory.root}, as {directory.succeeded.name} there says.",
            remedy="Start that one: auditspan up --data on the directory that `auditspan ledger recover --into` made.",
        )


def _ensure_keys(directory: DataDirectory, settings: Settings) -> None:
    """Make the keys of a new deployment; never for one that has sealed something."""
    if not directory.signing_key.exists() and not directory.journal.exists() and not is_kafka(settings):
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
