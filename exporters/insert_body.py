"""The body of an insert on its way from the socket into memory that the engine can open as a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from auditspan.store.insert_statement import END

from .sql_guard import Refused

__all__ = ["ReceivedInsert", "received_insert"]

_TOO_LARGE: Final = 396
_TIMEOUT_EXCEEDED: Final = 159
_LONGEST_STATEMENT: Final = 64 * 1024
_END: Final = END.encode()


@dataclass(frozen=True, slots=True)
class ReceivedInsert:
    """A statement, and a descriptor of the rows that followed it."""

    statement: str
    descriptor: int


@asynccontextmanager
async def received_insert(request: Request, largest: int, deadline: float) -> AsyncIterator[ReceivedInsert]:
    """The body of a request: a statement that ends in `END`, then its rows, which live in memory until the block ends.

    Args:
        request: whose body has not been read.
        largest: bytes.
        deadline: on the monotonic clock; a body that is not there by then is given up.

    Raises:
        Refused: the body is too large, too late, or no such statement.
        ClientDisconnect: the client went away, and the body is not whole.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused("Send the Arrow file as it is; its buffers may be compressed.", 48, "NOT_IMPLEMENTED")
    promised = request.headers.get("content-length", "")
    if promised.isdigit() and int(promised) > largest:
        raise _too_large(largest)
    descriptor = os.memfd_create("auditspan-insert")
    try:
        try:
            # The loop's clock is the monotonic one.
            async with asyncio.timeout_at(deadline):
                statement = await _receive(request, descriptor, largest)
        except TimeoutError:
            raise Refused(
                "Timeout exceeded: the rows did not come in the time of the insert.",
                _TIMEOUT_EXCEEDED,
                "TIMEOUT_EXCEEDED",
            ) from None
        yield ReceivedInsert(statement, descriptor)
    finally:
        os.close(descriptor)


async def _receive(request: Request, descriptor: int, largest: int) -> str:
    """Write the rows into ``descriptor``; the statement before them. The server checks what Content-Length promised."""
    head = bytearray()
    statement: str | None = None
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > largest:
            raise _too_large(largest)
        rows = chunk
        if statement is None:
            head += chunk
            before, end, rows = bytes(head).partition(_END)
            if not end:
                if len(head) > _LONGEST_STATEMENT:
                    break
                continue
            statement = (before + end).decode(errors="replace")
        left = memoryview(rows)
        while left:
            left = left[os.write(descriptor, left) :]
    if statement is None:
        raise Refused("An insert is a statement that ends in FORMAT Arrow, a line feed, and an Arrow file.")
    return statement


def _too_large(largest: int) -> Refused:
    return Refused(f"An insert may have {largest} bytes here.", _TOO_LARGE, "TOO_MANY_ROWS_OR_BYTES")
