"""The stores that the contract is tested on: embedded, the same behind HTTP, and a ClickHouse server where there is."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import uvicorn
from auditspan.exporters.store_endpoint import StoreLimits, Tokens, store_app

from auditspan.store.clickhouse import ClickHouseStore

WRITE_TOKEN = "write-token-of-the-test"
READ_TOKEN = "read-token-of-the-test"


@dataclass
class Backend:
    store: ClickHouseStore
    operator: ClickHouseStore
    options: dict[str, Any]
    """What `ClickHouseStore.http` takes for a further writer; empty when embedded."""


@contextmanager
def embedded(path: Path) -> Iterator[Backend]:
    store = ClickHouseStore.embedded(path)
    store.migrate()
    yield Backend(store, store, {})
    store.close()


@contextmanager
def served(path: Path, limits: StoreLimits | None = None) -> Iterator[Backend]:
    operator = ClickHouseStore.embedded(path)
    operator.migrate()
    app = store_app(operator.raw_reader, operator.raw_writer(), Tokens(WRITE_TOKEN, READ_TOKEN), limits)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=30) as answer:
        assert answer.read() == b"Ok.\n"
    options = {"host": "127.0.0.1", "port": port, "username": "writer", "password": WRITE_TOKEN}
    store = ClickHouseStore.http(**options)
    try:
        store.migrate()
        yield Backend(store, operator, options)
    finally:
        store.close()
        server.should_exit = True
        thread.join()
        operator.close()


@contextmanager
def server(url: str) -> Iterator[Backend]:
    parts = urlsplit(url)
    options = {
        "host": parts.hostname,
        "port": parts.port,
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "secure": parts.scheme == "https",
    }
    store = ClickHouseStore.http(**options)
    store.command("DROP DATABASE IF EXISTS auditspan SYNC")
    store.migrate()
    yield Backend(store, store, options)
    store.close()
