"""Reading the store from a command: through the running service, or directly when none runs."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import unquote, urlsplit

import typer

from auditspan.cli.config import settings_of
from auditspan.config import EMBEDDED, Settings
from auditspan.data_directory import SERVICE, STORE_SERVICE, DataDirectory, DataDirectoryBusy
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.store.clickhouse import ClickHouseStore

__all__ = ["DataOption", "Reading", "UrlOption", "existing", "open_reader", "service_is_ready"]

DataOption = Annotated[Path | None, typer.Option("--data", help="Data directory of the service.", file_okay=False)]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="SQL endpoint of a service elsewhere: http://any:READ-TOKEN@HOST:PORT. Other users of this machine see a "
        "token that stands here: leave it out, and set AUDITSPAN_READ_TOKEN.",
    ),
]

_READ_TOKEN: Final = "AUDITSPAN_READ_TOKEN"  # noqa: S105 - the name of a variable
_REFUSED_TOKEN: Final = "AUTHENTICATION_FAILED"  # noqa: S105 - the name of an error of ClickHouse
_PORT: Final = 8123
_PURPOSE: Final = "a command that reads"
_PATIENCE: Final = 10.0
"""Seconds for a service that starts to say where it listens."""
_PATIENCE_WITH_READERS: Final = 60.0
"""Seconds for other commands that read to be done."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A store that only reads, and whether a running service gives it. ``where`` names it without secrets."""

    store: ClickHouseStore
    running: bool
    where: str


def existing(data: Path) -> DataDirectory:
    """The data directory ``data``.

    Raises:
        AuditSpanError: it is not there.
    """
    if not data.is_dir():
        raise AuditSpanError(
            f"There is no directory {data}.", remedy=f"Start a service with: auditspan up --data {data}"
        )
    return DataDirectory(data)


def service_is_ready(data: DataDirectory, timeout: float = 10.0) -> bool:
    """Whether the service that runs on this directory says that it is ready."""
    try:
        endpoints = data.read_endpoints(("sql",))
        # A store that is a service of its own answers for itself.
        endpoint = endpoints.get("otlp_http", endpoints["sql"])
        with urllib.request.urlopen(f"{endpoint}/readyz", timeout=timeout) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (AuditSpanError, OSError, urllib.error.URLError):
        return False


@contextmanager
def open_reader(data: Path | None, url: str | None, settings: Settings | None = None) -> Iterator[Reading]:
    """A store that only reads, closed at the end.

    With ``url`` it speaks to that endpoint. With ``data`` it speaks to the server of the setting ``store.url`` (of
    ``settings``, or else those of the directory), or to the service that runs there; when none does, it opens the store
    itself and holds the directory meanwhile, since the embedded store allows one process.

    Raises:
        AuditSpanError: neither or both were given, or there is nothing to read.
    """
    if (data is None) == (url is None):
        raise AuditSpanError("It must be clear where to read.", remedy="Give either --data DIR or --url URL.")
    if url is not None:
        with _served(_options_of(url)) as reading:
            yield reading
        return
    assert data is not None
    directory = existing(data)
    settings = settings or settings_of(data, None)
    if settings.store.url != EMBEDDED:
        with _of_settings(directory, settings) as reading:
            yield reading
        return
    # Loaded before, so that others wait for the reading alone.
    from auditspan.store.clickhouse import ClickHouseStore

    try:
        held = directory.lock(_PURPOSE, patience=_PATIENCE_WITH_READERS)
    except DataDirectoryBusy as busy:
        if busy.purpose not in (SERVICE, STORE_SERVICE):
            raise
        with _served(_options_of_service(directory)) as reading:
            yield reading
        return
    with held:
        if not directory.store.is_dir():
            raise AuditSpanError(
                f"{data} holds no store yet.", remedy=f"Start a service with: auditspan up --data {data}"
            )
        store = ClickHouseStore.embedded(directory.store)
        try:
            yield Reading(store, False, str(data))
        finally:
            store.close()


@contextmanager
def _served(options: dict[str, Any]) -> Iterator[Reading]:
    from auditspan.store.clickhouse import ClickHouseStore
    from auditspan.store.contract import StoreUnavailable

    where = f"{options['host']}:{options['port']}"
    try:
        store = ClickHouseStore.http(**options)
    except StoreUnavailable as error:
        if _REFUSED_TOKEN in error.message:
            raise AuditSpanError(
                f"The SQL endpoint at {where} refuses the token.",
                remedy=f"It takes what is in DIR/read.token of the service: in the URL, or in {_READ_TOKEN}.",
            ) from error
        raise StoreUnavailable(
            f"The SQL endpoint at {where} cannot be used: {error.message}",
            remedy="See that a service runs there, and that this is its port: DIR/endpoints.json of it says which.",
        ) from error
    try:
        yield Reading(store, True, where)
    finally:
        store.close()


@contextmanager
def _of_settings(directory: DataDirectory, settings: Settings) -> Iterator[Reading]:
    from auditspan.store.opening import open_store

    store = open_store(directory, settings, reading=True)
    try:
        yield Reading(store, True, settings.store.url)
    finally:
        store.close()


def _options_of_service(directory: DataDirectory) -> dict[str, Any]:
    deadline = time.monotonic() + _PATIENCE
    while not directory.endpoints.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    endpoint = urlsplit(directory.read_endpoints(("sql",))["sql"])
    return {
        "host": endpoint.hostname or "127.0.0.1",
        "port": endpoint.port or _PORT,
        "username": "default",
        "password": directory.read_token.read_text().strip(),
    }


def _options_of(url: str) -> dict[str, Any]:
    """What to give the client; no message repeats ``url``, which holds the token."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise AuditSpanError(
            "--url is no address of a SQL endpoint.", remedy="Write --url http://any:READ-TOKEN@127.0.0.1:8123."
        )
    return {
        "host": host,
        "port": port or _PORT,
        "username": unquote(parts.username or "") or "default",
        "password": unquote(parts.password or "") or os.environ.get(_READ_TOKEN, ""),
        "secure": parts.scheme == "https",
    }
