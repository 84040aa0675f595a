"""Reading the store from a command: through the running service, or directly when none runs."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.store.clickhouse import ClickHouseStore

__all__ = ["DataOption", "UrlOption", "open_reader", "service_is_ready", "service_runs"]

DataOption = Annotated[Path | None, typer.Option("--data", help="Data directory of the service.", file_okay=False)]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="SQL endpoint of a service elsewhere: http://any:READ-TOKEN@HOST:PORT."),
]


def service_is_ready(data: DataDirectory, timeout: float = 2.0) -> bool:
    """Whether a service runs on this directory and says that it is ready."""
    try:
        endpoint = data.read_endpoints()["otlp_http"]
        with urllib.request.urlopen(f"{endpoint}/readyz", timeout=timeout) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (AuditSpanError, OSError, KeyError, urllib.error.URLError):
        return False


def service_runs(data: DataDirectory) -> bool:
    """Whether a service holds this directory. Its socket and its endpoints do not say so: a killed one leaves them."""
    try:
        data.lock().close()
    except AuditSpanError:
        return True
    return False


@contextmanager
def open_reader(data: Path | None, url: str | None) -> Iterator[ClickHouseStore]:
    """A store that only reads, closed at the end.

    With ``url`` it speaks to that endpoint. With ``data`` it speaks to the service that runs there, or opens the store
    itself when none does.

    Raises:
        AuditSpanError: neither was given, or there is nothing to read.
    """
    from auditspan.store.clickhouse import ClickHouseStore

    if url is not None:
        parts = urlsplit(url)
        if parts.hostname is None:
            raise AuditSpanError(f"{url!r} names no host.", remedy="Use --url http://any:READ-TOKEN@127.0.0.1:8123.")
        store = ClickHouseStore.http(
            host=parts.hostname,
            port=parts.port or 8123,
            username=parts.username or "default",
            password=parts.password or "",
            secure=parts.scheme == "https",
        )
    elif data is not None:
        directory = DataDirectory(data)
        if not directory.root.is_dir():
            raise AuditSpanError(
                f"There is no directory {data}.", remedy=f"Start a service with: auditspan up --data {data}"
            )
        if service_runs(directory):
            endpoint = urlsplit(str(directory.read_endpoints()["sql"]))
            store = ClickHouseStore.http(
                host=endpoint.hostname or "127.0.0.1",
                port=endpoint.port or 8123,
                username="default",
                password=directory.read_token.read_text().strip(),
            )
        elif directory.store.is_dir():
            store = ClickHouseStore.embedded(directory.store)
        else:
            raise AuditSpanError(
                f"{data} holds no store yet.", remedy=f"Start a service with: auditspan up --data {data}"
            )
    else:
        raise AuditSpanError("Nothing says where to read.", remedy="Give --data DIR or --url URL.")
    try:
        yield store
    finally:
        store.close()
