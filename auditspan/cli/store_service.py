"""``auditspan store serve``: the embedded store in a process of its own, and the wiring of its parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from auditspan.cli.keys import make_read_token, make_write_token
from auditspan.cli.listening import HttpServer, address_of, bind, told_to_end
from auditspan.cli.reading import existing
from auditspan.config import EMBEDDED, Address, Settings
from auditspan.data_directory import STORE_SERVICE, DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.exporters.sql_settings import SqlLimits
from auditspan.exporters.store_endpoint import StoreLimits, Tokens, store_app
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.migrate import schema_version
from auditspan.store.opening import check_deployment, open_store

__all__ = ["check_store", "run_store_service"]

_log = logging.getLogger(__name__)

_SHORTEST_TOKEN: Final = 16

Ready = Callable[[Mapping[str, str]], None]


def run_store_service(directory: DataDirectory, settings: Settings, on_ready: Ready) -> None:
    """Serve until SIGTERM or SIGINT. ``on_ready`` is told the endpoint once it answers.

    Raises:
        DataDirectoryBusy: another process has the directory.
        SchemaTooNew: a newer version wrote the store.
        AuditSpanError: something else that the operator must put right.
    """
    with ExitStack() as stack:
        directory.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.enter_context(directory.lock(STORE_SERVICE))
        # A killed service leaves its own: whoever listens there by now must not be taken for this one.
        directory.endpoints.unlink(missing_ok=True)
        tokens = _tokens(directory)
        bound = stack.enter_context(bind(Address.parse(settings.listen.sql), "The store"))
        store = ClickHouseStore.embedded(directory.store)
        stack.callback(store.close)
        store.migrate()
        limits = StoreLimits(
            reader=SqlLimits(
                memory_bytes=settings.sql.max_memory_bytes,
                seconds=settings.sql.max_seconds,
                result_bytes=settings.sql.max_result_bytes,
                concurrent=settings.sql.max_concurrent,
            )
        )
        app = store_app(store.raw_reader, store.raw_writer(), tokens, limits)
        endpoints = {"sql": f"http://{address_of(bound)}"}

        async def run() -> None:
            told = told_to_end()
            # Longer than a processor pauses: a connection that ends as it is used again costs it a round.
            server = HttpServer(app, bound, keep_alive_seconds=120)
            await server.start()
            directory.write_endpoints(endpoints)
            try:
                on_ready(endpoints)
                await told.wait()
                _log.info("Told to end: the inserts under way are finished.")
            finally:
                directory.endpoints.unlink(missing_ok=True)
                await server.stop()

        asyncio.run(run())


def check_store(directory: DataDirectory, settings: Settings) -> dict[str, Any]:
    """What is known of the store of the settings.

    Raises:
        AuditSpanError: it cannot be used, and why.
    """
    # An embedded store would be made, empty, and reported as sound: no answer to a directory with a wrong name.
    if settings.store.url == EMBEDDED and not existing(directory.root).store.is_dir():
        raise AuditSpanError(
            f"{directory.root} holds no store yet.",
            remedy=f"Set store.url to the server, or start a service with: auditspan up --data {directory.root}",
        )
    store = open_store(directory, settings)
    try:
        store.migrate()
        check_deployment(store, settings.deployment)
        counts = store.query("SELECT count() AS leaves, uniqExact(log_id) AS logs FROM auditspan.events").to_pylist()[0]
        return {"url": settings.store.url, "schema_version": schema_version(store.command), **counts}
    finally:
        store.close()


def _tokens(directory: DataDirectory) -> Tokens:
    if not directory.read_token.exists():
        make_read_token(directory)
    if not directory.write_token.exists():
        make_write_token(directory)
    return Tokens(writer=_token(directory.write_token), reader=_token(directory.read_token))


def _token(path: Path) -> str:
    """What the file holds. An empty file must not become a user without a password."""
    token = path.read_text().strip()
    if len(token) < _SHORTEST_TOKEN:
        raise AuditSpanError(
            f"{path} holds no token of {_SHORTEST_TOKEN} characters or more.",
            remedy="Remove it: a new one is made at the next start.",
        )
    return token
