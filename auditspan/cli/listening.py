"""HTTP servers inside the service: bound before anything is announced, ended by the service and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import uvicorn

from auditspan.config import Address
from auditspan.errors import AuditSpanError

__all__ = ["HttpServer", "address_of", "bind", "bind_unix", "told_to_end"]


def bind(address: Address, what: str) -> socket.socket:
    """A socket bound to ``address``; port 0 takes a free one.

    Raises:
        AuditSpanError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # With the protocol named: only then does asyncio send an answer at once, and not 40 ms later (Nagle's algorithm).
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((address.host, address.port))
    except OSError as error:
        bound.close()
        raise AuditSpanError(
            f"{what} cannot listen on {address}: {error.strerror}.",
            remedy="Choose another address; port 0 takes a free one.",
        ) from error
    return bound


def address_of(bound: socket.socket) -> Address:
    """Where a TCP socket listens."""
    host, port, *_ = bound.getsockname()
    return Address(host=host, port=port)


def bind_unix(path: Path) -> socket.socket:
    """A socket at ``path`` that only the owner of the data directory can reach.

    Raises:
        AuditSpanError: it cannot be made.
    """
    bound = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)
        bound.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        bound.close()
        raise AuditSpanError(
            f"The control socket {path} cannot be made: {error.strerror}.",
            remedy="Use a --data directory with a shorter path on a file system that allows sockets.",
        ) from error
    return bound


def told_to_end() -> asyncio.Event:
    """Set by SIGTERM or SIGINT from now on: before anybody can know that the service is there."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the service, which ends its parts in their order."""
        yield


class HttpServer:
    """One ASGI application served on one socket, in the running event loop."""

    def __init__(self, app: Any, bound: socket.socket, *, keep_alive_seconds: int = 5) -> None:
        config = uvicorn.Config(
            app,
            # None leaves logging as the service set it up: with a time and a level, and without a line a request.
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=5,
            timeout_keep_alive=keep_alive_seconds,
            server_header=False,
        )
        self._server = _Server(config)
        self._socket = bound
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once requests are answered."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise AuditSpanError("A server ended while it started.", remedy="The log says why.")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Answer what is under way, then close."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
